"""Windows over clips in real time, and the order in which an epoch reads them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stores.errors import ConfigError

Ints = NDArray[np.int64]

IMAGES_PER_WINDOW = 64
"""Independent images in the place of one window, whose frames look alike: 64 cost a fifth of 300 frames."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of equal length over the rows of one split.

    Attributes:
        length: frames per window, padding included.
        start: (W,) first row of each window in the split's arrays.
        frames: (W,) real frames of each window; fewer than ``length`` only where the whole clip is shorter.
        static: (W,) bool, the window is one independent image.
    """

    length: int
    start: Ints
    frames: Ints
    static: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.start)


def clip_starts(frames: int, length: int, hop: int) -> list[int]:
    """Returns the window starts of one clip: every ``hop`` frames, the last window aligned to the clip's end.

    Real time is kept: a window is ``length`` consecutive frames. A clip of at most ``length`` frames has one
    window.

    Raises:
        ConfigError: ``hop`` is not in [1, length], so that frames would be left out.
    """
    if not 1 <= hop <= length:
        msg = f"hop {hop}: expected 1 <= hop <= window length {length}, or frames would be left out"
        raise ConfigError(msg)
    if frames <= length:
        return [0]
    return [*range(0, frames - length, hop), frames - length]


def cut(offsets: Sequence[int], length: int, hop: int, static: Collection[int] = ()) -> Windows:
    """Cuts clips into windows, in the order of the clips.

    Args:
        offsets: first row of each clip, then the number of rows; clips without frames have no window.
        length: frames per window.
        hop: frames between starts.
        static: numbers of the clips whose rows are independent images: each row is a window of its own.
    """
    start: list[int] = []
    frames: list[int] = []
    single: list[bool] = []
    for clip, (first, end) in enumerate(pairwise(offsets)):
        if clip in static:
            start += range(first, end)
            frames += [1] * (end - first)
        elif end > first:
            starts = clip_starts(end - first, length, hop)
            start += [first + s for s in starts]
            frames += [min(length, end - first)] * len(starts)
        single += [clip in static] * (len(start) - len(single))
    return Windows(
        length,
        np.asarray(start, dtype=np.int64),
        np.asarray(frames, dtype=np.int64),
        np.asarray(single, dtype=bool),
    )


def epoch_order(count: int, data_seed: int, epoch: int) -> Ints:
    """Returns a permutation of ``count`` windows, a pure function of ``(data_seed, epoch)``."""
    return np.random.default_rng((data_seed, epoch)).permutation(count).astype(np.int64)


def batches(order: Ints, batch_size: int) -> Iterator[Ints]:
    """Yields consecutive pieces of ``order``; the last may be smaller."""
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def batches_alike(windows: Windows, order: Ints, batch_size: int) -> list[Ints]:
    """Cuts ``order`` into batches of windows of clips, then batches of single images, so that none is padded.

    In a batch of images ``IMAGES_PER_WINDOW`` take the place of one window.
    """
    single = windows.static[order]
    return [
        *batches(order[~single], batch_size),
        *batches(order[single], batch_size * IMAGES_PER_WINDOW),
    ]


def epoch_batches(windows: Windows, order: Ints, batch_size: int, data_seed: int, epoch: int) -> list[Ints]:
    """Returns ``order`` in batches; those of clips and of images take turns, by ``(data_seed, epoch)``."""
    pieces = batches_alike(windows, order, batch_size)
    if not windows.static.any():
        return pieces
    return [pieces[i] for i in np.random.default_rng((data_seed, epoch, 1)).permutation(len(pieces))]
