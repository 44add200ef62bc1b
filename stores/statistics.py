"""What the numbers of a feature store are like: moments, histograms, share of valid frames, principal axes.

Not statistics of windows or of labels, and never more in memory than some blocks of frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
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


@dataclass(frozen=True, slots=True)
class Pca:
    """Principal axes of features.

    Attributes:
        components: ``(K, D)`` float64, unit rows, the largest variance first.
        mean: ``(D,)`` float64, subtracted before projecting.
        explained_variance: ``(K,)`` float64, with ``F - 1`` in the denominator as scikit-learn has it.
        frames: number of frames ``F`` it was fitted on.
        spec_sha256: digest of the spec of the features.
        clips: clip to the SHA-256 of its ``features``, in the order of the fit.
    """

    components: Array
    mean: Array
    explained_variance: Array
    frames: int
    spec_sha256: str
    clips: Mapping[str, str]


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


def valid_share(store: Store, clips: Sequence[str] | None = None) -> float:
    """Returns the share of frames with a valid crop, in [0, 1]; 0 where there are no frames.

    Args:
        store: a feature store.
        clips: ids of committed clips; None for all.

    Raises:
        StoreError: not a feature store, no such clip, or damaged data.
    """
    valid = store_array(store, "valid", clips)
    return float(valid.mean().compute()) if len(valid) else 0.0  # type: ignore[no-untyped-call]


def histograms(
    store: Store,
    bins: int,
    limits: tuple[float, float],
    clips: Sequence[str] | None = None,
    *,
    frames_per_task: int = FRAMES_PER_TASK,
) -> tuple[Array, Array]:
    """Counts the values of the valid frames of a feature store, per dimension.

    Computed by the scheduler that dask is set to.

    Args:
        store: a feature store.
        bins: number of bins, of equal width.
        limits: lower end of the first bin and upper end of the last one, both included; values outside are
            not counted.
        clips: ids of committed clips; None for all.
        frames_per_task: frames per dask chunk.

    Returns:
        Counts ``(D, bins)`` int64 and edges ``(bins + 1,)`` float64, as ``numpy.histogram`` of the values in
        float64 gives them.

    Raises:
        StoreError: not a feature store, no such clip, or damaged data.
        ValueError: no bins, or limits that are not finite and ascending.
    """
    edges = np.histogram_bin_edges([], bins, limits)
    blocks = store_array(store, clips=clips, valid_only=True, frames_per_task=frames_per_task)
    counts = per_block(partial(_block_histograms, edges=edges), blocks, (blocks.shape[1], bins), np.int64)
    return counts.sum(axis=0).compute(), edges  # type: ignore[no-untyped-call]


def fit_pca(
    store: Store, components: int, clips: Sequence[str] | None = None, *, batch_frames: int = 256
) -> Pca:
    """Fits principal axes to the valid frames of a feature store, by scikit-learn's ``IncrementalPCA``.

    Incremental, so one batch is in memory at a time, and each depends on the one before: this runs here, in
    the order of ``clips``, and no scheduler takes part. It forgets what lies outside of the best
    ``components`` axes after each batch (Ross et al., "Incremental Learning for Robust Visual Tracking",
    2008), so small variances are approximate; with ``components`` equal to ``dim`` nothing is forgotten.

    Args:
        store: a feature store.
        components: number of axes ``K``, at most ``dim`` and at most the number of valid frames.
        clips: ids of committed clips; None for all.
        batch_frames: frames per batch; more of them are more exact, and take more memory and time (256, at 64
            components of 2048 dimensions: 0.4 ms of processor time per frame).

    Raises:
        StoreError: not a feature store, no such clip, damaged data, or ``components`` out of its range.
    """
    from sklearn.decomposition import IncrementalPCA

    chosen = list(store.clips() if clips is None else clips)
    records = {clip: store.record(clip) for clip in chosen}
    frames, dim = (
        len(store_array(store, clips=chosen, valid_only=True)),
        store.spec.layout(1)["features"].shape[1],
    )
    if not 1 <= components <= min(frames, dim):
        msg = (
            f"{components} components of {frames} valid frames of {dim} dimensions in {store.path}: expected "
            f"1 to {min(frames, dim)}"
        )
        raise StoreError(msg)
    # A batch must have at least as many frames as there are components: the rest is spread over all batches.
    count = max(1, frames // max(components, batch_frames))
    sizes = [frames * (number + 1) // count - frames * number // count for number in range(count)]
    model = IncrementalPCA(n_components=components)
    for batch in _batches(store, chosen, sizes, dim):
        model.partial_fit(batch, check_input=False)
    return Pca(
        model.components_,
        model.mean_,
        model.explained_variance_,
        frames,
        store.spec.digest(),
        {clip: record.arrays["features"].sha256 for clip, record in records.items()},
    )


def _packed_moments(block: Array) -> Array:
    # (1, 6, D): blocks are added up in their order by whoever asked, so the sum does not depend on who is
    # done first.
    part = reduce(add, (Moments.of(rows) for rows in _rows(block)))
    frames = np.full(block.shape[1], part.frames)
    return np.stack([frames, part.mean, part.squares, part.minimum, part.maximum, part.zeros])[None]


def _block_histograms(block: Array, edges: Array) -> Array:
    dim, bins = block.shape[1], len(edges) - 1
    counts = np.zeros(dim * bins, np.int64)
    for rows in _rows(block):
        values = rows.astype(np.float64)
        bin_of = np.searchsorted(edges, values, side="right") - 1
        bin_of[values == edges[-1]] = bins - 1
        counted = (bin_of >= 0) & (bin_of < bins)
        bin_of += np.arange(dim) * bins
        counts += np.bincount(bin_of[counted], minlength=dim * bins)
    return counts.reshape(1, dim, bins)


def _rows(block: Array) -> Iterator[Array]:
    for start in range(0, max(1, len(block)), ROWS):
        yield block[start : start + ROWS]


def _batches(store: Store, clips: Sequence[str], sizes: Sequence[int], dim: int) -> Iterator[Array]:
    coming = iter(sizes)
    batch, filled = np.empty((next(coming), dim)), 0
    for clip in clips:
        valid = store.read(clip, "valid")
        for start in range(0, len(valid), ROWS):
            stop = min(start + ROWS, len(valid))
            rows = store.read(clip, "features", start, stop)[valid[start:stop]]
            while len(rows):
                taken = rows[: len(batch) - filled]
                batch[filled : filled + len(taken)] = taken
                rows, filled = rows[len(taken) :], filled + len(taken)
                if filled == len(batch):
                    yield batch
                    batch, filled = np.empty((next(coming, 0), dim)), 0
