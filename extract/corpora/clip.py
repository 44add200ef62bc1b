"""What every corpus reader yields: clips with a dense timeline, their labels, and the corpus around them."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from stores.documents import Json

Split = Literal["train", "validation", "test"]

_SIDES = ("_left", "_right")
MAX_STATIC_ROWS = 4096
"""Images per shard of a static corpus: the unit of commit stays small, and stores stay at few files."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of one clip, one row per frame; unknown is marked per cell, never dropped.

    Attributes:
        valence: (T,) float32 in [-1, 1], NaN = unknown.
        arousal: (T,) float32 in [-1, 1], NaN = unknown.
        expression: (T,) int8, index into ``Corpus.expression_names``, -1 = unknown.
        au: (T, K) int8, 0 or 1 per name of ``Corpus.au_names``, -1 = unknown.
    """

    valence: NDArray[np.float32]
    arousal: NDArray[np.float32]
    expression: NDArray[np.int8]
    au: NDArray[np.int8]

    def __post_init__(self) -> None:
        frames = len(self.valence)
        expected = {
            "valence": ((frames,), np.float32),
            "arousal": ((frames,), np.float32),
            "expression": ((frames,), np.int8),
            "au": ((frames, self.au.shape[-1]), np.int8),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                msg = (
                    f"label array {name}: found {array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape}"
                )
                raise ValueError(msg)

    @classmethod
    def unknown(cls, frames: int, aus: int) -> "Labels":
        """Labels of ``frames`` rows and ``aus`` action units in which every cell is unknown."""
        return cls(
            valence=np.full(frames, np.nan, np.float32),
            arousal=np.full(frames, np.nan, np.float32),
            expression=np.full(frames, -1, np.int8),
            au=np.full((frames, aus), -1, np.int8),
        )


class NamedFrames(Sequence[Path | None]):
    """Crops by name, as a sequence of ``Path | None`` indexed by frame; paths are made on demand."""

    __slots__ = ()

    @abstractmethod
    def name(self, frame: int) -> str | None:
        """Returns the path of the crop of ``frame``, not negative, as text; None where there is none.

        To make a ``Path``, and text of it again, takes a tenth as long as to decode the crop, and holds the
        interpreter's lock.
        """

    @overload
    def __getitem__(self, index: int) -> Path | None: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path | None, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path | None, ...] | None:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        name = self.name(range(len(self))[index])
        return None if name is None else Path(name)


class CropFrames(NamedFrames):
    """The crops ``{i+1:05d}.jpg`` of one folder.

    A tuple of ``Path`` costs about 0.3 KB a frame, 1 GB for the 2.9 million crops of Aff-Wild2, this one byte
    a frame.
    """

    __slots__ = ("directory", "present")

    def __init__(self, directory: Path, present: NDArray[np.bool_]) -> None:
        self.directory = directory
        self.present = present

    def __len__(self) -> int:
        return len(self.present)

    def name(self, frame: int) -> str | None:
        """Returns the path as text, see ``NamedFrames``."""
        return f"{self.directory}/{frame + 1:05d}.jpg" if self.present[frame] else None


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """What extraction needs of a clip, and all that travels to a worker: no labels, a byte a frame.

    Attributes:
        id: name of the clip.
        frames: length T; item i is the crop of frame i, or None where no face was found.
        origin: what made the crops, as far as known (``extract.crops.journal``); features keep it.
    """

    id: str
    frames: Sequence[Path | None]
    origin: Mapping[str, Json] | None = None


def video_of(clip_id: str) -> str:
    """Returns the video of a clip: its id less ``_left`` or ``_right``, which mark two people in it."""
    return clip_id.removesuffix(side) if (side := clip_id[clip_id.rfind("_") :]) in _SIDES else clip_id


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One person's continuous sequence in one video.

    A static clip is no sequence but a shard of at most ``MAX_STATIC_ROWS`` independent images, one per row in
    a deterministic order, homogeneous in split and, where people are known, in ``subject``.

    Attributes:
        id: name of the clip, unique in its corpus, such as ``video59_right``, or ``train-00003`` for a shard.
        split: ``train``, ``validation`` or ``test``.
        frames: length T; item i is the crop of frame i, or None where no face was found.
        labels: the labels of the same T frames.
        fps: frames per second of the video; 1 for static clips, which have none.
        subject: what no split may divide: the person, or else the source video (its stem); "" when unknown.
        audio: the sound of the clip, or None.
        origin: what made the crops, as far as known.
        static: whether the rows are independent images, so that no row is context of another.
        weight: of each labelled frame in the losses, positive; readers leave it at 1, mixtures set it.
        corpus: name of the corpus that the clip is of, in a mixture; "" is that of the corpus around it.
        video: the source video, which several clips may share; "" stands for ``video_of(id)``.
        scored: whether the corpus around it scores it; false for the parts of a mixture that only train.
    """

    id: str
    split: Split
    frames: Sequence[Path | None]
    labels: Labels
    fps: float
    subject: str
    audio: Path | None = None
    origin: Mapping[str, Json] | None = None
    static: bool = False
    weight: float = 1.0
    corpus: str = ""
    video: str = ""
    scored: bool = True

    def __post_init__(self) -> None:
        if not self.video:
            object.__setattr__(self, "video", video_of(self.id))
        if len(self.frames) != len(self.labels.valence):
            msg = f"clip {self.id}: {len(self.frames)} frames but {len(self.labels.valence)} label rows"
            raise ValueError(msg)
        if self.static and len(self.frames) > MAX_STATIC_ROWS:
            msg = f"static clip {self.id}: {len(self.frames)} images, at most {MAX_STATIC_ROWS} make a shard"
            raise ValueError(msg)
        if not (math.isfinite(self.weight) and self.weight > 0):
            msg = f"clip {self.id}: weight {self.weight}, expected a positive number"
            raise ValueError(msg)

    @property
    def crops(self) -> Crops:
        """The clip without its labels."""
        return Crops(self.id, self.frames, self.origin)


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A corpus read from disk.

    A reader names every class and every action unit that the corpus annotates, its native vocabulary, and
    none that it does not: ``extract.corpora.labelspace`` maps it to the names of the experiment.

    Attributes:
        name: of the corpus, such as ``affwild2``.
        root: folder it was read from.
        edition: whose label lists it follows, such as ``abaw2``; "" for corpora that are not of ABAW.
        expression_names: class names, index 0 first; empty where it has no expressions.
        au_names: action unit names, column 0 first; empty where it has no action units.
        clips: sorted by id.
        notes: what the reader tolerated, one sentence each, for the report.
    """

    name: str
    root: Path
    edition: str
    expression_names: tuple[str, ...]
    au_names: tuple[str, ...]
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()
