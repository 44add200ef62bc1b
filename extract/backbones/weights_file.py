"""Reads a weights file: tensors by name, the SHA-256 of the whole file, and the card beside it.

Not a downloader and not a model: whether the tensors fit is checked by the architecture that takes them.
"""

import hashlib
import json
import math
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from extract.backbones.training_data import UNKNOWN
from stores.errors import ConfigError

# The unpickler checks little: what a damaged .pth raises depends on the byte that is wrong.
DAMAGED = (
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Card:
    """What a weights file cannot say itself, from ``<weights>.json`` beside it.

    Attributes:
        mean: per RGB channel, of pixels in [0, 1].
        std: likewise.
        trained_on: names of the corpora the weights have seen.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    trained_on: tuple[str, ...] = (UNKNOWN,)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The content of one weights file.

    Attributes:
        path: the file.
        tensors: by parameter or buffer name.
        sha256: of the whole file, 64 hex digits.
    """

    path: Path
    tensors: dict[str, Tensor]
    sha256: str


def read(path: Path) -> Weights:
    """Reads ``.safetensors``, ``.pth`` or ``.pt``; the last two by ``weights_only``, so that no code can run.

    Raises:
        ConfigError: no such file, another suffix, unreadable, or no plain mapping of names to finite tensors.
    """
    if not path.is_file():
        msg = f"no weights file {path}: check features.weights"
        raise ConfigError(msg)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        msg = f"{path}: suffix {path.suffix!r}, expected .safetensors, .pth or .pt"
        raise ConfigError(msg)
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        reason = str(error).strip().split("\n")[0][:160]
        msg = f"{path}: not a readable file of tensors ({reason}); save model.state_dict(), or get it anew"
        raise ConfigError(msg) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        found = (
            f"keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else type(content)
        )
        msg = f"{path}: found {found}, expected tensors by parameter name; save model.state_dict()"
        raise ConfigError(msg)
    broken = [name for name, value in content.items() if not bool(torch.isfinite(value).all())]
    if broken:
        msg = f"{path}: {some(broken)} hold NaN or infinity; get weights that trained without overflow"
        raise ConfigError(msg)
    return Weights(path, content, sha256)


def read_local(weights: str, backbone: str) -> Weights:
    """The file at ``weights``, of a backbone that has no published weights by name.

    Raises:
        ConfigError: no path, or ``read`` refuses the file.
    """
    if not Path(weights).suffix:
        msg = (
            f"unknown weights {weights!r} of {backbone}: expected the path of a file; none are published here"
        )
        raise ConfigError(msg)
    return read(Path(weights))


def read_card(weights: Weights, default: Card) -> Card:
    """The card beside a weights file, or ``default`` where there is none; absent keys are the default's.

    Raises:
        ConfigError: the card is no valid JSON of the expected kind, or its ``sha256`` is of another file.
    """
    path = weights.path.with_suffix(".json")
    if not path.is_file():
        return default
    try:
        fields = json.loads(path.read_text("utf-8"))
        mean = tuple(float(value) for value in fields.get("mean", default.mean))
        std = tuple(float(value) for value in fields.get("std", default.std))
        trained_on = tuple(fields.get("trained_on", default.trained_on))
    except (ValueError, TypeError, AttributeError) as error:
        msg = f"{path}: not a weights card ({error}); expected JSON with mean, std, trained_on and sha256"
        raise ConfigError(msg) from error
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        msg = f"{path}: mean {mean}, std {std}; expected three numbers each, std above 0"
        raise ConfigError(msg)
    # A lone string would otherwise come apart into its letters.
    if isinstance(fields.get("trained_on"), str) or not all(isinstance(n, str) and n for n in trained_on):
        msg = f"{path}: trained_on {fields['trained_on']!r}; expected a list of corpus names"
        raise ConfigError(msg)
    if fields.get("sha256", weights.sha256) != weights.sha256:
        msg = (
            f"{weights.path}: SHA-256 {weights.sha256}, its card says {fields['sha256']}; get both files anew"
        )
        raise ConfigError(msg)
    return Card(mean, std, trained_on)


def some(names: list[str]) -> str:
    """The first five of ``names``, for a message."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
