"""The feature bank: all clips of a split one after the other, with labels, masks and statistics.

Not where features lie, which is ``temporal.data.placement``: labels are in the memory of the device (23
bytes a frame), features (float16: 4 KiB a frame of 2048 values) are there too if they fit.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stores import FeatureSpec, LabelSpec, Store
from stores.errors import ConfigError, SpecMismatch, StoreError
from temporal.data.placement import Features, Placement, Wanted, choose, dtype_of, placed, read_ahead
from temporal.data.windows import Ints, Windows
from temporal.tasks import TASKS, TaskSpec

SPLITS = ("train", "validation")
LABEL_ARRAYS = ("valence", "arousal", "expression", "au")
CHUNK = 1024
"""Rows read at a time by whoever goes through a whole split: 16 MiB in float64 of 2048 dimensions."""


def is_known(labels: Tensor, task: TaskSpec) -> Tensor:
    """Returns bool of the shape of ``labels``: which values of the task's label array are known."""
    return torch.isfinite(labels) if task.mask_rule == "finite" else labels >= 0


@dataclass(frozen=True, slots=True)
class Split:
    """All clips of one split, one after the other.

    Attributes:
        clips: clip ids.
        offsets: first row of each clip, then F.
        features: (F, D) float16 or float32, as stored; a tensor, or whatever gives the same rows.
        valid: (F,) bool; False where the crop is missing and the row is zero.
        labels: (F,) or (F, K) per label array, unknown as in the store (NaN or -1).
        static: numbers of the clips whose rows are independent images.
        weight: (F,) float32, of each frame in the losses; None where all weigh 1.
        centres: (clips, D) float32, subtracted from the features of each clip; None for nothing.
    """

    clips: tuple[str, ...]
    offsets: tuple[int, ...]
    features: Features
    valid: Tensor
    labels: Mapping[str, Tensor]
    static: frozenset[int] = frozenset()
    weight: Tensor | None = None
    centres: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where batches are made, and where ``valid`` and ``labels`` are."""
        return self.valid.device

    @property
    def dim(self) -> int:
        """Length D of a feature vector."""
        return self.features.shape[1]

    @property
    def frames(self) -> int:
        """Number of rows F."""
        return self.offsets[-1]

    def known(self, task: TaskSpec) -> Tensor:
        """Returns (F,) or (F, K) bool, True where the task has a label, with or without a crop."""
        return is_known(self.labels[task.array], task)

    def usable(self, task: TaskSpec) -> Tensor:
        """Returns (F,) or (F, K) bool, True where the loss may use a label: known, on a frame with a crop."""
        known = self.known(task)
        return known & (self.valid.unsqueeze(-1) if known.dim() == 2 else self.valid)


@dataclass(frozen=True, slots=True)
class Standardiser:
    """A linear map of feature vectors: centred, scaled, and projected where there are components.

    Attributes:
        mean: (D,) float32.
        std: (D,) float32, 1 where a dimension is constant.
        components: (D, P) float32, on whose columns the scaled features are projected; None for no
            projection.
    """

    mean: Tensor
    std: Tensor
    components: Tensor | None = None

    def __call__(self, features: Tensor, valid: Tensor) -> Tensor:
        """Returns (..., D) or (..., P) float32, exactly 0 where ``valid`` (...,) is False."""
        x = torch.sub(features.to(self.mean.dtype), self.mean).div_(self.std)
        x.mul_(valid.unsqueeze(-1))
        return x if self.components is None else x @ self.components

    @property
    def dim(self) -> int:
        """Length of the vectors that come out, D or P."""
        return len(self.mean) if self.components is None else self.components.shape[1]

    def to(self, device: torch.device | str) -> "Standardiser":
        """Returns the same map on ``device``."""
        components = None if self.components is None else self.components.to(device)
        return Standardiser(self.mean.to(device), self.std.to(device), components)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the features of a bank come from, for whoever makes other features of them.

    Attributes:
        store: the feature store.
        placement: what was asked for.
        folder: where stores of reduced features go.
    """

    store: Store
    placement: Wanted
    folder: Path


@dataclass(frozen=True, slots=True)
class Bank:
    """Everything a sweep trains and evaluates on.

    Attributes:
        train: clips of the training split.
        validation: clips of the validation split.
        feature_spec: what made the features.
        label_spec: edition and names of the labels.
        origin: the feature store, or None for a bank that was made in memory.
        reduction: the map that has been applied to the features of ``feature_spec``; None for none.
    """

    train: Split
    validation: Split
    feature_spec: FeatureSpec
    label_spec: LabelSpec
    origin: Origin | None = None
    reduction: Standardiser | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows gathered from a split; T is the longest of them.

    Attributes:
        features: (B, T, D) float32, standardised, 0 on padding and on frames without a crop.
        mask: (B, T) float32, 0 on padding; None where no window of the batch is padded.
        usable: (B, T) bool, real frames with a crop: those that the loss may use.
        rows: (B, T) int64 rows of the split; padding repeats the last row of the clip.
    """

    features: Tensor
    mask: Tensor | None
    usable: Tensor
    rows: Tensor


def gather(split: Split, windows: Windows, chosen: Ints, standardise: Standardiser) -> Batch:
    """Gathers the windows numbered ``chosen`` from the bank.

    A frame without a crop keeps its place in time as a zero row; the loss leaves it out, while evaluation
    scores its prediction, which then comes from the frames around it: the ABAW challenges score every
    annotated frame.
    """
    return next(minibatches(split, windows, [chosen], standardise))


def minibatches(
    split: Split, windows: Windows, pieces: Iterable[Ints], standardise: Standardiser
) -> Iterator[Batch]:
    """Yields what ``gather`` returns for every piece; features from elsewhere are fetched one piece ahead."""
    pieces = list(pieces)
    indices = (torch.from_numpy(_rows(windows, chosen)) for chosen in pieces)
    for chosen, features in zip(pieces, read_ahead(split.features, indices), strict=True):
        yield _batch(split, windows, chosen, features, standardise)


def _rows(windows: Windows, chosen: Ints) -> Ints:
    # A batch is as long as its longest window: where all clips are short, none is padded to the full length.
    frames = windows.frames[chosen]
    within = np.minimum(np.arange(frames.max())[None], frames[:, None] - 1)
    return windows.start[chosen][:, None] + within


def _batch(
    split: Split, windows: Windows, chosen: Ints, features: Tensor, standardise: Standardiser
) -> Batch:
    frames = windows.frames[chosen]
    rows = torch.from_numpy(_rows(windows, chosen)).to(split.device)
    real = torch.from_numpy(np.arange(frames.max())[None] < frames[:, None]).to(split.device)
    usable = split.valid[rows] & real
    if split.centres is not None:
        clips = np.searchsorted(split.offsets, windows.start[chosen], side="right") - 1
        features = features - split.centres[torch.from_numpy(clips).to(split.device)].unsqueeze(1)
    x = standardise(features, usable)
    mask = real.to(x.dtype) if bool((frames < frames.max()).any()) else None
    return Batch(x, mask, usable, rows)


def rows_of_clips(
    split: Split, chunk: int = CHUNK, clips: Collection[str] | None = None
) -> Iterator[tuple[int, slice, Tensor]]:
    """Goes once through a split: yields clip number, rows, and their features (n, D) float32, centred.

    A piece is at most ``chunk`` rows of one clip, wherever the features lie, so that sums round equally.
    """
    pieces = [
        (number, slice(a, min(a + chunk, end)))
        for number, (clip, (first, end)) in enumerate(zip(split.clips, pairwise(split.offsets), strict=True))
        if clips is None or clip in clips
        for a in range(first, end, chunk)
    ]
    for (clip, rows), features in zip(
        pieces, read_ahead(split.features, (rows for _, rows in pieces)), strict=True
    ):
        x = features.float()
        yield clip, rows, x if split.centres is None else x - split.centres[clip]


def centred(split: Split) -> Split:
    """Returns the split with the mean of each clip's valid frames taken from its features.

    That mean knows the whole clip: predictions are no longer causal, whatever the network is. Static clips
    stay as they are: a row is a clip of its own, of which nothing would be left.
    """
    moving = {clip for number, clip in enumerate(split.clips) if number not in split.static}
    sums = torch.zeros((len(split.clips), split.dim), dtype=torch.float64, device=split.device)
    count = torch.zeros(len(split.clips), dtype=torch.float64, device=split.device)
    for clip, rows, x in rows_of_clips(split, clips=moving):
        valid = split.valid[rows]
        sums[clip] += x[valid].double().sum(0)
        count[clip] += valid.sum()
    return replace(split, centres=(sums / count.clamp_min(1.0).unsqueeze(1)).float())


def statistics(split: Split, chunk: int = CHUNK) -> Standardiser:
    """Returns mean and population standard deviation over the valid frames, accumulated in float64.

    One pass, pieces merged as in Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm
    for computing sample variances".

    Raises:
        ConfigError: no frame of the split is valid.
    """
    count = 0
    mean, squares = (torch.zeros(split.dim, dtype=torch.float64, device=split.device) for _ in range(2))
    for _, rows, x in rows_of_clips(split, chunk):
        seen = x[split.valid[rows]].double()
        if not len(seen):
            continue
        own = seen.mean(0)
        step, total = own - mean, count + len(seen)
        squares += seen.sub_(own).square_().sum(0) + step.square() * (count * len(seen) / total)
        mean += step * (len(seen) / total)
        count = total
    if count == 0:
        msg = (
            "no valid frame in the training split: every crop is missing; check the corpus and extract again"
        )
        raise ConfigError(msg)
    std = (squares / count).sqrt()
    # A dimension that never moves carries nothing: leave it at 0 instead of dividing rounding errors by ~0.
    std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, 1.0)
    return Standardiser(mean.float(), std.float())


def identity(dim: int) -> Standardiser:
    """Returns the standardiser that changes nothing, for ``Training(standardise=False)``."""
    return Standardiser(torch.zeros(dim), torch.ones(dim))


def load_bank(
    features: Store,
    labels: Store,
    *,
    device: torch.device | str = "cpu",
    placement: Wanted = "auto",
    folder: Path | None = None,
) -> Bank:
    """Reads the training and validation clips of a feature store and a label store.

    The label store decides: its clips, by their attribute ``split``. Test clips and feature clips without
    labels are left out.

    Args:
        features: store of kind ``features``.
        labels: store of kind ``labels`` of the same corpus.
        device: where training and labels are.
        placement: where the features of both splits are: on the device, in host memory, in the store, or
            ``auto``, the first of these where they fit. Batches are the same to the last bit.
        folder: where stores of reduced features are kept; by default beside ``features``.

    Raises:
        SpecMismatch: a store is of the wrong kind.
        StoreError: labelled clips lack features, or a clip has different lengths in the two stores.
        ConfigError: a split is empty, or the features do not fit where they were asked to be.
    """
    feature_spec, label_spec = features.spec, labels.spec
    if not isinstance(feature_spec, FeatureSpec) or not isinstance(label_spec, LabelSpec):
        msg = (
            f"expected a feature store and a label store, found kinds "
            f"{feature_spec.kind!r} and {label_spec.kind!r}: swap or correct the two paths"
        )
        raise SpecMismatch(msg)
    records = {clip: labels.record(clip) for clip in labels.clips()}
    members = {
        name: [c for c, record in records.items() if record.attrs.get("split") == name] for name in SPLITS
    }
    wanted = [clip for clips in members.values() for clip in clips]
    missing = [clip for clip in wanted if not features.has(clip)]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        msg = (
            f"no features for {len(missing)} of {len(wanted)} labelled clips ({shown}): run 'facets features'"
        )
        raise StoreError(msg)
    for clip in wanted:
        found, expected = features.record(clip).frames, records[clip].frames
        if found != expected:
            msg = f"clip {clip}: {found} frames of features, {expected} of labels; extract the features again"
            raise StoreError(msg)
    frames = {name: {clip: records[clip].frames for clip in clips} for name, clips in members.items()}
    for name, clips in members.items():
        if not clips:
            msg = f"no clip of the label store has split {name!r}: expected train, validation or test"
            raise ConfigError(msg)
    home = torch.empty(0, device=device).device
    size = sum(sum(clips.values()) for clips in frames.values()) * feature_spec.dim
    chosen = choose(placement, size * dtype_of(feature_spec).itemsize, home)
    train, validation = (
        _read_split(features, labels, label_spec, frames[name], chosen, home) for name in SPLITS
    )
    origin = Origin(features, placement, features.path.parent if folder is None else folder)
    return Bank(train, validation, feature_spec, label_spec, origin)


def _read_split(
    features: Store,
    labels: Store,
    label_spec: LabelSpec,
    frames: Mapping[str, int],
    placement: Placement,
    device: torch.device,
) -> Split:
    clips = tuple(frames)
    offsets = (0, *np.cumsum(list(frames.values())).tolist())
    valid = np.concatenate([features.read(clip, "valid") for clip in clips])
    columns = {name: np.concatenate([labels.read(clip, name) for clip in clips]) for name in LABEL_ARRAYS}
    arrays = {name: torch.from_numpy(values).to(device) for name, values in columns.items()}
    for task in TASKS.values():
        found = arrays[task.array].shape[1:]
        if task.metric == "binary" and found != (task.size(label_spec),):
            names = task.output_names(label_spec)
            msg = f"label array {task.array!r} has {found} columns, the label spec names {names}"
            raise SpecMismatch(msg)
    attrs = [labels.record(clip).attrs for clip in clips]
    static = frozenset(number for number, clip in enumerate(attrs) if clip.get("static", False))
    weights = np.array([clip.get("weight", 1.0) for clip in attrs], np.float32)
    weight = None
    if (weights != 1).any():
        weight = torch.from_numpy(np.repeat(weights, np.diff(offsets))).to(device)
    matrix = placed(features, clips, offsets, placement, device)
    return Split(clips, offsets, matrix, torch.from_numpy(valid).to(device), arrays, static, weight)
