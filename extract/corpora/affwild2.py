"""Reads an Aff-Wild2 tree of ABAW-1 or 2: cropped and aligned faces plus the VA, EXPR and AU annotations.

Not the single-file layouts of the multi-task editions, and not a copy of data: the corpus stays where it is.

Layout (ABAW release notes of FG2020 and ICCV2021; row and image conventions as read in the public entries)::

    cropped_aligned/<clip>/00001.jpg ...        row i of an annotation is frame i is {i+1:05d}.jpg
    annotations/{VA_Set,EXPR_Set,AU_Set}/{Train_Set,Validation_Set}/<clip>.txt      a header, then rows

``facets crop`` writes the same crops from videos, and a record of each video in ``crops/``.
"""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.corpora import annotation
from extract.corpora.clip import Clip, Corpus, CropFrames, Labels, Split
from extract.video import record
from stores import editions
from stores.errors import ConfigError, CorpusError

logger = logging.getLogger(__name__)

EDITIONS = ("abaw1", "abaw2")
FPS = 30.0
"""The release's text files carry no frame rate and the raw videos are not read; most of them run at 30."""
ROW_TOLERANCE = 2
"""Task files of one clip, and its crops, were counted by different tools: they differ by one or two rows."""

_SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("Train_Set", "Training_Set"),  # ABAW-2, ABAW-1
    "validation": ("Validation_Set",),
}
# Six digits at most: the longest clip of the release has 47,419 frames, and a stray 99999999.jpg must not
# become a timeline of a hundred million rows.
_CROP = re.compile(r"([0-9]{5}|[1-9][0-9]{5})\.jpg")


@dataclass(frozen=True, slots=True)
class _File:
    task: str
    split: Split
    path: Path


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``.

    A clip's timeline is dense: T is the largest of its row counts and its last crop; a frame without a crop
    is None, a label cell without a value is unknown. A clip that is in the training split of one task and in
    the validation split of another counts as validation and its training labels become unknown: they belong
    to neither official split. Folders of crops without any annotation are the test split. Clips that
    ``facets crop`` cut from videos have the videos' length and frame rate; they need no annotations at all.

    Args:
        root: folder with ``cropped_aligned`` and ``annotations``; the latter may lack beside ``crops``.
        edition: ``abaw1`` or ``abaw2``; its class and AU lists must be those in the file headers.

    Raises:
        ConfigError: unknown edition, or one with another layout.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    names = editions.edition(edition)
    if edition not in EDITIONS:
        msg = f"edition {edition} has another file layout: this reader reads {' and '.join(EDITIONS)}"
        raise ConfigError(msg)
    root = Path(root)
    crops_root = _folder(root, "cropped_aligned")
    origins = record.origins(root)
    formats = annotation.formats(names.expressions, names.aus)
    notes: list[str] = []

    files: dict[str, list[_File]] = {}
    if not origins or (root / "annotations").exists():
        files = _annotation_files(_folder(root, "annotations"), tuple(formats), notes)
    folders, stray = _subfolders(crops_root)
    without_crops = sorted(set(files) - set(folders))
    if without_crops:
        msg = (
            f"{len(without_crops)} annotated clips have no folder in {crops_root}: {_some(without_crops)}; "
            "unpack their crops there, or take their annotation files away"
        )
        raise CorpusError(msg)

    clips = []
    counts: dict[str, list[str]] = defaultdict(list)
    for clip_id in sorted(folders):
        clip_files = files.get(clip_id, [])
        present, strays = _crops(crops_root / clip_id)
        stray += strays
        tables = {file.task: annotation.read(file.path, formats[file.task]) for file in clip_files}
        origin = origins.get(clip_id)
        frames = _frames(clip_id, len(present), {task: len(table) for task, table in tables.items()}, counts)
        if origin is not None and not tables:
            frames = max(frames, origin.frames)
        split: Split = "test"
        if clip_files:
            split = "validation" if any(f.split == "validation" for f in clip_files) else "train"
        if len({file.split for file in clip_files}) > 1:
            counts["mixed"].append(clip_id)
        labels = Labels.unknown(frames, len(names.aus))
        for file in clip_files:
            if file.split == split:
                annotation.fill(labels, file.task, tables[file.task])
        timeline = np.zeros(frames, np.bool_)
        timeline[: len(present)] = present
        clips.append(
            Clip(
                clip_id,
                split,
                CropFrames(crops_root / clip_id, timeline),
                labels,
                FPS if origin is None else origin.fps,
                _video(clip_id) if origin is None else origin.video,
                origin=None if origin is None else origin.attrs,
            )
        )
    if not clips:
        msg = f"{crops_root} holds no clip folder: expected <clip>/00001.jpg in it; unpack the crops there"
        raise CorpusError(msg)

    notes += _notes(clips, counts, stray) + _origin_notes(clips)
    for note in notes:
        logger.info("%s: %s", root, note)
    return Corpus("affwild2", root, edition, names.expressions, names.aus, tuple(clips), tuple(notes))


def _folder(root: Path, name: str) -> Path:
    path = root / name
    if not path.is_dir():
        found = (
            ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
            if root.is_dir()
            else "no folder"
        )
        msg = (
            f"no folder {name} in {root} (found {found}): expected cropped_aligned/ and annotations/ as the "
            "ABAW release unpacks them; check corpus.root"
        )
        raise CorpusError(msg)
    return path


def _subfolders(path: Path) -> tuple[list[str], int]:
    """Names of the folders in ``path``, and how many other things lie there; hidden ones do not count."""
    with os.scandir(path) as entries:
        visible = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = [name for name, is_dir in visible if is_dir]
    return folders, len(visible) - len(folders)


def _annotation_files(root: Path, tasks: Sequence[str], notes: list[str]) -> dict[str, list[_File]]:
    """Every annotation file by clip id; an absent task or split is noted, a tree with none is an error."""
    files: dict[str, list[_File]] = defaultdict(list)
    for task in tasks:
        if not (root / task).is_dir():
            notes.append(f"no folder annotations/{task}: its labels are unknown everywhere")
            continue
        seen: dict[str, Path] = {}
        for split, names in _SPLIT_FOLDERS.items():
            folders = [root / task / name for name in names if (root / task / name).is_dir()]
            if not folders:
                notes.append(f"no folder annotations/{task}/{names[0]}: no {split} labels of this task")
            for folder in folders:
                for path in sorted(folder.glob("*.txt")):
                    if path.name.startswith("."):
                        continue
                    if path.stem in seen:
                        msg = f"{path} and {seen[path.stem]} annotate one clip for one task: keep one of them"
                        raise CorpusError(msg)
                    seen[path.stem] = path
                    files[path.stem].append(_File(task, split, path))
    if not files:
        msg = (
            f"no annotation file under {root}: expected "
            f"{{{','.join(tasks)}}}/{{Train_Set,Validation_Set}}/*.txt; unpack the annotations there"
        )
        raise CorpusError(msg)
    return files


def _crops(folder: Path) -> tuple[NDArray[np.bool_], int]:
    """Which frames of a clip have a crop, up to the last one, and how many other files lie beside them."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    numbers = [int(name[:-4]) for name in names if _CROP.fullmatch(name)]
    if not numbers:
        found = f"{len(names)} other files such as {min(names)}" if names else "nothing"
        msg = f"{folder} holds no crop (found {found}): expected 00001.jpg and so on; unpack the clip's crops"
        raise CorpusError(msg)
    if min(numbers) == 0:
        msg = (
            f"{folder / '00000.jpg'}: crops are numbered from 00001.jpg (= frame 0); rename this clip's crops"
        )
        raise CorpusError(msg)
    present = np.zeros(max(numbers), np.bool_)
    present[np.array(numbers) - 1] = True
    return present, len(names) - len(numbers)


def _frames(clip: str, crops: int, rows: dict[str, int], counts: dict[str, list[str]]) -> int:
    """T of a clip: the largest of its row counts and its last crop, which may differ by ``ROW_TOLERANCE``."""
    if not rows:
        return crops
    least, most = min(rows.values()), max(rows.values())
    if most - least > ROW_TOLERANCE or crops - most > ROW_TOLERANCE:
        found = ", ".join(f"{task} {count} rows" for task, count in rows.items())
        msg = (
            f"clip {clip}: {found}, last crop {crops:05d}.jpg: expected counts that differ by at most "
            f"{ROW_TOLERANCE}; one of the files is of another clip or cut short: restore it from the release"
        )
        raise CorpusError(msg)
    if most != least:
        counts["rows"].append(clip)
    if crops > most:
        counts["beyond"].append(clip)
    return max(most, crops)


def _video(clip: str) -> str:
    """The video of a clip: its id less ``_left`` or ``_right``, the only marks of two annotated people."""
    for suffix in ("_left", "_right"):
        if clip.endswith(suffix):
            return clip.removesuffix(suffix)
    return clip


def _notes(clips: Sequence[Clip], counts: dict[str, list[str]], stray: int) -> list[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        splits[clip.subject].add(clip.split)
    divided = [video for video, found in splits.items() if len(found) > 1]
    notes = []
    if test := [clip.id for clip in clips if clip.split == "test"]:
        notes.append(f"{len(test)} clips have no annotation file and are the test split: {_some(test)}")
    if mixed := counts["mixed"]:
        notes.append(
            f"{len(mixed)} clips are in the training split of one task and the validation split of another: "
            f"they count as validation, without their training labels: {_some(mixed)}"
        )
    if divided:
        notes.append(f"{len(divided)} videos have people in different splits: {_some(divided)}")
    if rows := counts["rows"]:
        notes.append(f"{len(rows)} clips have task files of different row counts: {_some(rows)}")
    if beyond := counts["beyond"]:
        notes.append(f"{len(beyond)} clips have crops beyond their last row: {_some(beyond)}")
    if stray:
        notes.append(f"{stray} files among the crops are not crops and were not read")
    return notes


def _origin_notes(clips: Sequence[Clip]) -> list[str]:
    """Says which clips were cut from videos, by what; crops of different makings do not look alike."""
    makers: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        if clip.origin is not None:
            makers[f"{clip.origin['detector']} ({str(clip.origin['maker_sha256'])[:12]})"].append(clip.id)
    notes = [
        f"{len(cut)} clips were cut from videos by detector {maker}: {_some(cut)}"
        for maker, cut in makers.items()
    ]
    if len(makers) > 1 or (makers and sum(map(len, makers.values())) < len(clips)):
        notes.append("not all crops were made alike: cut all videos anew, with one detector and its options")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
