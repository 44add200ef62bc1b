"""Reads DISFA: twelve action units, intensity 0 to 5 in every frame, of 27 people who watch one film.

Not a video reader: ``facets crop`` cuts the videos first, or the user has crops of their frames.

Layout (label files as read in public code; that each has 4,845 frames is unverified)::

    ActionUnit_Labels/SN001/SN001_au1.txt       rows frame,intensity; frames from 1, no header
    cropped_aligned/LeftVideoSN001_comp/00001.jpg ...

A folder of pictures is called as the video (``LeftVideoSN001_comp``, ``RightVideoSN001_comp``, with or
without ``_comp``) or as the subject, ``SN001``; 00001 is frame 1. Instead of ``cropped_aligned`` it may lie
in ``cropped``, or in ``Images`` with names of any length, as .jpg or .png.

The clips ``SN001_left`` and ``SN001_right`` are two cameras on one person, under the same labels: no split
may divide them, and no more than one of them is needed.
"""

import re
from pathlib import Path

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus
from extract.corpora.imagery import footage
from extract.corpora.imagery.footage import Reading
from extract.parsing import codes, faults
from extract.parsing.codes import Codes, Layout
from extract.parsing.faults import some
from stores.errors import CorpusError

AUS = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26")
FPS = 20.0
"""Of the videos (S. M. Mavadati et al., IEEE Transactions on Affective Computing 4(2), 2013), unverified."""
SUBJECTS = 27

_SLACK = 15
"""Pictures that may follow the last code: public code that counts them finds 4,854 or 4,855 in a video."""
_OWN = ("Images", "images")
_FOLDERS = "LeftVideoSN001_comp, RightVideoSN001_comp or SN001"
_VIDEO = re.compile(r"(?:(Left|Right)Video)?(SN[0-9]{3})(?:_comp)?")
_FILE = re.compile(r"(SN[0-9]{3})_au([0-9]{1,2})\.txt")


def load(root: Path, edition: str, *, au_threshold: int = 2) -> Corpus:
    """Reads the tree under ``root``; all clips are of the training split, since there is no official one.

    Args:
        root: folder with ``ActionUnit_Labels`` and pictures.
        edition: without meaning here.
        au_threshold: least intensity, 1 to 5, that counts as present. 2 is what the field takes, such as the
            ABAW 2020 entry that trained on Aff-Wild2 and DISFA together (wtomin).

    Raises:
        ConfigError: no such threshold.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    layout = Layout(
        codes.NUMBER, 1, codes.intensities(au_threshold), ",", "frame,intensity: a frame from 1, then 0 to 5"
    )
    root = Path(root)
    place = footage.find(root, _OWN, 1)
    subjects = _subjects(root / "ActionUnit_Labels")
    videos = _videos(place.folder)
    if lacking := sorted(set(subjects) - {subject for _, subject, _ in videos}):
        msg = (
            f"{len(lacking)} annotated subjects have no folder in {place.folder}: {some(lacking)}; expected "
            f"{_FOLDERS}: put their pictures there, or take their labels away"
        )
        raise CorpusError(msg)

    reading = Reading(place)
    read: dict[str, dict[str, Codes]] = {}
    for clip, subject, folder in videos:
        if subject not in subjects:
            continue
        if subject not in read:
            read[subject] = codes.read_units(subjects[subject], layout)
        pictures = footage.read(place, folder, Path(folder), 1)
        reading.add(clip, pictures, footage.unit_labels(pictures, read[subject], AUS, _SLACK), subject, FPS)

    notes = [codes.intensity_note(au_threshold), *noting.count(len(subjects), SUBJECTS, "subjects")]
    if partial := [subject for subject, files in read.items() if len(files) < len(AUS)]:
        notes.append(f"{len(partial)} subjects have no file for some action units: {some(partial)}")
    if both := [clip.id for clip in reading.clips if clip.id.endswith("_right")]:
        notes.append(f"{len(both)} clips are of the right camera, of people whom the left may show as well")
    return reading.corpus("disfa", root, (), AUS, notes)


def _subjects(labels: Path) -> dict[str, dict[str, Path]]:
    """Subject -> action unit -> file."""
    subjects: dict[str, dict[str, Path]] = {}
    for path in faults.visible(labels, "*/*.txt"):
        match = _FILE.fullmatch(path.name)
        if match is None or match[1] != path.parent.name or f"AU{int(match[2])}" not in AUS:
            expected = f"SN001/SN001_au1.txt and so on for {', '.join(AUS)}"
            raise faults.stranger(path, "file of DISFA", expected)
        files = subjects.setdefault(match[1], {})
        if (other := files.setdefault(f"AU{int(match[2])}", path)) != path:
            raise faults.rival(path, other, f"AU{int(match[2])} of {match[1]}")
    if not subjects:
        raise faults.lacking(labels, "label", "SN001/SN001_au1.txt in it")
    return subjects


def _videos(folder: Path) -> list[tuple[str, str, str]]:
    """Clip, subject and folder of every video, by the name of its folder."""
    videos: dict[str, tuple[str, str, str]] = {}
    for path in faults.visible(folder, "*/"):
        match = _VIDEO.fullmatch(path.name)
        if match is None:
            raise faults.stranger(path, "video of DISFA", _FOLDERS)
        clip = match[2] + (f"_{match[1].lower()}" if match[1] else "")
        if clip in videos:
            raise faults.rival(path, folder / videos[clip][2], f"the clip {clip}")
        videos[clip] = (clip, match[2], path.name)
    return list(videos.values())
