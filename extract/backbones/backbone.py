"""A backbone ready for inference: the network, and all that decides what its numbers mean.

Not a loader: ``extract.backbones.registry`` makes these.
"""

import re
from dataclasses import dataclass, replace
from importlib.metadata import version

from torch import Tensor, nn

from extract.decode import DECODER
from stores import FeatureSpec
from stores.errors import ConfigError

INTERPOLATION = "bilinear-antialias"
"""How crops of another size are resized (``extract.decode``); crops of ``image_size`` keep their pixels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LIBRARIES = ("numpy", "torch", "torchcodec", "torchvision")


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network in eval mode with its preprocessing, which travels with the weights.

    Attributes:
        name: architecture, such as ``resnet50``.
        weights: name of the weights, such as ``imagenet1k_v2``.
        weights_sha256: of the whole weights file, 64 hex digits.
        weights_trained_on: corpora the weights have seen; competition rules ask for them, see
            ``extract.backbones.training_data``.
        module: maps (B, 3, S, S) float32, normalised, to (B, dim) float32.
        image_size: S, in pixels.
        mean: per RGB channel, of pixels scaled to [0, 1].
        std: likewise.
        dim: length of the vector of one crop.
        interpolation: how crops of another size are resized: ``bilinear-antialias`` or ``bicubic-antialias``.
        libraries: whose versions are recorded in the store.
        traceable: whether ``torch.fx`` can trace ``module``, which ``extract.onednn`` then makes faster.
    """

    name: str
    weights: str
    weights_sha256: str
    weights_trained_on: tuple[str, ...]
    module: nn.Module
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    interpolation: str = INTERPOLATION
    libraries: tuple[str, ...] = LIBRARIES
    traceable: bool = False

    def flip_averaged(self) -> "Backbone":
        """The backbone whose vector is the mean of a crop's and its mirror image's; named ``+flip``."""
        return replace(self, name=f"{self.name}+flip", module=_FlipAverage(self.module))

    @property
    def stream(self) -> str:
        """Name of the features: ``architecture.weights``, in characters that are safe in a path."""
        return re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"{self.name}.{self.weights}")

    def feature_spec(self, dtype: str = "float16") -> FeatureSpec:
        """The specification of a store of this backbone's features.

        Args:
            dtype: ``float16`` or ``float32``, of the stored array.
        """
        return FeatureSpec(
            stream=self.stream,
            backbone=self.name,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            weights_trained_on=self.weights_trained_on,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            decoder=DECODER,
            dtype=dtype,
            dim=self.dim,
            versions={name: version(name) for name in self.libraries},
        )


class _FlipAverage(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = (self.module(images) + self.module(images.flip(3))) / 2
        return features


def check_image_size(size: int) -> None:
    """Raises ``ConfigError`` unless ``size`` is a multiple of 16 (112, 224, 256, ...) of at least 64."""
    if size < 64 or size % 16:
        msg = f"image_size {size}: expected a multiple of 16 of at least 64, such as 112 or 224"
        raise ConfigError(msg)
