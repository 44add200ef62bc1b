"""The backbones by name: ``load(name, weights, image_size)`` makes one ready for inference.

Not an importer of every network: a module is imported when its name is asked for.
"""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stores.errors import ConfigError

if TYPE_CHECKING:
    from extract.backbones.backbone import Backbone

BACKBONES = {
    "narrow_resnet50": "extract.backbones.narrow_resnet50:load",
    "resnet18": "extract.backbones.resnet:resnet18",
    "resnet34": "extract.backbones.resnet:resnet34",
    "resnet50": "extract.backbones.resnet:resnet50",
    "resnet101": "extract.backbones.resnet:resnet101",
    "resnet152": "extract.backbones.resnet:resnet152",
    "resnet18_pyramid": "extract.backbones.resnet:resnet18_pyramid",
    "resnet34_pyramid": "extract.backbones.resnet:resnet34_pyramid",
    "resnet50_pyramid": "extract.backbones.resnet:resnet50_pyramid",
    "resnet101_pyramid": "extract.backbones.resnet:resnet101_pyramid",
    "resnet152_pyramid": "extract.backbones.resnet:resnet152_pyramid",
    "ir50": "extract.backbones.ir50:ir50",
    "ir_se50": "extract.backbones.ir50:ir_se50",
    "inception_resnet_v1": "extract.backbones.inception_resnet_v1:load",
}
"""Each as ``module:function``, imported when it is asked for.

To add one: a module with a function ``(weights: str, image_size: int) -> Backbone`` and one line here.
"""

FAMILIES = {"timm": "extract.backbones.timm_model:load"}
"""Libraries of backbones: ``timm:NAME`` calls ``(NAME, weights, image_size)``."""


def load(name: str, weights: str, image_size: int = 112) -> "Backbone":
    """Loads the backbone ``name`` with ``weights``.

    Args:
        name: a key of ``BACKBONES``, or one of ``FAMILIES`` with the name of a model: ``timm:MODEL.TAG``.
        weights: a name that the backbone knows, or the path of a ``.safetensors`` or ``.pth`` file.
        image_size: side of the network's input in pixels; most take a multiple of 16 of at least 64.

    Raises:
        ConfigError: unknown name or size, or weights that cannot be had or do not fit.
    """
    _, function, arguments = _find(name)
    backbone: Backbone = function(*arguments, weights, image_size)
    return backbone


def to_download(name: str, weights: str) -> str:
    """The URL of published weights that ``load`` would download first; "" where it would not.

    Asks the function ``to_download(name, weights)`` of the backbone's module, if there is one.

    Raises:
        ConfigError: unknown name.
    """
    module, _, arguments = _find(name)
    ask = getattr(module, "to_download", None)
    return "" if ask is None else str(ask(*(arguments or [name]), weights))


def _find(name: str) -> tuple[Any, Callable[..., "Backbone"], list[str]]:
    """The module and function of a backbone, and what the function takes before the weights."""
    family, colon, model = name.partition(":")
    if colon and family in FAMILIES:
        target, arguments = FAMILIES[family], [model]
    elif name in BACKBONES:
        target, arguments = BACKBONES[name], []
    else:
        known = [*BACKBONES, *(f"{family}:MODEL" for family in FAMILIES)]
        msg = f"unknown backbone {name!r}: expected one of {', '.join(known)}"
        raise ConfigError(msg)
    module_name, _, function = target.partition(":")
    module = importlib.import_module(module_name)
    return module, getattr(module, function), arguments
