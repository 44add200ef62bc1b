"""Training steps with products in TF32, or altogether in bfloat16, which a gate must let through first.

Evaluation, predictions, losses and the optimiser are float32 always.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stores.errors import ConfigError

GATE = 0.99
"""Least cosine between a replica's gradient in reduced precision and in float32, on the first minibatch."""


@contextmanager
def products(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Makes float32 convolutions and matrix products within it use TF32, or not.

    Raises:
        ConfigError: TF32 is asked for on a CPU, which has none.
    """
    if tf32 and device.type != "cuda":
        msg = f"training.precision tf32 needs a GPU, the sweep runs on {device}: use float32 or bfloat16"
        raise ConfigError(msg)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def require_parity(precision: str, plain: Tensor, reduced: Tensor) -> None:
    """Passes if gradients in reduced precision point where those in float32 do.

    Args:
        precision: what is to be let through.
        plain: (R, P) gradients in float32; rows without a gradient, or with one that is not finite, are left
            out.
        reduced: (R, P) gradients in ``precision``.

    Raises:
        ConfigError: a replica's cosine is below ``GATE``.
    """
    rows = torch.isfinite(plain).all(1) & (plain != 0).any(1)
    cosine = torch.nn.functional.cosine_similarity(plain[rows].double(), reduced[rows].double())
    if bool((cosine >= GATE).all()):
        return
    worst = float(cosine.nan_to_num(-1.0).min())
    msg = (
        f"gradients in {precision} have a cosine of {worst:.4f} with those in float32, expected at least"
        f" {GATE}: set training.precision to float32 and training.compile to false"
    )
    raise ConfigError(msg)
