"""A rule of ``torch.vmap`` for kernels that have none: replicas become more of what such a kernel batches."""

from torch import Tensor


def merge(x: Tensor, axis: int | None, replicas: int) -> Tensor:
    """Returns ``x`` with replicas and first axis as one: (R * N, ...) of (R, N, ...), or of R times (N, ...).

    Args:
        x: of all replicas, or the same for all.
        axis: where the replicas are; None if ``x`` is the same for all.
        replicas: how many there are.
    """
    return (x.expand(replicas, *x.shape) if axis is None else x.movedim(axis, 0)).flatten(0, 1)


def split(x: Tensor, replicas: int) -> Tensor:
    """Returns (R, N, ...) of (R * N, ...)."""
    return x.view(replicas, -1, *x.shape[1:])
