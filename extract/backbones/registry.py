"""The backbones by name: ``load(name, weights, image_size)`` makes one ready for inference.

Not an importer of every network: a module is imported when its name is asked for.

To add one: a module with ``load(weights: str, image_size: int) -> Backbone`` and one line in ``BACKBONES``.
"""

import importlib
from typing import TYPE_CHECKING

from stores.errors import ConfigError

if TYPE_CHECKING:
    from extract.backbones.backbone import Backbone

BACKBONES = {
    "resnet50": "extract.backbones.resnet50",
    "narrow_resnet50": "extract.backbones.narrow_resnet50",
}


def load(name: str, weights: str, image_size: int = 112) -> "Backbone":
    """Loads the backbone ``name`` with ``weights``.

    Args:
        name: a key of ``BACKBONES``.
        weights: a name that the backbone knows, or the path of a ``.safetensors`` or ``.pth`` file.
        image_size: side of the network's input in pixels, a multiple of 16 of at least 64.

    Raises:
        ConfigError: unknown name or size, or weights that cannot be had or do not fit.
    """
    if name not in BACKBONES:
        msg = f"unknown backbone {name!r}: expected one of {', '.join(BACKBONES)}"
        raise ConfigError(msg)
    backbone: Backbone = importlib.import_module(BACKBONES[name]).load(weights, image_size)
    return backbone
