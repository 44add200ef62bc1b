"""The feature bank: all clips of a split one after the other, with streams, labels and masks.

Labels are in the memory of the device (23 bytes a frame); features (float16: 4 KiB a frame of 2048 values)
are where ``temporal.data.placement`` puts them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stores import FeatureSpec, LabelSpec, Store
from stores.errors import ConfigError, SpecMismatch, StoreError, nearest
from temporal.data.placement import Features, Placement, Wanted, choose, dtype_of, placed
from temporal.data.projection import SPLITS, Projection
from temporal.settings import Run
from temporal.tasks import FACE, TASKS, TaskSpec

if TYPE_CHECKING:
    from temporal.data.scaling import Standardisers

LABEL_ARRAYS = ("valence", "arousal", "expression", "au")


def is_known(labels: Tensor, task: TaskSpec) -> Tensor:
    """Returns bool of the shape of ``labels``: which values of the task's label array are known."""
    return torch.isfinite(labels) if task.mask_rule == "finite" else labels >= 0


@dataclass(frozen=True, slots=True)
class Stream:
    """The vectors of one source, one for each frame of a split.

    Attributes:
        features: (F, D) float16 or float32, as stored; a tensor, or whatever gives the same rows.
        valid: (F,) bool; False where the source has nothing, such as a missing crop, and the row is zero.
        centres: (clips, D) float32, subtracted from the features of each clip; None for nothing.
    """

    features: Features
    valid: Tensor
    centres: Tensor | None = None

    @property
    def dim(self) -> int:
        """Length D of a feature vector."""
        return self.features.shape[1]


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """What a teacher says of every frame about one task.

    Attributes:
        values: (F, K) values or probabilities, finite.
        weight: (F,) float32, how much each frame's counts; 0 where the teacher says nothing.
    """

    values: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """All clips of one split, one after the other.

    Attributes:
        clips: clip ids.
        offsets: first row of each clip, then F.
        streams: by name, all of F frames; at least one.
        labels: (F,) or (F, K) per label array, unknown as in the store (NaN or -1).
        static: numbers of the clips whose rows are independent images.
        weight: (F,) float32, of each frame in the losses; None where all weigh 1.
        soft: a teacher's labels per task, for the tasks that have some.
    """

    clips: tuple[str, ...]
    offsets: tuple[int, ...]
    streams: Mapping[str, Stream]
    labels: Mapping[str, Tensor]
    static: frozenset[int] = frozenset()
    weight: Tensor | None = None
    soft: Mapping[str, SoftLabels] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where batches are made, and where ``valid`` and ``labels`` are."""
        return next(iter(self.streams.values())).valid.device

    @property
    def dims(self) -> dict[str, int]:
        """Length of the vectors of each stream."""
        return {name: stream.dim for name, stream in self.streams.items()}

    @property
    def frames(self) -> int:
        """Number of rows F."""
        return self.offsets[-1]

    @property
    def valid(self) -> Tensor:
        """(F,) bool, True where any stream has something."""
        return any_of([stream.valid for stream in self.streams.values()])

    def known(self, task: TaskSpec) -> Tensor:
        """Returns (F,) or (F, K) bool, True where the task has a label, with or without a crop."""
        return is_known(self.labels[task.array], task)

    def usable(self, task: TaskSpec, streams: Iterable[str] = ()) -> Tensor:
        """Returns (F,) or (F, K) bool, True where the loss may use a label.

        It is known, and one of ``streams`` (none named: any) has something at the frame.
        """
        known = self.known(task)
        valid = any_of([self.streams[name].valid for name in streams or self.streams])
        return known & (valid.unsqueeze(-1) if known.dim() == 2 else valid)

    def __repr__(self) -> str:
        streams = ", ".join(f"{name} {dim}" for name, dim in self.dims.items())
        return f"<Split: {len(self.clips)} clips, {self.frames} frames, {streams}, on {self.device}>"


def any_of(flags: Sequence[Tensor]) -> Tensor:
    """Returns where any of some arrays of bool is True; of one array it is that one."""
    return flags[0] if len(flags) == 1 else torch.stack(list(flags)).any(0)


@dataclass(frozen=True, slots=True)
class Bank:
    """Everything a sweep trains and evaluates on.

    Attributes:
        train: clips of the training split.
        validation: clips of the validation split.
        feature_specs: what made the features of each stream.
        label_spec: edition and names of the labels.
        reduction: the maps that have been applied to the features of ``feature_specs``; empty for none.
        projection: the settings that these maps were made by; None for none.
    """

    train: Split
    validation: Split
    feature_specs: Mapping[str, FeatureSpec]
    label_spec: LabelSpec
    reduction: "Standardisers" = field(default_factory=dict)
    projection: Projection | None = None

    def streams_of(self, run: Run) -> tuple[str, ...]:
        """Returns the streams that a run reads, in the order of the bank.

        Raises:
            ConfigError: the bank lacks one of them.
        """
        for name in run.streams:
            if name not in self.feature_specs:
                msg = f"{run.name} reads the stream {name!r}: {nearest(name, self.feature_specs)}"
                raise ConfigError(msg)
        return tuple(name for name in self.feature_specs if name in (run.streams or self.feature_specs))

    def __repr__(self) -> str:
        return f"<Bank: train {self.train!r}, validation {self.validation!r}>"


def load_bank(
    features: Store | Mapping[str, Store],
    labels: Store,
    *,
    division: Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
    placement: Wanted = "auto",
) -> Bank:
    """Reads the training and validation clips of feature stores and a label store.

    The label store decides: its clips, by their attribute ``split`` unless ``division`` says otherwise. Test
    clips and feature clips without labels are left out.

    Args:
        features: the feature store of each stream by its name; a store alone is the stream ``face``.
        labels: store of kind ``labels`` of the same corpus.
        division: clip -> ``train`` or ``validation``; clips that are absent from it are left out.
        device: where training and labels are.
        placement: where the features of both splits are: on the device, in host memory, in the store, or
            ``auto``, the first of these where they fit. Batches are the same to the last bit.

    Raises:
        SpecMismatch: a store is of the wrong kind.
        StoreError: labelled clips lack features, or a clip has different lengths in two stores.
        ConfigError: a split is empty, a stream has no store or no usable name, the division names a clip that
            has no labels, or the features do not fit where they were asked to be.
    """
    sources = dict(features) if isinstance(features, Mapping) else {FACE: features}
    specs, label_spec = _specs(sources, labels)
    members = _members(labels, division)
    records = {clip: labels.record(clip) for clips in members.values() for clip in clips}
    for name, store in sources.items():
        missing = [clip for clip in records if not store.has(clip)]
        if missing:
            shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            msg = (
                f"no features of stream {name} for {len(missing)} of {len(records)} labelled clips ({shown}):"
                " run 'facets features'"
            )
            raise StoreError(msg)
        for clip, record in records.items():
            found = store.record(clip).frames
            if found != record.frames:
                msg = (
                    f"clip {clip}: {found} frames of stream {name}, {record.frames} of labels; extract the"
                    " features again"
                )
                raise StoreError(msg)
    frames = {name: {clip: records[clip].frames for clip in clips} for name, clips in members.items()}
    home = torch.empty(0, device=device).device
    rows = sum(record.frames for record in records.values())
    size = rows * sum(spec.dim * dtype_of(spec).itemsize for spec in specs.values())
    chosen = choose(placement, size, home)
    train, validation = (
        _read_split(sources, labels, label_spec, frames[name], chosen, home) for name in SPLITS
    )
    return Bank(train, validation, specs, label_spec)


def _specs(sources: Mapping[str, Store], labels: Store) -> tuple[dict[str, FeatureSpec], LabelSpec]:
    """Returns what made each stream, and the labels."""
    specs = {}
    given: Mapping[str, object] = sources
    for name, store in given.items():
        if not isinstance(store, Store):
            msg = f"the stream {name!r} has no store, but {store!r}: open one, or leave the stream out"
            raise ConfigError(msg)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or hasattr(nn.ModuleDict, name):
            msg = f"a stream cannot be called {name!r}: give it another name, such as audio"
            raise ConfigError(msg)
        if not isinstance(store.spec, FeatureSpec):
            break
        specs[name] = store.spec
    if not isinstance(labels.spec, LabelSpec) or len(specs) < max(1, len(sources)):
        kinds = ", ".join(f"{name}: {store.spec.kind}" for name, store in sources.items())
        msg = (
            f"expected feature stores and a label store, found kinds {kinds or 'none'} and labels:"
            f" {labels.spec.kind}: swap or correct the paths"
        )
        raise SpecMismatch(msg)
    return specs, labels.spec


def _members(labels: Store, division: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Returns the clips of each split, in the order of the label store."""
    clips = labels.clips()
    if division is None:
        of = {clip: labels.record(clip).attrs.get("split") for clip in clips}
    else:
        of = dict(division)
        if unknown := sorted(set(of) - set(clips)):
            msg = f"the division names clip {unknown[0]}, which has no labels ({len(unknown)} such clips)"
            raise ConfigError(msg)
    members = {name: [clip for clip in clips if of.get(clip) == name] for name in SPLITS}
    for name, found in members.items():
        if not found:
            msg = f"no clip of the label store is in the split {name!r}: expected train and validation clips"
            raise ConfigError(msg)
    return members


def _read_split(
    sources: Mapping[str, Store],
    labels: Store,
    label_spec: LabelSpec,
    frames: Mapping[str, int],
    placement: Placement,
    device: torch.device,
) -> Split:
    clips = tuple(frames)
    offsets = (0, *np.cumsum(list(frames.values())).tolist())
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
    streams = {}
    for name, store in sources.items():
        valid = np.concatenate([store.read(clip, "valid") for clip in clips])
        matrix = placed(store, clips, offsets, placement, device)
        streams[name] = Stream(matrix, torch.from_numpy(valid).to(device))
    return Split(clips, offsets, streams, arrays, static, weight)
