"""Reads CK+: one of eight emotions, and the action units, at the peak of posed expressions of 123 people.

Not a guess about the other frames: a sequence goes from neutral to its peak, the last frame, which alone is
labelled; the first is not called neutral, nor are those between given a share of the peak.

Layout (as read in public code; the release was not seen)::

    cohn-kanade-images/S005/001/S005_001_00000011.png          frames from 1; or .jpg
    Emotion/S005/001/S005_001_00000011_emotion.txt             one number such as 3.0000000e+00
    FACS/S005/001/S005_001_00000011_facs.txt                   rows of action unit and intensity, as floats
    cropped_aligned/S005_001/00011.jpg ...                     instead of the images; or cropped/

A clip is a sequence, S005_001. Most sequences have no emotion: their folder is empty, or absent. An action
unit that a file does not list is absent; one of intensity 0 is present and was not graded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels
from extract.corpora.imagery import footage
from extract.corpora.imagery.footage import Reading
from extract.parsing import codes, faults, text
from extract.parsing.codes import Codes
from extract.parsing.faults import some

EXPRESSIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
"""By their number in the files; no file of the release has 0."""
FPS = 30.0
"""Of video in the USA, where they were recorded (T. Kanade et al., FG 2000), unverified."""
SEQUENCES, SUBJECTS, EMOTIONS = 593, 123, 327

_FILE = re.compile(r"((S[0-9]{3})_([0-9]{3}))_([0-9]{8})_(emotion|facs)\.txt")


@dataclass(frozen=True, slots=True)
class _Facs:
    """What one FACS file lists.

    Attributes:
        intensities: action unit -> intensity from 0, not graded, to 5.
        strange: file and line of codes that are no action unit.
    """

    intensities: Mapping[int, int]
    strange: tuple[str, ...]


def load(root: Path, edition: str, *, au_threshold: int = 1) -> Corpus:
    """Reads the tree under ``root``; all clips are of the training split, since there is no official one.

    Args:
        root: folder with ``Emotion``, ``FACS`` or both, and pictures.
        edition: without meaning here.
        au_threshold: least intensity, 1 to 5, that counts as present. 1 is every listed action unit, as the
            authors count them (P. Lucey et al., CVPR Workshops 2010; unverified); above 1, one that was not
            graded is unknown.

    Raises:
        ConfigError: no such threshold.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    # Not graded: present, but who knows how much.
    occurrence = codes.intensities(au_threshold) | {0: 1 if au_threshold == 1 else -1}
    root = Path(root)
    place = footage.find(root, ("cohn-kanade-images",), 2)
    emotion_files, facs_files = _files(root / "Emotion"), _files(root / "FACS")
    if not emotion_files and not facs_files:
        expected = "Emotion/S005/001/..._emotion.txt or FACS/S005/001/..._facs.txt"
        raise faults.lacking(root, "label", expected)
    coded = {clip: _facs(path) for clip, path in facs_files.items()}
    units = sorted({unit for facs in coded.values() for unit in facs.intensities})

    reading = Reading(place)
    early: list[str] = []
    for clip in sorted(emotion_files.keys() | facs_files.keys()):
        subject, sequence = clip.split("_")
        pictures = footage.read(place, clip, Path(subject, sequence), 1)
        peaks = [_peak(files[clip]) for files in (emotion_files, facs_files) if clip in files]
        last = max(peaks, key=lambda peak: peak.end)
        labels = Labels.unknown(footage.length(pictures, last, None), len(units))
        if clip in emotion_files:
            labels.expression[peaks[0].frames] = _emotion(emotion_files[clip])
        if clip in coded:
            # A code that is no action unit was meant for one of those that are not listed.
            row = np.full(len(units), -1 if coded[clip].strange else 0, np.int8)
            for unit, intensity in coded[clip].intensities.items():
                row[units.index(unit)] = occurrence[intensity]
            labels.au[peaks[-1].frames] = row
        if last.end < len(pictures.frames):
            early.append(clip)
        reading.add(clip, pictures, labels, subject, FPS)

    notes = [
        codes.intensity_note(au_threshold),
        *noting.count(len(reading.clips), SEQUENCES, "sequences"),
        *noting.count(len({clip.subject for clip in reading.clips}), SUBJECTS, "subjects"),
        *noting.count(len(emotion_files), EMOTIONS, "sequences with an emotion"),
    ]
    if early:
        notes.append(f"{len(early)} sequences go on after the frame that is labelled: {some(early)}")
    if strange := [where for facs in coded.values() for where in facs.strange]:
        notes.append(
            f"{len(strange)} codes are no action unit; those that their sequence does not list are unknown: "
            f"{some(strange)}"
        )
    return reading.corpus("ckplus", root, EXPRESSIONS, [f"AU{unit}" for unit in units], notes)


def _files(folder: Path) -> dict[str, Path]:
    """Sequence -> the file of its peak."""
    suffix = folder.name.lower()
    found: dict[str, Path] = {}
    for path in faults.visible(folder, "*/*/*.txt"):
        match = _FILE.fullmatch(path.name)
        expected = (*path.parts[-3:-1], suffix)
        if match is None or (match[2], match[3], match[5]) != expected or int(match[4]) == 0:
            raise faults.stranger(
                path, "file of CK+", f"names such as S005/001/S005_001_00000011_{suffix}.txt"
            )
        if match[1] in found:
            raise faults.rival(path, found[match[1]], f"the sequence {match[1]}")
        found[match[1]] = path
    return found


def _peak(path: Path) -> Codes:
    """Which frame a file labels: its name says."""
    frame = np.array([int(path.name.split("_")[2]) - 1], np.int32)
    return Codes(path, np.array([1], np.int32), frame, np.zeros((1, 0), np.int8), 1)


def _emotion(path: Path) -> int:
    lines = text.lines(path)
    emotion = text.whole(lines[0])
    if emotion is None or not 0 <= emotion < len(EXPRESSIONS):
        raise faults.fault(path, 1, lines[0], f"a whole number from 0 to {len(EXPRESSIONS) - 1}")
    if len(lines) > 1:
        raise faults.fault(path, 2, lines[1], "one emotion, in one line")
    return emotion


def _facs(path: Path) -> _Facs:
    """Blank lines are tolerated: nothing follows from the line that a code is in."""
    intensities: dict[int, int] = {}
    strange: list[str] = []
    for number, line in enumerate(text.lines(path), 1):
        cells = line.split()
        if not cells:
            continue
        unit, intensity = text.number(cells[0]), text.whole(cells[-1])
        if len(cells) != 2 or unit is None or intensity is None or not 0 <= intensity <= 5:
            expected = "an action unit and an intensity from 0, not graded, to 5"
            raise faults.fault(path, number, line, expected)
        if not unit.is_integer() or not 1 <= unit <= 99:
            strange.append(f"{unit:g} ({path}, line {number})")
        elif int(unit) in intensities:
            raise faults.fault(path, number, line, f"each action unit once, AU{unit:g} is in a line above")
        else:
            intensities[int(unit)] = intensity
    return _Facs(intensities, tuple(strange))
