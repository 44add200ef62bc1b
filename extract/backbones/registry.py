"""The backbones: ``named(name, weights, size)`` says what their numbers mean, ``load`` makes the network.

Naming reads a weights file only for its SHA-256, and imports no torch: a network's module is imported when it
is made. Models of timm are the exception, for only timm, which imports torch, knows their preprocessing.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.backbones import download
from extract.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Named
from extract.backbones.card import Card, digest_of, read_card
from extract.backbones.training_data import UNKNOWN
from stores.errors import ConfigError

Triple = tuple[float, float, float]
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that have a name.

    Attributes:
        sha256: of their file, or the first digits of it.
        url: where torch downloads them from, once; "" for those that come with this package.
        path: where the latter are.
        trained_on: corpora that they have seen, unless a card beside the file says more.
    """

    sha256: str
    url: str = ""
    path: Path = Path()
    trained_on: tuple[str, ...] = (UNKNOWN,)


@dataclass(frozen=True, slots=True)
class Known:
    """A backbone before its network is made.

    Attributes:
        network: ``module:function`` that takes the tensors (``weights_file.Weights``) and returns the module.
        dim: length of the vector of one crop.
        mean: per RGB channel, of pixels in [0, 1]; a card beside the weights may say otherwise.
        std: likewise.
        published: weights by name; others are the path of a file.
        arguments: of the function, before the tensors.
        smallest: side in pixels of the smallest crop that it takes; sides are multiples of 16.
        only: the one side that it takes, where its last layer is fully connected to the map.
    """

    network: str
    dim: int
    mean: Triple = _HALF
    std: Triple = _HALF
    published: Mapping[str, Published] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    smallest: int = 64
    only: int | None = None


BUNDLED = Path(__file__).parent / "weights" / "narrow_resnet50.rendered.safetensors"
_BUNDLED = Published("50c10379fdfa1e940f2ef0972355b0f87f58e0501bbfb7294799abac8a47e0e9", path=BUNDLED)


def _resnet(architecture: str, dim: int, *digits: str, kind: str = "plain") -> Known:
    """A ResNet of torchvision, and the first digits of the SHA-256 of its ImageNet weights, v1 first."""
    url = "https://download.pytorch.org/models/{}-{}.pth"
    published = {
        f"imagenet1k_v{version}": Published(
            start, url.format(architecture, start), trained_on=("ImageNet-1k",)
        )
        for version, start in enumerate(digits, 1)
    }
    network = f"extract.backbones.resnet:{kind}"
    return Known(network, dim, IMAGENET_MEAN, IMAGENET_STD, published, (architecture,))


BACKBONES = {
    "narrow_resnet50": Known(
        "extract.backbones.narrow_resnet50:network", 2048, published={"rendered": _BUNDLED}
    ),
    "resnet18": _resnet("resnet18", 512, "f37072fd"),
    "resnet34": _resnet("resnet34", 512, "b627a593"),
    "resnet50": _resnet("resnet50", 2048, "0676ba61", "11ad3fa6"),
    "resnet101": _resnet("resnet101", 2048, "63fe2227", "cd907fc2"),
    "resnet152": _resnet("resnet152", 2048, "394f9c45", "f82ba261"),
    "resnet18_pyramid": _resnet("resnet18", 960, "f37072fd", kind="pyramid"),
    "resnet34_pyramid": _resnet("resnet34", 960, "b627a593", kind="pyramid"),
    "resnet50_pyramid": _resnet("resnet50", 3840, "0676ba61", "11ad3fa6", kind="pyramid"),
    "resnet101_pyramid": _resnet("resnet101", 3840, "63fe2227", "cd907fc2", kind="pyramid"),
    "resnet152_pyramid": _resnet("resnet152", 3840, "394f9c45", "f82ba261", kind="pyramid"),
    "ir50": Known("extract.backbones.ir50:ir50", 512, only=112),
    "ir_se50": Known("extract.backbones.ir50:ir_se50", 512, only=112),
    # facenet-pytorch's fixed_image_standardization: (pixel - 127.5) / 128
    "inception_resnet_v1": Known(
        "extract.backbones.inception_resnet_v1:network",
        512,
        (127.5 / 255,) * 3,
        (128 / 255,) * 3,
        smallest=80,
    ),
}
"""Each as it is known without its network. To add one: a module with a function that takes the tensors of a
weights file (``extract.backbones.weights_file``) and returns an ``nn.Module``, and one line here."""

FAMILIES = {"timm": "extract.backbones.timm_model"}
"""Libraries of backbones: ``timm:NAME`` calls ``load(NAME, weights, image_size)`` of the module."""


def named(name: str, weights: str, image_size: int = 112) -> Named:
    """Names a backbone with ``weights``: all that decides its numbers, without torch and without a network.

    Args:
        name: a key of ``BACKBONES``, or one of ``FAMILIES`` with the name of a model: ``timm:MODEL.TAG``.
        weights: a name that the backbone knows, or the path of a ``.safetensors`` or ``.pth`` file.
        image_size: side of the network's input in pixels; most take a multiple of 16 of at least 64.

    Raises:
        ConfigError: unknown name or size, or weights that cannot be had.
    """
    return load(name, weights, image_size) if _family(name) else _locate(name, weights, image_size)[0]


def load(name: str, weights: str, image_size: int = 112) -> Backbone:
    """Loads the backbone ``name`` with ``weights``; arguments as for ``named``.

    Raises:
        ConfigError: as ``named``, or tensors that do not fit.
    """
    if family := _family(name):
        backbone: Backbone = family.load(name.partition(":")[2], weights, image_size)
        return backbone
    known = BACKBONES.get(name)
    what, path = _locate(name, weights, image_size)
    assert known is not None
    module, _, function = known.network.partition(":")
    from extract.backbones import weights_file

    make = getattr(importlib.import_module(module), function)
    return Backbone.of(what, make(*known.arguments, weights_file.read(path)), traceable=True)


def to_download(name: str, weights: str) -> str:
    """The URL of published weights that ``load`` would download first; "" where it would not.

    Raises:
        ConfigError: unknown name.
    """
    if family := _family(name):
        return str(family.to_download(name.partition(":")[2], weights))
    published = _known(name).published.get(weights)
    url = published.url if published else ""
    return "" if not url or download.cached(url).is_file() else url


def _family(name: str) -> Any:
    """The module of the family that ``name`` is of, or None."""
    family, colon, _ = name.partition(":")
    return importlib.import_module(FAMILIES[family]) if colon and family in FAMILIES else None


def _known(name: str) -> Known:
    if name not in BACKBONES:
        names = [*BACKBONES, *(f"{family}:MODEL" for family in FAMILIES)]
        msg = f"unknown backbone {name!r}: expected one of {', '.join(names)}"
        raise ConfigError(msg)
    return BACKBONES[name]


def _locate(name: str, weights: str, image_size: int) -> tuple[Named, Path]:
    """The backbone as named, and its weights file, which is downloaded if need be."""
    known = _known(name)
    _check_size(name, known, image_size)
    published = known.published.get(weights)
    if published is not None:
        path = download.fetch(published.url) if published.url else published.path
    elif Path(weights).suffix:
        path = Path(weights)
    else:
        names = ", ".join([*known.published, "the path of a file"])
        msg = f"unknown weights {weights!r} of {name}: expected {names}"
        raise ConfigError(msg)
    sha256 = digest_of(path)
    if published is not None and not sha256.startswith(published.sha256):
        remedy = "delete it to fetch it again" if published.url else "install this release again"
        msg = f"{path}: SHA-256 {sha256}, expected {published.sha256}...: {remedy}"
        raise ConfigError(msg)
    default = Card(known.mean, known.std, published.trained_on if published else (UNKNOWN,))
    card = read_card(path, sha256, default)
    what = Named(
        name=name,
        weights=path.stem if published is None else weights,
        weights_sha256=sha256,
        weights_trained_on=card.trained_on,
        image_size=image_size,
        mean=card.mean,
        std=card.std,
        dim=known.dim,
    )
    return what, path


def _check_size(name: str, known: Known, size: int) -> None:
    if known.only is not None and size != known.only:
        msg = (
            f"image_size {size}: the last layer of {name} is fully connected to crops of {known.only}"
            f" pixels: set image_size to {known.only}"
        )
        raise ConfigError(msg)
    if size < known.smallest or size % 16:
        smallest = f"at least {known.smallest} pixels, such as 112"
        msg = f"image_size {size}: {name} takes a multiple of 16 of {smallest}"
        raise ConfigError(msg)
