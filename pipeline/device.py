"""Which device of this machine ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` is."""

from typing import TYPE_CHECKING

from stores.errors import ConfigError

if TYPE_CHECKING:
    import torch


def resolve_device(device: "str | torch.device") -> "torch.device":
    """Returns the torch device of a configured name.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        msg = f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N"
        raise ConfigError(msg) from error
    if target.type not in ("cpu", "cuda"):
        msg = f"device {device}: expected auto, cpu, cuda or cuda:N"
        raise ConfigError(msg)
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        msg = f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        raise ConfigError(msg)
    return target
