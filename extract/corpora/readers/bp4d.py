"""Reads BP4D: action units, present or not, in the coded part of eight tasks of 41 people.

Not BP4D+ (``AU_OCC`` of 140 people), and no 3D data.

Layout (as read in public code; the release and its description were not seen)::

    AUCoding/F001_T1.csv            row 1: anything, then AU numbers; rows frame,code,...: 0, 1, 9 = unknown
    AU-INT/AU06/F001_T1_AU06.csv    rows frame,intensity: 0 to 5, 9 = unknown; no header; AU 6 10 12 14 17
    BP4D-training/F001/T1/0012.jpg  pictures, named by the frame; or in Images/; .jpg or .png
    cropped_aligned/F001_T1/00012.jpg ...    instead of these; 00001 is frame 1; or cropped/

A clip is a task. About 500 frames of each are coded, from anywhere: labels of the others are unknown. Columns
are found by the number of their action unit in row 1, in whatever order; a column that is 9 in every file is
no action unit that the corpus annotates.
"""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels
from extract.corpora.imagery import footage
from extract.corpora.imagery.footage import Reading
from extract.parsing import codes, faults, text
from extract.parsing.codes import Codes, Layout
from extract.parsing.faults import some
from stores.errors import CorpusError

FPS = 25.0
"""Of the videos (X. Zhang et al., Image and Vision Computing 32(10), 2014), unverified."""
SUBJECTS = 41
GRADED = ("AU06", "AU10", "AU12", "AU14", "AU17")
"""Folders of the action units that have intensities."""

_CODING = "AUCoding"
_INTENSITY = ("AU-INT", "AU-Intensity-Codes3.0")
_VIDEO = re.compile(r"([FM][0-9]{3})_(T[1-8])")
_UNKNOWN = 9


def load(root: Path, edition: str, *, au_threshold: int | None = None) -> Corpus:
    """Reads the tree under ``root``; all clips are of the training split, since there is no official one.

    Args:
        root: folder with ``AUCoding`` and pictures.
        edition: without meaning here.
        au_threshold: None takes the occurrence codes, as the field does. From 1 to 5, those of the five
            action units that have intensities are replaced, in all videos: present from this intensity on,
            and unknown in videos without intensities.

    Raises:
        ConfigError: no such threshold.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    grades = {} if au_threshold is None else codes.intensities(au_threshold)
    root = Path(root)
    place = footage.find(root, ("BP4D-training", "Images"), 2)
    coded = {path.stem: _occurrence(path) for path in _coded(root / _CODING)}
    graded = _intensities(root, grades) if grades else {}
    if strange := sorted(set(graded) - set(coded)):
        msg = (
            f"{len(strange)} videos have intensities and no file in {root / _CODING}: {some(strange)}; "
            "restore the folder from the release"
        )
        raise CorpusError(msg)

    known = {unit for units, file in coded.values() for unit, _ in _annotated(units, file)}
    replaced = sorted({unit for files in graded.values() for unit in files})
    aus = sorted(known.union(replaced))
    reading = Reading(place)
    for clip, (units, file) in coded.items():
        subject, task = clip.split("_")
        files = [file, *graded.get(clip, {}).values()]
        pictures = footage.read(place, clip, Path(subject, task), 1)
        last = max(files, key=lambda file: file.end)
        labels = Labels.unknown(footage.length(pictures, last, None), len(aus))
        for unit, column in _annotated(units, file):
            labels.au[file.frames, aus.index(unit)] = column
        # Where a video has no intensities, its codes are no stand-in: they follow another threshold.
        labels.au[:, [aus.index(unit) for unit in replaced]] = -1
        for unit, intensity in graded.get(clip, {}).items():
            labels.au[intensity.frames, aus.index(unit)] = intensity.values[:, 0]
        reading.add(clip, pictures, labels, subject, FPS)

    subjects = {clip.subject for clip in reading.clips}
    notes = noting.count(len(subjects), SUBJECTS, "subjects")
    if au_threshold is not None:
        notes.append(f"of {_names(replaced)}, {codes.intensity_note(au_threshold)}")
    if empty := sorted({unit for units, _ in coded.values() for unit in units}.difference(aus)):
        notes.append(f"nothing is known of {_names(empty)}, which are left out")
    return reading.corpus("bp4d", root, (), [f"AU{unit}" for unit in aus], notes)


def _names(units: list[int]) -> str:
    return ", ".join(f"AU{unit}" for unit in units)


def _coded(folder: Path) -> list[Path]:
    """The files of occurrence codes."""
    paths = faults.visible(folder, "*.csv")
    if not paths:
        raise faults.lacking(folder, "label", "F001_T1.csv and so on, directly in it")
    for path in paths:
        if _VIDEO.fullmatch(path.stem) is None:
            raise faults.stranger(path, "file of BP4D", "names F001_T1.csv to M018_T8.csv")
    return paths


def _occurrence(path: Path) -> tuple[list[int], Codes]:
    """The action units of a file, one per column, and their codes."""
    lines = text.lines(path)
    cells = [text.whole(cell) for cell in lines[0].split(",")[1:]]
    units = [cell for cell in cells if cell is not None and 1 <= cell <= 99]
    if not cells or len(set(units)) < len(cells):
        expected = "the numbers of action units, each once, after the first cell"
        raise faults.fault(path, 1, lines[0], expected)
    expected = f"a frame from 1 and {len(units)} codes: 0, 1, or 9 for unknown"
    layout = Layout(codes.NUMBER, 1, {0: 0, 1: 1, _UNKNOWN: -1}, ",", expected)
    return units, codes.parse(path, lines[1:], 2, len(units), layout)


def _annotated(units: list[int], file: Codes) -> list[tuple[int, np.ndarray]]:
    """Action unit and codes of the columns of a file that are not all unknown."""
    columns = zip(units, file.values.T, strict=True)
    return [(unit, column) for unit, column in columns if (column >= 0).any()]


def _intensities(root: Path, grades: dict[int, int]) -> dict[str, dict[int, Codes]]:
    """Video -> action unit -> its file."""
    expected = "a frame from 1 and an intensity from 0 to 5, or 9 for unknown"
    layout = Layout(codes.NUMBER, 1, {**grades, _UNKNOWN: -1}, ",", expected)
    found: dict[str, dict[int, Codes]] = defaultdict(dict)
    for folder in [root / name / unit for name in _INTENSITY for unit in GRADED]:
        for path in faults.visible(folder, "*.csv"):
            video = path.stem.removesuffix(f"_{folder.name}")
            if _VIDEO.fullmatch(video) is None or video == path.stem:
                raise faults.stranger(path, "file of BP4D", f"F001_T1_{folder.name}.csv")
            file = codes.read(path, layout)
            if (other := found[video].setdefault(int(folder.name[2:]), file)) is not file:
                raise faults.rival(path, other.path, f"{folder.name} of {video}")
    if not found:
        places = " or ".join(str(root / name) for name in _INTENSITY)
        msg = (
            "au_threshold asks for intensities, and there are none: expected AU06/F001_T1_AU06.csv and so "
            f"on in {places}; unpack them, or leave au_threshold out"
        )
        raise CorpusError(msg)
    return found
