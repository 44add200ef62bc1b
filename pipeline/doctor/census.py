"""The census of a corpus: counts of its clips by corpus and split, in one pass over arrays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import TASKS
from stores import Store
from stores.documents import Json

if TYPE_CHECKING:
    from extract.corpora import Clip, Corpus

SPLITS = ("train", "validation", "test")
BINS = 20
"""Of the histograms of valence and arousal, over [-1, 1]."""

Counts = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Tally:
    """What the clips of one corpus in one split hold.

    Attributes:
        corpus: name of the corpus; "" for all of them.
        split: ``train``, ``validation`` or ``test``.
        classes: (C,) frames of each class.
        active: (K,) cells of each action unit that are 1.
        known: (K,) cells of each action unit that are annotated.
        clips: number of clips, shards included.
        shards: those of them whose rows are independent images.
        frames: rows of all clips.
        crops: rows with a crop, or a valid feature vector if features are given.
        subjects: the people, or videos, that are known.
        nameless: clips whose subject is not known.
        labelled: task -> rows with a label of it.
        usable: task -> those of them that have a crop.
        partial: rows of which some action units are annotated and some are not.
        histograms: ``V`` and ``A`` -> (BINS,) rows.
        extremes: ``V`` and ``A`` -> least and greatest value; (inf, -inf) without any.
        empty: clips without any crop.
        cut: clips that have labels for so many rows behind their last crop.
    """

    corpus: str
    split: str
    classes: Counts
    active: Counts
    known: Counts
    clips: int = 0
    shards: int = 0
    frames: int = 0
    crops: int = 0
    subjects: set[str] = field(default_factory=set)
    nameless: int = 0
    labelled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TASKS, 0))
    usable: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TASKS, 0))
    partial: int = 0
    histograms: dict[str, Counts] = field(
        default_factory=lambda: {task: np.zeros(BINS, np.int64) for task in "VA"}
    )
    extremes: dict[str, tuple[float, float]] = field(
        default_factory=lambda: dict.fromkeys("VA", (np.inf, -np.inf))
    )
    empty: list[str] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)

    def add(self, clip: "Clip", crops: NDArray[np.bool_]) -> None:
        """Counts one more clip; ``crops`` (T,) are the rows that a run can see."""
        labels = clip.labels
        self.clips += 1
        self.shards += clip.static
        self.frames += len(crops)
        self.crops += int(np.count_nonzero(crops))
        if clip.subject:
            self.subjects.add(clip.subject)
        else:
            self.nameless += 1
        annotated = labels.au >= 0
        some = annotated.any(axis=1)
        rows = {
            "V": np.isfinite(labels.valence),
            "A": np.isfinite(labels.arousal),
            "AU": some,
            "EXPR": labels.expression >= 0,
        }
        for task, known in rows.items():
            self.labelled[task] += int(np.count_nonzero(known))
            self.usable[task] += int(np.count_nonzero(known & crops))
        self.known += np.count_nonzero(annotated, axis=0)
        self.active += np.count_nonzero(labels.au == 1, axis=0)
        self.partial += int(np.count_nonzero(some & ~annotated.all(axis=1)))
        self.classes += np.bincount(labels.expression[rows["EXPR"]], minlength=len(self.classes))
        for task, values in (("V", labels.valence[rows["V"]]), ("A", labels.arousal[rows["A"]])):
            if len(values):
                bins = np.clip(((values + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
                self.histograms[task] += np.bincount(bins, minlength=BINS)
                least, greatest = self.extremes[task]
                self.extremes[task] = (
                    min(least, float(values.min())),
                    max(greatest, float(values.max())),
                )
        if not crops.any():
            self.empty.append(clip.id)
            return
        labelled = np.any([*rows.values()], axis=0)
        end = int(np.flatnonzero(crops)[-1]) + 1
        if behind := int(np.count_nonzero(labelled[end:])):
            self.cut[clip.id] = behind

    def to_json(self) -> dict[str, Json]:
        """Returns the counts as a JSON object."""
        return {
            "corpus": self.corpus,
            "split": self.split,
            "clips": self.clips,
            "shards": self.shards,
            "frames": self.frames,
            "crops": self.crops,
            "subjects": len(self.subjects),
            "clips_without_subject": self.nameless,
            "labelled": dict(self.labelled),
            "labelled_with_crop": dict(self.usable),
            "partly_annotated_au_frames": self.partial,
            "classes": self.classes.tolist(),
            "au_active": self.active.tolist(),
            "au_known": self.known.tolist(),
            "valence": self.histograms["V"].tolist(),
            "arousal": self.histograms["A"].tolist(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """What a corpus holds.

    Attributes:
        name: of the corpus.
        expression_names: names of the classes.
        au_names: names of the action units.
        parts: one tally for each corpus and split that has clips.
        splits: the same over all corpora; every split is there.
        notes: what the readers tolerated.
        given: whether features of a stream are given: a row with a valid vector counts as one with a crop.
    """

    name: str
    expression_names: tuple[str, ...]
    au_names: tuple[str, ...]
    parts: tuple[Tally, ...]
    splits: dict[str, Tally]
    notes: tuple[str, ...]
    given: bool = False

    @property
    def seen(self) -> str:
        """The name of what a run sees of a frame."""
        return "feature vector" if self.given else "crop"

    @property
    def trained(self) -> dict[str, dict[str, int]]:
        """Corpus -> task -> labelled frames of the training split."""
        return {tally.corpus: tally.labelled for tally in self.parts if tally.split == "train"}

    def to_json(self) -> dict[str, Json]:
        """Returns the census as a JSON object."""
        return {
            "name": self.name,
            "expressions": list(self.expression_names),
            "aus": list(self.au_names),
            "parts": [tally.to_json() for tally in self.parts],
            "notes": list(self.notes),
        }


def take(corpus: "Corpus", valid: "Callable[[Clip], NDArray[np.bool_]] | None" = None) -> Census:
    """Counts the clips, frames and labels of ``corpus``; takes memory for one clip at a time.

    Args:
        corpus: the corpus.
        valid: which rows of a clip a run can see, if features are given; by default those with a crop.
    """
    parts: dict[tuple[str, str], Tally] = {}
    splits = {name: _blank("", name, corpus) for name in SPLITS}
    for clip in corpus.clips:
        key = clip.corpus or corpus.name, clip.split
        if key not in parts:
            parts[key] = _blank(*key, corpus)
        seen = present(clip.frames) if valid is None else valid(clip)
        for tally in (parts[key], splits[clip.split]):
            tally.add(clip, seen)
    ordered = sorted(parts.values(), key=lambda tally: (tally.corpus, SPLITS.index(tally.split)))
    names = corpus.expression_names, corpus.au_names
    return Census(corpus.name, *names, tuple(ordered), splits, corpus.notes, valid is not None)


def present(frames: "Sequence[object | None]") -> NDArray[np.bool_]:
    """Returns (T,) whether each frame has a crop, without making a path for it."""
    from extract.corpora import CropFrames

    if isinstance(frames, CropFrames):
        return frames.present
    return np.fromiter((path is not None for path in frames), np.bool_, len(frames))


def visible(given: Iterable[Store], clip: "Clip", *, crops: bool) -> NDArray[np.bool_]:
    """Returns (T,) whether each frame of a clip has a valid vector in any store, or a crop if ``crops``."""
    found = present(clip.frames).copy() if crops else np.zeros(len(clip.frames), bool)
    for store in given:
        if store.has(clip.id):
            valid = store.read(clip.id, "valid")[: len(found)]
            found[: len(valid)] |= valid
    return found


def some(names: Iterable[str]) -> str:
    """Returns the first few names, for a message."""
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def _blank(corpus: str, split: str, of: "Corpus") -> Tally:
    lengths = (len(of.expression_names), len(of.au_names), len(of.au_names))
    classes, active, known = (np.zeros(length, np.int64) for length in lengths)
    return Tally(corpus, split, classes, active, known)
