"""The feature bank: all clips of a split in one array on the device, with labels, masks and statistics.

Not lazy: the features of a split must fit in the memory of the device (float16: 4 KiB per frame of 2048
values).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stores import FeatureSpec, LabelSpec, Store
from stores.errors import ConfigError, SpecMismatch, StoreError
from temporal.tasks import TASKS, TaskSpec
from temporal.windows import Ints, Windows

SPLITS = ("train", "validation")
LABEL_ARRAYS = ("valence", "arousal", "expression", "au")


def is_known(labels: Tensor, task: TaskSpec) -> Tensor:
    """Returns bool of the shape of ``labels``: which values of the task's label array are known."""
    return torch.isfinite(labels) if task.mask_rule == "finite" else labels >= 0


@dataclass(frozen=True, slots=True)
class Split:
    """All clips of one split, one after the other.

    Attributes:
        clips: clip ids.
        offsets: first row of each clip, then F.
        features: (F, D) float16 or float32, as stored.
        valid: (F,) bool; False where the crop is missing and the row is zero.
        labels: (F,) or (F, K) per label array, unknown as in the store (NaN or -1).
        static: numbers of the clips whose rows are independent images.
        weight: (F,) float32, of each frame in the losses; None where all weigh 1.
    """

    clips: tuple[str, ...]
    offsets: tuple[int, ...]
    features: Tensor
    valid: Tensor
    labels: Mapping[str, Tensor]
    static: frozenset[int] = frozenset()
    weight: Tensor | None = None

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
class Bank:
    """Everything a sweep trains and evaluates on.

    Attributes:
        train: clips of the training split.
        validation: clips of the validation split.
        feature_spec: what made the features.
        label_spec: edition and names of the labels.
    """

    train: Split
    validation: Split
    feature_spec: FeatureSpec
    label_spec: LabelSpec


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Mean and scale of each feature dimension over the valid frames of the training split.

    Attributes:
        mean: (D,) float32.
        std: (D,) float32, 1 where a dimension is constant.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, features: Tensor, valid: Tensor) -> Tensor:
        """Returns (..., D) float32 standardised features, exactly 0 where ``valid`` (...,) is False."""
        x = torch.sub(features.to(self.mean.dtype), self.mean).div_(self.std)
        return x.mul_(valid.unsqueeze(-1))

    def to(self, device: torch.device | str) -> "Standardiser":
        """Returns the same statistics on ``device``."""
        return Standardiser(self.mean.to(device), self.std.to(device))


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
    device = split.features.device
    frames = windows.frames[chosen]
    # A batch is as long as its longest window: where all clips are short, none is padded to the full length.
    steps = np.arange(frames.max())[None]
    within = np.minimum(steps, frames[:, None] - 1)
    rows = torch.from_numpy(windows.start[chosen][:, None] + within).to(device)
    real = torch.from_numpy(steps < frames[:, None]).to(device)
    usable = split.valid[rows] & real
    features = standardise(split.features[rows], usable)
    mask = real.to(features.dtype) if bool((frames < frames.max()).any()) else None
    return Batch(features, mask, usable, rows)


def statistics(split: Split, chunk: int = 8192) -> Standardiser:
    """Returns mean and population standard deviation over the valid frames, accumulated in float64.

    Raises:
        ConfigError: no frame of the split is valid.
    """
    count = int(split.valid.sum())
    if count == 0:
        msg = (
            "no valid frame in the training split: every crop is missing; check the corpus and extract again"
        )
        raise ConfigError(msg)
    dim = split.features.shape[1]
    mean, squares = (torch.zeros(dim, dtype=torch.float64, device=split.features.device) for _ in range(2))
    pieces = [(a, min(a + chunk, split.frames)) for a in range(0, split.frames, chunk)]
    for a, b in pieces:
        mean += split.features[a:b][split.valid[a:b]].double().sum(0)
    mean /= count
    for a, b in pieces:
        squares += (split.features[a:b][split.valid[a:b]].double() - mean).square().sum(0)
    std = (squares / count).sqrt()
    # A dimension that never moves carries nothing: leave it at 0 instead of dividing rounding errors by ~0.
    std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, 1.0)
    return Standardiser(mean.float(), std.float())


def identity(dim: int) -> Standardiser:
    """Returns the standardiser that changes nothing, for ``Training(standardise=False)``."""
    return Standardiser(torch.zeros(dim), torch.ones(dim))


def load_bank(features: Store, labels: Store, *, device: torch.device | str = "cpu") -> Bank:
    """Reads the training and validation clips of a feature store and a label store.

    The label store decides: its clips, by their attribute ``split``. Test clips and feature clips without
    labels are left out.

    Args:
        features: store of kind ``features``.
        labels: store of kind ``labels`` of the same corpus.
        device: where the arrays go.

    Raises:
        SpecMismatch: a store is of the wrong kind.
        StoreError: labelled clips lack features, or a clip has different lengths in the two stores.
        ConfigError: a split is empty.
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
    train, validation = (
        _read_split(features, labels, feature_spec, label_spec, frames[name], device) for name in SPLITS
    )
    return Bank(train, validation, feature_spec, label_spec)


def _read_split(
    features: Store,
    labels: Store,
    spec: FeatureSpec,
    label_spec: LabelSpec,
    frames: Mapping[str, int],
    device: torch.device | str,
) -> Split:
    clips = tuple(frames)
    offsets = (0, *np.cumsum(list(frames.values())).tolist())
    dtype = torch.float16 if spec.dtype == "float16" else torch.float32
    matrix = torch.empty((offsets[-1], spec.dim), dtype=dtype, device=device)
    valid = torch.empty(offsets[-1], dtype=torch.bool, device=device)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in LABEL_ARRAYS}
    for clip, first, end in zip(clips, offsets[:-1], offsets[1:], strict=True):
        matrix[first:end] = torch.from_numpy(features.read(clip, "features"))
        valid[first:end] = torch.from_numpy(features.read(clip, "valid"))
        for name in LABEL_ARRAYS:
            columns[name].append(labels.read(clip, name))
    arrays = {name: torch.from_numpy(np.concatenate(parts)).to(device) for name, parts in columns.items()}
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
    return Split(clips, offsets, matrix, valid, arrays, static, weight)
