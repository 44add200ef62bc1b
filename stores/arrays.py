"""Clips as dask arrays, for work over many clips at once.

Not the way to read windows for training: a task per window costs more than the window.
"""

from dataclasses import dataclass

import dask.array
import numpy as np

from stores.digest import Array
from stores.store import Store

FRAMES_PER_TASK = 4096


@dataclass(frozen=True, slots=True)
class _ClipArray:
    """One stored array as dask wants it: shape, dtype and slices; pickled as the path of its store."""

    store: Store
    clip: str
    array: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[slice | int, ...]) -> Array:
        # dask fuses a later slice or index into its own: steps, reversals and single frames arrive here.
        frames, *rest = key
        if isinstance(frames, slice):
            wanted = range(self.shape[0])[frames]
            low, high = (min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1) if wanted else (0, 0)
            index: slice | int = slice(None, None, wanted.step)
        else:
            low, high, index = frames, frames + 1, 0
        block: Array = self.store.read(self.clip, self.array, low, high)[(index, *rest)]
        return block


def dask_array(
    store: Store, clip: str, array: str = "features", frames_per_task: int = FRAMES_PER_TASK
) -> dask.array.Array:
    """Returns one array of a clip as a dask array, read lazily by whichever process computes it.

    Args:
        store: the store; each worker opens it by its path.
        clip: id of a committed clip.
        array: name of the array.
        frames_per_task: frames per dask chunk; tasks below a few thousand frames cost more than their
            reading.

    Returns:
        ``(T, ...)`` of the stored dtype, in dask chunks of whole frames.

    Raises:
        StoreError: no such clip or array.
    """
    empty = store.read(clip, array, 0, 0)
    record = store.record(clip).arrays[array]
    lazy = _ClipArray(store, clip, array, record.shape, empty.dtype)
    blocks: dask.array.Array = dask.array.from_array(  # type: ignore[no-untyped-call]
        lazy,
        chunks=(frames_per_task, *record.shape[1:]),
        name=f"{array}-{record.sha256}",
        asarray=False,
        fancy=False,  # lists of frames are picked from whole blocks
        meta=empty,
    )
    return blocks
