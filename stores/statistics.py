"""Moments of the numbers of a feature store, with no more in memory than some blocks of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np

from stores.arrays import FRAMES_PER_TASK, per_block, store_array
from stores.digest import Array
from stores.errors import StoreError
from stores.store import Store

ROWS = 128
"""Frames turned into float64 at once: 2 MiB of 2048 dimensions."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Per-dimension moments of some frames; two of them add up to those of all their frames.

    Attributes:
        frames: number of frames ``F``.
        mean: ``(D,)`` float64.
        squares: ``(D,)`` float64, sum of squared differences from the mean.
        minimum: ``(D,)`` float64; infinite where there are no frames.
        maximum: ``(D,)`` float64; minus infinite where there are no frames.
        zeros: ``(D,)`` float64, number of values that are exactly zero.
    """

    frames: int
    mean: Array
    squares: Array
    minimum: Array
    maximum: Array
    zeros: Array

    @property
    def std(self) -> Array:
        """Population standard deviation, ``(D,)`` float64."""
        return np.asarray(np.sqrt(self.squares / self.frames))

    @property
    def zero_share(self) -> float:
        """Share of all values that are exactly zero, in [0, 1]."""
        return float(self.zeros.mean() / self.frames)

    @property
    def dead(self) -> Array:
        """Indices of the dimensions that are zero in every frame."""
        return np.flatnonzero(self.zeros == self.frames)

    @classmethod
    def of(cls, values: Array) -> Self:
        """Returns the moments of ``(F, D)`` values, computed in float64."""
        frames, dim = values.shape
        if not frames:
            nothing = np.zeros(dim)
            return cls(0, nothing, nothing, nothing + np.inf, nothing - np.inf, nothing)
        wide = values.astype(np.float64)
        mean, minimum, maximum = wide.mean(axis=0), wide.min(axis=0), wide.max(axis=0)
        zeros = frames - np.count_nonzero(wide, axis=0).astype(np.float64)
        wide -= mean
        return cls(frames, mean, np.einsum("td,td->d", wide, wide), minimum, maximum, zeros)

    def __add__(self, other: "Moments") -> "Moments":
        # Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
        # (1979): no difference of large sums, so nothing is lost when the mean is far from zero.
        if not self.frames or not other.frames:
            return self if self.frames else other
        frames = self.frames + other.frames
        step = other.mean - self.mean
        share = other.frames / frames
        return Moments(
            frames,
            self.mean + step * share,
            self.squares + other.squares + step**2 * (self.frames * share),
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
            self.zeros + other.zeros,
        )


def moments(
    store: Store, clips: Sequence[str] | None = None, *, frames_per_task: int = FRAMES_PER_TASK
) -> Moments:
    """Returns the moments of the valid frames of a feature store.

    Computed by the scheduler that dask is set to (threads, unless said otherwise); the result is the same to
    the last bit with every scheduler.

    Args:
        store: a feature store.
        clips: ids of committed clips; None for all.
        frames_per_task: frames per dask chunk.

    Raises:
        StoreError: not a feature store, no such clip, damaged data, or no valid frame.
    """
    blocks = store_array(store, clips=clips, valid_only=True, frames_per_task=frames_per_task)
    packed = per_block(_packed_moments, blocks, (6, blocks.shape[1]), np.float64)
    parts: Array = packed.compute()  # type: ignore[no-untyped-call]
    total = reduce(add, (Moments(int(part[0, 0]), *part[1:]) for part in parts))
    if not total.frames:
        msg = f"the store {store.path} has no valid frame, so its values have no moments"
        raise StoreError(msg)
    return total


def _packed_moments(block: Array) -> Array:
    # (1, 6, D): blocks are added up in their order by whoever asked, so the sum does not depend on who is
    # done first.
    part = reduce(add, (Moments.of(rows) for rows in _rows(block)))
    frames = np.full(block.shape[1], part.frames)
    return np.stack([frames, part.mean, part.squares, part.minimum, part.maximum, part.zeros])[None]


def _rows(block: Array) -> Iterator[Array]:
    for start in range(0, max(1, len(block)), ROWS):
        yield block[start : start + ROWS]
