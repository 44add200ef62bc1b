"""What is known of a weights file before its tensors are read: its SHA-256 and the card beside it."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from extract.backbones.training_data import UNKNOWN
from stores.errors import ConfigError


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


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a weights file, 64 hex digits.

    Raises:
        ConfigError: no such file, or another suffix than ``.safetensors``, ``.pth`` or ``.pt``.
    """
    if not path.is_file():
        msg = f"no weights file {path}: check the setting 'weights'"
        raise ConfigError(msg)
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        msg = f"{path}: suffix {path.suffix!r}, expected .safetensors, .pth or .pt"
        raise ConfigError(msg)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(weights: Path, sha256: str, default: Card) -> Card:
    """The card beside a weights file, or ``default`` where there is none; absent keys are the default's.

    Args:
        weights: the weights file.
        sha256: its digest, which the card may state too.
        default: for keys that the card does not have.

    Raises:
        ConfigError: the card is no valid JSON of the expected kind, or its ``sha256`` is of another file.
    """
    path = weights.with_suffix(".json")
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
    if fields.get("sha256", sha256) != sha256:
        msg = f"{weights}: SHA-256 {sha256}, its card says {fields['sha256']}; get both files anew"
        raise ConfigError(msg)
    return Card(mean, std, trained_on)
