"""Reads Aff-Wild2 as the challenge folders of an ABAW edition: crops plus per-clip VA, EXPR and AU files.

Not the single-file layouts of the multi-task tracks (``affwild2_mtl``), and not a copy of data: the corpus
stays where it is.

Layout (ABAW release notes; row and image conventions as read in the public entries)::

    cropped_aligned/<clip>/00001.jpg ...        row i of an annotation is frame i is {i+1:05d}.jpg
    <annotations>/<task>/<split>/<clip>.txt     a header, then rows

============  ===========================================  ===========================================
edition       <annotations>                                <task>
============  ===========================================  ===========================================
abaw1, abaw2  annotations                                  VA_Set, EXPR_Set, AU_Set
abaw3         Third ABAW Annotations                       VA_Estimation_Challenge,
abaw5         the root                                     EXPR_Classification_Challenge or
abaw6, abaw8  6th_ABAW_Annotations, 8th_ABAW_Annotations   EXPR_Recognition_Challenge,
abaw10        10th_ABAW_Annotations (assumed, not seen)    AU_Detection_Challenge
============  ===========================================  ===========================================

From abaw3 on the task folders may also lie in ``annotations`` or in the root. ``<split>`` is ``Train_Set`` or
``Training_Set``, and ``Validation_Set``. Test lists (``affwild2_lists``) may lie in the root, in
``test_set_examples`` or beside the task folders.

``facets crop`` writes the same crops from videos, and a record of each video in ``crops/``.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.corpora import notes as noting
from extract.corpora.clip import Clip, Corpus, CropFrames, Split, video_of
from extract.corpora.imagery import crop_folders
from extract.corpora.readers.affwild2 import annotation, counts, test_lists
from extract.corpora.readers.affwild2.annotation import TASKS, Table, Task
from extract.corpora.readers.affwild2.test_lists import TestList, Track
from extract.crops import journal
from extract.crops.journal import Origin
from extract.parsing.faults import found_in, some
from stores import editions
from stores.errors import ConfigError, CorpusError

FPS = 30.0
"""The release's text files carry no frame rate and the raw videos are not read; most of them run at 30."""
ROW_TOLERANCE = 2
"""Task files of one clip, and its crops, were counted by different tools: they differ by one or two rows."""

_SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("Train_Set", "Training_Set"),
    "validation": ("Validation_Set",),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where an edition keeps its annotations: folders to look in, in order, and spellings of the tasks."""

    places: tuple[str, ...]
    tasks: dict[Task, tuple[str, ...]]


def _challenges(*names: str) -> _Layout:
    return _Layout(
        (*names, "annotations", "."),
        {
            "VA": ("VA_Estimation_Challenge",),
            "EXPR": ("EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"),
            "AU": ("AU_Detection_Challenge",),
        },
    )


_SETS = _Layout(("annotations",), {"VA": ("VA_Set",), "EXPR": ("EXPR_Set",), "AU": ("AU_Set",)})
LAYOUTS: dict[str, _Layout] = {
    "abaw1": _SETS,
    "abaw2": _SETS,
    "abaw3": _challenges("Third ABAW Annotations"),
    "abaw5": _challenges(),
    "abaw6": _challenges("6th_ABAW_Annotations"),
    "abaw8": _challenges("8th_ABAW_Annotations"),
    "abaw10": _challenges("10th_ABAW_Annotations"),
}


@dataclass(frozen=True, slots=True)
class _File:
    task: Task
    split: Split
    path: Path


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``.

    A clip's timeline is dense: T is the largest of its row counts, its last crop and the last frame that a
    test list asks for; a frame without a crop is None, a label cell without a value is unknown. A clip that
    is in the training split of one task and in the validation split of another counts as validation and its
    training labels become unknown: they belong to neither official split. Crops without any annotation are
    the test split. A clip that one track tests and another annotates (Aff-Wild2 has many) keeps the split of
    its annotations. Clips that ``facets crop`` cut from videos have the videos' length and frame rate; they
    need no annotations at all.

    Args:
        root: folder with ``cropped_aligned`` and the annotations; the latter may lack beside ``crops``.
        edition: one of ``LAYOUTS``; its class and AU lists must be those in the file headers.

    Raises:
        ConfigError: unknown edition, or one with another layout.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    names = editions.edition(edition)
    if edition not in LAYOUTS:
        msg = (
            f"edition {edition} has another file layout: this reader reads {', '.join(LAYOUTS)}; "
            "corpus.kind affwild2_mtl reads those of the multi-task tracks"
        )
        raise ConfigError(msg)
    root = Path(root)
    crops_root = crop_folders.folder(root)
    origins = journal.origins(root)
    formats = annotation.formats(names.expressions, names.aus)
    notes: list[str] = []

    place = _annotations(root, LAYOUTS[edition], optional=bool(origins))
    files = {} if place is None else _annotation_files(root, place, LAYOUTS[edition], notes)
    lists = {
        track: test_lists.read(path, edition, track)
        for track, path in test_lists.find(root, place or root, edition, TASKS).items()
    }
    listed = _listed(lists)
    folders, stray = crop_folders.clip_folders(crops_root)
    crop_folders.check_folders(crops_root, [*files, *listed], folders)

    clips = []
    clips_with: dict[str, list[str]] = defaultdict(list)
    found = test_lists.counts(lists)
    for clip_id in sorted(folders):
        clip_files = files.get(clip_id, [])
        present, strays = crop_folders.present(crops_root / clip_id)
        stray += strays
        tables: dict[Task, Table] = {}
        for file in clip_files:
            tables |= annotation.read(file.path, formats[file.task]).tables
        rows = {file.path: len(tables[file.task]) for file in clip_files}
        origin = origins.get(clip_id)
        frames = _frames(crops_root / clip_id, len(present), rows, listed.get(clip_id, 0), origin, clips_with)
        split: Split = "test"
        if clip_files:
            split = "validation" if any(f.split == "validation" for f in clip_files) else "train"
        if len({file.split for file in clip_files}) > 1:
            clips_with["mixed"].append(clip_id)
        if clip_files and clip_id in listed:
            clips_with["tested"].append(clip_id)
        timeline = np.zeros(frames, np.bool_)
        timeline[: len(present)] = present
        _count(found, clip_files, tables, timeline)
        labels = {file.task: tables[file.task] for file in clip_files if file.split == split}
        clips.append(
            Clip(
                clip_id,
                split,
                CropFrames(crops_root / clip_id, timeline),
                annotation.to_labels(labels, frames, len(names.aus)),
                FPS if origin is None else origin.fps,
                video_of(clip_id) if origin is None else origin.video,
                origin=None if origin is None else origin.attrs,
                video="" if origin is None else origin.video,
            )
        )
    if not clips:
        msg = f"{crops_root} holds no clip folder: expected <clip>/00001.jpg in it; unpack the crops there"
        raise CorpusError(msg)

    notes += _notes(clips, listed, clips_with, stray) + _origin_notes(clips)
    notes += noting.differences(counts.RELEASES.get(edition, {}), found)
    return Corpus("affwild2", root, edition, names.expressions, names.aus, tuple(clips), tuple(notes))


def _annotations(root: Path, layout: _Layout, *, optional: bool) -> Path | None:
    """The folder that holds the task folders; None where there is none and none is needed."""
    tasks = [name for spellings in layout.tasks.values() for name in spellings]
    for place in layout.places:
        if any((root / place / task).is_dir() for task in tasks):
            return root / place
    own = [place for place in layout.places if place != "."]
    if optional and not any((root / place).exists() for place in own):
        return None
    for place in own:
        if (root / place).is_dir():
            msg = (
                f"no annotation file under {root / place} (found "
                f"{found_in(root / place)}): expected the folders {', '.join(tasks)}; unpack "
                "the annotations there, or choose the edition they are of"
            )
            raise CorpusError(msg)
    msg = (
        f"no folder {' or '.join(own)} in {root} (found {found_in(root)}): expected it to "
        f"hold {', '.join(tasks)} as the ABAW release unpacks them; check corpus.root and corpus.edition"
    )
    raise CorpusError(msg)


def _annotation_files(root: Path, place: Path, layout: _Layout, notes: list[str]) -> dict[str, list[_File]]:
    """Every annotation file by clip id; an absent task or split is noted, a tree with none is an error."""
    files: dict[str, list[_File]] = defaultdict(list)
    for task, spellings in layout.tasks.items():
        folders = [place / name for name in spellings if (place / name).is_dir()]
        if not folders:
            where = " or ".join(str((place / name).relative_to(root)) for name in spellings)
            notes.append(f"no folder {where}: its labels are unknown everywhere")
            continue
        seen: dict[str, Path] = {}
        for split, names in _SPLIT_FOLDERS.items():
            parts = [folder / name for folder in folders for name in names if (folder / name).is_dir()]
            if not parts:
                where = str((folders[0] / names[0]).relative_to(root))
                notes.append(f"no folder {where}: no {split} labels of this task")
            for path in [path for part in parts for path in sorted(part.glob("*.txt"))]:
                if path.name.startswith("."):
                    continue
                if path.stem in seen:
                    msg = f"{path} and {seen[path.stem]} annotate one clip for one task: keep one of them"
                    raise CorpusError(msg)
                seen[path.stem] = path
                files[path.stem].append(_File(task, split, path))
    if not files:
        tasks = ",".join(name for spellings in layout.tasks.values() for name in spellings)
        msg = (
            f"no annotation file under {place}: expected "
            f"{{{tasks}}}/{{Train_Set,Validation_Set}}/*.txt; unpack the annotations there"
        )
        raise CorpusError(msg)
    return files


def _listed(lists: Mapping[Track, TestList]) -> dict[str, int]:
    """Clip -> least length of its timeline, of every clip in a test list."""
    listed: dict[str, int] = {}
    for test_list in lists.values():
        for clip, frames in test_list.frames().items():
            listed[clip] = max(listed.get(clip, 0), frames)
    return listed


def _frames(
    folder: Path,
    crops: int,
    rows: Mapping[Path, int],
    listed: int,
    origin: Origin | None,
    clips_with: dict[str, list[str]],
) -> int:
    """T of a clip: the largest of its row counts, its last crop and its last listed frame.

    Row counts and the last crop may differ by ``ROW_TOLERANCE``. A video's rows may exceed its frames by as
    much; a test list may ask for any number, which is noted.
    """
    if not rows:
        return max(crops, listed, 0 if origin is None else origin.frames)
    (shortest, least), (longest, most) = min(rows.items(), key=_rows), max(rows.items(), key=_rows)
    counts = ", ".join(f"{path.parent.parent.name} {count} rows" for path, count in rows.items())
    counts += f", last crop {crops:05d}.jpg"
    expected = f"expected counts that differ by at most {ROW_TOLERANCE}"
    remedy = "one of the files is of another clip or cut short: restore it from the release"
    if most - least > ROW_TOLERANCE:
        where = _line(longest, least + ROW_TOLERANCE)
        msg = f"{where}: beyond the end of {shortest} (clip {folder.name}: {counts}), {expected}; {remedy}"
        raise CorpusError(msg)
    if crops - most > ROW_TOLERANCE:
        msg = f"{folder / f'{crops:05d}.jpg'}: beyond the end of {longest} ({counts}), {expected}; {remedy}"
        raise CorpusError(msg)
    if origin is not None and most - origin.frames > ROW_TOLERANCE:
        where = _line(longest, origin.frames + ROW_TOLERANCE)
        msg = (
            f"{where}: beyond the end of video {origin.video}, which has {origin.frames} frames ({counts}), "
            f"{expected}; annotations of another clip, or crops that were cut at another frame rate"
        )
        raise CorpusError(msg)
    if most != least:
        clips_with["rows"].append(folder.name)
    if crops > most:
        clips_with["beyond"].append(folder.name)
    if listed and abs(listed - most) > ROW_TOLERANCE:
        clips_with["listed"].append(folder.name)
    return max(most, crops, listed)


def _rows(item: tuple[Path, int]) -> int:
    return item[1]


def _line(path: Path, row: int) -> str:
    return f"{path}, line {row + 2} (frame {row})"


def _count(
    found: Counter[str], files: Sequence[_File], tables: Mapping[Task, Table], present: NDArray[np.bool_]
) -> None:
    """Adds what one clip holds to the counts that ``affwild2_counts`` compares."""
    found["crops"] += int(present.sum())
    for file in files:
        known = annotation.known(file.task, tables[file.task])
        found[f"{file.task} labels, {file.split}"] += int(known.sum())
        if file.task == "EXPR":
            with_crop = known & present[: len(known)]
            found[f"EXPR labels, {file.split}, with a crop"] += int(with_crop.sum())


def _notes(
    clips: Sequence[Clip], listed: Mapping[str, int], clips_with: Mapping[str, list[str]], stray: int
) -> list[str]:
    notes = []
    if test := [clip.id for clip in clips if clip.split == "test"]:
        notes.append(f"{len(test)} clips have no annotation file and are the test split: {some(test)}")
        if listed and (unlisted := sorted(set(test) - set(listed))):
            notes.append(f"{len(unlisted)} clips of the test split are in no test list: {some(unlisted)}")
    for kind, said in _NOTES.items():
        if names := clips_with.get(kind):
            notes.append(f"{len(names)} {said}: {some(names)}")
    notes += noting.divided(clips)
    if stray:
        notes.append(f"{stray} files among the crops are not crops and were not read")
    return notes


_NOTES = {
    "mixed": (
        "clips are in the training split of one task and the validation split of another: they count as "
        "validation, without their training labels"
    ),
    "tested": "clips are in a test list and annotated for another task: they keep the split of their labels",
    "rows": "clips have task files of different row counts",
    "beyond": "clips have crops beyond their last row",
    "listed": "clips have a test list that asks for another number of frames than their files have rows",
}


def _origin_notes(clips: Sequence[Clip]) -> list[str]:
    """Says which clips were cut from videos, by what; crops of different makings do not look alike."""
    makers: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip.origin is not None:
            makers[f"{clip.origin['detector']} ({str(clip.origin['maker_sha256'])[:12]})"].append(clip.id)
    notes = [
        f"{len(cut)} clips were cut from videos by detector {maker}: {some(cut)}"
        for maker, cut in makers.items()
    ]
    if len(makers) > 1 or (makers and sum(map(len, makers.values())) < len(clips)):
        notes.append("not all crops were made alike: cut all videos anew, with one detector and its options")
    return notes
