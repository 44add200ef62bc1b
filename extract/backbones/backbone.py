"""A backbone: what its numbers mean, which is known without its network, and the network itself."""

import re
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

from stores import FeatureSpec

if TYPE_CHECKING:
    from torch import nn

DECODER = "torchcodec.decode_jpeg"
"""Name of the decoder (``extract.decode``) in feature specifications."""
INTERPOLATION = "bilinear-antialias"
"""How crops of another size are resized (``extract.decode``); crops of ``image_size`` keep their pixels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LIBRARIES = ("numpy", "torch", "torchcodec", "torchvision")


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """Weights of a backbone with their preprocessing: all that decides the numbers. No network is made.

    Attributes:
        name: architecture, such as ``resnet50``.
        weights: name of the weights, such as ``imagenet1k_v2``.
        weights_sha256: of the whole weights file, 64 hex digits.
        weights_trained_on: corpora the weights have seen; competition rules ask for them, see
            ``extract.backbones.training_data``.
        image_size: side of the network's input in pixels.
        mean: per RGB channel, of pixels scaled to [0, 1].
        std: likewise.
        dim: length of the vector of one crop.
        interpolation: how crops of another size are resized: ``bilinear-antialias`` or ``bicubic-antialias``.
        libraries: whose versions are recorded in the store.
    """

    name: str
    weights: str
    weights_sha256: str
    weights_trained_on: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    interpolation: str = INTERPOLATION
    libraries: tuple[str, ...] = LIBRARIES

    def flip_averaged(self) -> Self:
        """The backbone whose vector is the mean of a crop's and its mirror image's; named ``+flip``."""
        return replace(self, name=f"{self.name}+flip")

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


@dataclass(frozen=True, slots=True, eq=False)
class Backbone(Named):
    """A network in eval mode with its weights and their preprocessing.

    Attributes:
        module: maps (B, 3, image_size, image_size) float32, normalised, to (B, dim) float32.
        traceable: whether ``torch.fx`` can trace ``module``, which ``extract.onednn`` then makes faster.
    """

    module: "nn.Module" = field(kw_only=True)
    traceable: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, named: Named, module: "nn.Module", *, traceable: bool) -> Self:
        """Returns the backbone of ``named`` whose network is ``module``."""
        known = {one.name: getattr(named, one.name) for one in fields(Named)}
        return cls(**known, module=module, traceable=traceable)

    def flip_averaged(self) -> Self:
        """As ``Named.flip_averaged``, with the network that computes that mean."""
        from extract.backbones.flip import FlipAverage

        return replace(self, name=f"{self.name}+flip", module=FlipAverage(self.module))
