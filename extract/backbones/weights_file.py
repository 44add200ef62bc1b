"""Reads the tensors of a weights file by name; whether they fit is checked by the network that takes them."""

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

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


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The content of one weights file.

    Attributes:
        path: the file.
        tensors: by parameter or buffer name.
    """

    path: Path
    tensors: dict[str, Tensor]


def read(path: Path) -> Weights:
    """Reads ``.safetensors``, ``.pth`` or ``.pt``; the last two by ``weights_only``, so that no code can run.

    Raises:
        ConfigError: unreadable, or no plain mapping of names to finite tensors.
    """
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
    return Weights(path, content)


def some(names: list[str]) -> str:
    """The first five of ``names``, for a message."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
