"""The bundled backbone: ResNet-50 at a quarter of the inner width, trained on rendered faces; 2048 features.

Not for photographs: it has seen nothing but the embedded corpus's renderer, and every table says so.
"""

from functools import partial
from pathlib import Path

from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from extract.backbones import resnet, weights_file
from extract.backbones.backbone import Backbone, check_image_size
from stores.errors import ConfigError

BUNDLED = Path(__file__).parent / "weights" / "narrow_resnet50.rendered.safetensors"
SHA256 = "50c10379fdfa1e940f2ef0972355b0f87f58e0501bbfb7294799abac8a47e0e9"

# The narrow mirror of torchvision's wide_resnet50_2, which doubles the inner width of 64.
ARCHITECTURE = partial(ResNet, Bottleneck, [3, 4, 6, 3], width_per_group=16)
FEATURES = 2048


def load(name: str, image_size: int) -> Backbone:
    """Loads the narrow ResNet-50.

    Args:
        name: ``rendered`` for the bundled weights, or the path of a ``.safetensors`` or ``.pth`` file. Mean
            and std are 0.5 unless the card beside the file says otherwise.
        image_size: input side in pixels.

    Raises:
        ConfigError: unknown name, bundled file absent or not the one of this release, or tensors do not fit.
    """
    check_image_size(image_size)
    if name == "rendered":
        file = weights_file.read(BUNDLED)
        if file.sha256 != SHA256:
            msg = f"{BUNDLED}: SHA-256 {file.sha256}, this release ships {SHA256}; install it again"
            raise ConfigError(msg)
    elif Path(name).suffix:
        file = weights_file.read(Path(name))
        name = file.path.stem
    else:
        msg = f"unknown weights {name!r} of narrow_resnet50: expected rendered or a path"
        raise ConfigError(msg)
    card = weights_file.read_card(file, weights_file.Card((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    return Backbone(
        name="narrow_resnet50",
        weights=name,
        weights_sha256=file.sha256,
        weights_trained_on=card.trained_on,
        module=resnet.trunk(ARCHITECTURE, file),
        image_size=image_size,
        mean=card.mean,
        std=card.std,
        dim=FEATURES,
        traceable=True,
    )
