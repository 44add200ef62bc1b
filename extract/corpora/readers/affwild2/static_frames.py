"""Reads s-Aff-Wild2, the frames of the multi-task tracks: crops plus one annotation file per split.

Not the per-clip files of the single-task tracks (``affwild2``), nor the synthetic images of ABAW-4.

Layout (ABAW release notes; conventions as read in the public entries)::

    cropped_aligned/<clip>/00001.jpg ...
    Third ABAW Annotations/MTL_Challenge/{train_set,validation_set}.txt    abaw3
    {training,validation}_set_annotations.txt                              abaw4
    MTL/{training,validation}_set_annotations.txt                          abaw7, abaw11

``PLACES`` has the other places that are looked through; both spellings are read in all of them. The header is
``image,valence,arousal,expression,aus``, a row ``<clip>/00012.jpg,v,a,expression,au1,...,au12``. Markers of
unknown are those of the single tracks: below -1 (-5) in V or A, -1 for the expression, -1 per AU.

Rows name their crop, are sparse (frames 1, 8, 17, ...) and may name one twice: of the releases, 951 rows of
training and 210 of validation repeat a name. ``read`` keeps every row in the order of the file, which is what
the organisers' scores and lists count. ``load`` puts them on the real timeline of their clip, where a frame
has one value per label: that of the first row, in the order of the file, that knows it. Rows of one frame
thus complete each other, and those that contradict the first are counted in a note.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.corpora import notes as noting
from extract.corpora.clip import Clip, Corpus, CropFrames, Labels, Split, video_of
from extract.corpora.imagery import crop_folders
from extract.corpora.readers.affwild2 import annotation, counts, test_lists
from extract.corpora.readers.affwild2.challenge import FPS
from extract.corpora.readers.affwild2.frame_names import CropNames
from extract.parsing.faults import found_in, some
from stores import editions
from stores.errors import ConfigError, CorpusError

PLACES = {
    "abaw3": ("Third ABAW Annotations/MTL_Challenge", "MTL_Challenge", "annotations", "."),
    "abaw4": (".", "annotations"),
    "abaw7": ("MTL", "annotations", "."),
    "abaw11": ("MTL", "annotations", "."),
}
"""Edition -> where its files may lie; the first place that has any is read."""
_FILES: dict[Split, tuple[str, ...]] = {
    "train": ("training_set_annotations.txt", "train_set.txt"),
    "validation": ("validation_set_annotations.txt", "validation_set.txt"),
}
_PRECEDENCE: tuple[Split, ...] = ("validation", "train", "test")
"""Of the splits that a clip is in, the first counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one file, in its order; N of them.

    Attributes:
        path: of the file; row i is its line i + 2.
        names: the crops, one may come twice.
        labels: what the rows say of them.
    """

    path: Path
    names: CropNames
    labels: Labels


@dataclass(slots=True)
class _Seen:
    """What is worth a note.

    Attributes:
        stray: files among the crops that are none.
        named: frames that are named, each once.
        read: those of them that have a crop.
        unnamed: crops that no row names.
        mixed: clips of more than one split.
        contradicting: lines that say something else than an earlier one of the same frame.
    """

    stray: int
    named: int = 0
    read: int = 0
    unnamed: int = 0
    mixed: list[str] = field(default_factory=list)
    contradicting: dict[Split, list[int]] = field(default_factory=lambda: defaultdict(list))


def read(path: Path, edition: str) -> Rows:
    """Reads one annotation file.

    Raises:
        ConfigError: no such edition, or one without multi-task files.
        CorpusError: the file does not follow the format; the message has file and line.
    """
    names = _names(edition)
    parsed = annotation.read(path, annotation.multitask(names.expressions, names.aus))
    return Rows(path, parsed.names, annotation.to_labels(parsed.tables, parsed.count, len(names.aus)))


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``.

    A clip's timeline is dense: T is the last frame that a row or the test list names, plus one; a frame that
    none names has no crop and no labels, even if its crop is there, because the rules of these tracks exclude
    Aff-Wild2 beyond the named frames. Of rows that name one frame, the first in the file that knows a label
    decides it. A clip in both files counts as validation, without its training labels; one that is only in
    the test list is the test split.

    Args:
        root: folder with ``cropped_aligned`` and the annotation files.
        edition: one of ``PLACES``.

    Raises:
        ConfigError: no such edition, or one without multi-task files.
        CorpusError: a folder or file is missing or does not follow the format, or a row names a frame beyond
            the last crop of its clip; names file and line.
    """
    names = _names(edition)
    root = Path(root)
    crops_root = crop_folders.folder(root)
    place, paths = _annotation_files(root, edition)
    files = {split: read(path, edition) for split, path in paths.items()}
    lists = {
        track: test_lists.read(path, edition, track)
        for track, path in test_lists.find(root, place, edition, ("MTL",)).items()
    }
    sources = {split: file.names for split, file in files.items()}
    if "MTL" in lists and lists["MTL"].rows is not None:
        sources["test"] = lists["MTL"].rows
    rows: dict[str, dict[Split, NDArray[np.intp]]] = defaultdict(dict)
    for split, source in sources.items():
        for clip_id, indices in _by_clip(source).items():
            rows[clip_id][split] = indices
    folders, stray = crop_folders.clip_folders(crops_root)
    crop_folders.check_folders(crops_root, list(rows), folders)

    seen = _Seen(stray)
    clips: list[Clip] = []
    for clip_id, parts in sorted(rows.items()):
        crops, strays = crop_folders.present(crops_root / clip_id)
        seen.stray += strays
        for part in [part for part in files if part in parts]:
            _check_end(files[part], parts[part], crops_root / clip_id, len(crops))
        named = _named([sources[part].frame[indices] for part, indices in parts.items()])
        timeline = named.copy()
        timeline[: len(crops)] &= crops[: len(named)]
        timeline[len(crops) :] = False
        seen.named += int(named.sum())
        seen.read += int(timeline.sum())
        seen.unnamed += int(crops.sum()) - int(timeline.sum())
        split = next(split for split in _PRECEDENCE if split in parts)
        if len(parts) > 1:
            seen.mixed.append(clip_id)
        labels = Labels.unknown(len(named), len(names.aus))
        if split in files:
            contradicting = _join(labels, files[split], parts[split])
            seen.contradicting[split] += (parts[split][contradicting] + 2).tolist()
        frames = CropFrames(crops_root / clip_id, timeline)
        clips.append(Clip(clip_id, split, frames, labels, FPS, video_of(clip_id)))

    notes = _notes(files, seen, sorted(set(folders) - rows.keys())) + noting.divided(clips)
    found = _counts(files) + test_lists.counts(lists)
    notes += noting.differences(counts.MULTITASK[edition], found)
    return Corpus("affwild2_mtl", root, edition, names.expressions, names.aus, tuple(clips), tuple(notes))


def _names(edition: str) -> editions.Edition:
    names = editions.edition(edition)
    if edition not in PLACES:
        msg = f"edition {edition} has no multi-task files: expected one of {', '.join(PLACES)}"
        raise ConfigError(msg)
    return names


def _annotation_files(root: Path, edition: str) -> tuple[Path, dict[Split, Path]]:
    """The folder of the annotation files, and the file of each split that is there."""
    for place in PLACES[edition]:
        paths: dict[Split, Path] = {}
        for split, names in _FILES.items():
            found = [root / place / name for name in names if (root / place / name).is_file()]
            if len(found) > 1:
                msg = f"{found[0]} and {found[1]} annotate one split: keep the one of the edition"
                raise CorpusError(msg)
            if found:
                paths[split] = found[0]
        if paths:
            return root / place, paths
    expected = ", ".join(name for spellings in _FILES.values() for name in spellings)
    places = " or ".join(str(root / place) for place in PLACES[edition])
    msg = (
        f"no multi-task annotation file in {root} (found {found_in(root)}): expected any of "
        f"{expected} in {places}; unpack the annotations there"
    )
    raise CorpusError(msg)


def _by_clip(names: CropNames) -> dict[str, NDArray[np.intp]]:
    """Clip -> its rows, in the order of the file."""
    order = np.argsort(names.clip, kind="stable")
    bounds = np.searchsorted(names.clip[order], np.arange(1, len(names.clips)))
    return dict(zip(names.clips, np.split(order, bounds), strict=True))


def _named(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.bool_]:
    """(T,) which frames any of the parts names; T is the last one plus one."""
    named = np.zeros(max(int(frames.max()) for frames in parts) + 1, np.bool_)
    for frames in parts:
        named[frames] = True
    return named


def _check_end(file: Rows, indices: NDArray[np.intp], folder: Path, crops: int) -> None:
    beyond = file.names.frame[indices] >= crops
    if beyond.any():
        row = int(indices[beyond.argmax()])
        msg = (
            f"{file.path}, line {row + 2}: {file.names.name(row)} is beyond the end of {folder}, whose last "
            f"crop is {crops:05d}.jpg: expected a crop that is there; unpack the clip's crops again"
        )
        raise CorpusError(msg)


def _join(labels: Labels, file: Rows, indices: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Puts the rows of a clip on its timeline; returns which of them contradict an earlier one."""
    frames = file.names.frame[indices]
    contradicting = np.zeros(len(indices), np.bool_)
    for target, source in zip(_cells(labels), _cells(file.labels), strict=True):
        values = source[indices]
        known = np.flatnonzero(values >= -1 if values.dtype.kind == "f" else values >= 0)
        # Of values for one frame, the last to be assigned stays: from the last row to the first.
        target[frames[known[::-1]]] = values[known[::-1]]
        contradicting[known] |= target[frames[known]] != values[known]
    return contradicting


def _cells(labels: Labels) -> list[NDArray[Any]]:
    """(T,) views, one per label of a frame."""
    return [labels.valence, labels.arousal, labels.expression, *labels.au.T]


def _notes(files: Mapping[Split, Rows], seen: _Seen, unnamed: Sequence[str]) -> list[str]:
    notes = [f"no {names[0]}: no {split} labels" for split, names in _FILES.items() if split not in files]
    for split, file in files.items():
        if repeated := file.names.repeated():
            note = (
                f"{repeated} rows of {file.path.name} name a crop that an earlier row names: they complete it"
            )
            if lines := seen.contradicting[split]:
                note += f"; {len(lines)} contradict it and do not count there, the first in line {min(lines)}"
            notes.append(note)
    if seen.mixed:
        notes.append(
            f"{len(seen.mixed)} clips are in more than one of training, validation and test: they count as "
            f"validation if they are in it, else as training: {some(seen.mixed)}"
        )
    if seen.named > seen.read:
        notes.append(f"{seen.named - seen.read} of {seen.named} named frames have no crop")
    if seen.unnamed:
        notes.append(f"{seen.unnamed} crops are named by no row and were not read, as the rules have it")
    if unnamed:
        notes.append(
            f"{len(unnamed)} folders of crops are named by no row and were not read: {some(unnamed)}"
        )
    if seen.stray:
        notes.append(f"{seen.stray} files among the crops are not crops and were not read")
    return notes


def _counts(files: Mapping[Split, Rows]) -> Counter[str]:
    found: Counter[str] = Counter()
    for split, file in files.items():
        labels = file.labels
        found[f"rows, {split}"] = len(file.names)
        found[f"clips, {split}"] = len(file.names.clips)
        found[f"repeated names, {split}"] = file.names.repeated()
        found[f"VA labels, {split}"] = int((~np.isnan(labels.valence)).sum())
        found[f"EXPR labels, {split}"] = int((labels.expression >= 0).sum())
        found[f"AU labels, {split}"] = int((labels.au >= 0).any(axis=1).sum())
    return found
