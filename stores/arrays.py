"""Clips end to end as one dask array, for work over whole stores that need not fit in memory.

Training reads windows otherwise (``Store.read``): a dask task costs more than a window.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import dask.array
import numpy as np

from stores import documents
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.store import Store

FRAMES_PER_TASK = 8192
"""32 MiB of 2048 float16: 0.1 to 0.4 s of work, beside which the millisecond that dask takes is nothing."""


@dataclass(frozen=True, slots=True)
class _Timeline:
    """One array of some clips, end to end, as dask wants it: shape, dtype and slices.

    Pickled as the path of its store and the names of its clips.
    """

    store: Store
    array: str
    clips: tuple[str, ...]
    ends: tuple[int, ...]
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
        block: Array = self._rows(low, high)[(index, *rest)]
        return block

    def _rows(self, low: int, high: int) -> Array:
        clip = bisect_right(self.ends, low)
        if low < high <= self.ends[clip]:  # within one clip: no copy
            begin = self.ends[clip - 1] if clip else 0
            return self.store.read(self.clips[clip], self.array, low - begin, high - begin)
        rows = np.empty((high - low, *self.shape[1:]), self.dtype)
        start = low
        while start < high:
            begin, stop = self.ends[clip - 1] if clip else 0, min(high, self.ends[clip])
            part = self.store.read(self.clips[clip], self.array, start - begin, stop - begin)
            rows[start - low : stop - low] = part
            start, clip = stop, clip + 1
        return rows


def store_array(
    store: Store,
    array: str = "features",
    clips: Sequence[str] | None = None,
    *,
    valid_only: bool = False,
    frames_per_task: int = FRAMES_PER_TASK,
) -> dask.array.Array:
    """Returns one array of many clips, end to end, as one dask array, read lazily.

    A task covers short clips together and cuts long ones, so there are about ``F / frames_per_task`` tasks.
    The commit records of all clips are read now; with ``valid_only`` their ``valid`` arrays too (a byte per
    frame), so that the shape is known.

    Args:
        store: the store; each worker opens it by its path.
        array: name of the array.
        clips: ids of committed clips, in the order wanted; None for all, sorted.
        valid_only: leave out frames without a crop; only feature stores know which these are.
        frames_per_task: frames per dask chunk, before frames are left out.

    Returns:
        ``(F, ...)`` of the stored dtype, in dask chunks of whole frames.

    Raises:
        StoreError: no such clip or array.
    """
    chosen = tuple(store.clips() if clips is None else clips)
    whole = _lazy(store, array, chosen, frames_per_task)
    if not valid_only:
        return whole
    valid = _lazy(store, "valid", chosen, frames_per_task)
    known = np.concatenate([np.empty(0, bool), *(store.read(clip, "valid") for clip in chosen)])
    borders = list(accumulate(whole.chunks[0], initial=0))
    counts = tuple(int(known[low:high].sum()) for low, high in pairwise(borders))
    picked: dask.array.Array = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        _pick,
        whole,
        valid if whole.ndim == 1 else valid[:, None],
        chunks=(counts, *whole.chunks[1:]),
        meta=whole._meta,
    )
    return picked


def per_block(
    function: Callable[[Array], Array],
    blocks: dask.array.Array,
    shape: tuple[int, ...],
    dtype: type[np.generic],
) -> dask.array.Array:
    """Returns what ``function`` makes of each block of frames, lazily, without keeping the block.

    Args:
        function: takes a block ``(Tb, D)``, returns ``(1, *shape)``; pickled to workers.
        blocks: ``(F, D)``, in chunks of whole frames.
        shape: of one result, two axes.
        dtype: of the results.

    Returns:
        ``(N, *shape)``, one row per block, in their order.
    """
    results: dask.array.Array = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        function,
        blocks,
        dtype=dtype,
        new_axis=blocks.ndim,
        chunks=((1,) * blocks.numblocks[0], *((length,) for length in shape)),
        meta=np.empty((0,) * (1 + len(shape)), dtype),
    )
    return results


def _lazy(store: Store, array: str, clips: tuple[str, ...], frames_per_task: int) -> dask.array.Array:
    layout = store.spec.layout(1)
    if array not in layout:
        msg = f"the store {store.path} has no array {array!r}, only {', '.join(layout)}"
        raise StoreError(msg)
    records = [store.record(clip) for clip in clips]
    ends = tuple(accumulate(record.frames for record in records))
    rest, dtype = layout[array].shape[1:], np.dtype(layout[array].dtype)
    shape = (ends[-1] if ends else 0, *rest)
    # What decides the values of a block is in its name: workers may keep blocks between computations.
    content: list[Json] = [str(store.path), frames_per_task]
    content += [record.arrays[array].sha256 for record in records]
    blocks: dask.array.Array = dask.array.from_array(  # type: ignore[no-untyped-call]
        _Timeline(store, array, clips, ends, shape, dtype),
        chunks=(frames_per_task, *rest),
        name=f"{array}-{documents.digest(content)}",
        asarray=False,
        fancy=False,  # lists of frames are picked from whole blocks
        meta=np.empty((0, *rest), dtype),
    )
    return blocks


def _pick(block: Array, valid: Array) -> Array:
    return block[valid.reshape(-1)]
