"""Reads DISFA+: twelve action units, intensity 0 to 5 in every frame, of nine people who act in trials.

Not DISFA, although its people are nine of DISFA's and keep their names; a mixture knows that.

Layout (as described by the authors of a public tool; where the pictures lie is not verified)::

    Labels/SN001/A1_AU1_TrailNo_1/AU1.txt       rows 000.jpg     0; frames from 000, no header
    Images/SN001/A1_AU1_TrailNo_1/000.jpg ...   or .png
    cropped_aligned/SN001_A1_AU1_TrailNo_1/00001.jpg ...    instead of Images; 00001 is 000; or cropped/

"TrailNo" is how the release spells it. A clip is a trial.
"""

import re
from pathlib import Path

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus
from extract.corpora.imagery import footage
from extract.corpora.imagery.footage import Reading
from extract.corpora.readers.disfa import AUS
from extract.parsing import codes, faults
from extract.parsing.codes import Layout
from extract.parsing.faults import some

FPS = 20.0
"""As DISFA, unverified; the text files do not say."""
SUBJECTS = 9

_SUBJECT = re.compile(r"SN[0-9]{3}")
_PICTURE = re.compile(r"([0-9]{1,6})\.(?:jpg|png)")


def load(root: Path, edition: str, *, au_threshold: int = 2) -> Corpus:
    """Reads the tree under ``root``; all clips are of the training split, since there is no official one.

    Args:
        root: folder with ``Labels`` and pictures.
        edition: without meaning here.
        au_threshold: least intensity, 1 to 5, that counts as present; 2 as for DISFA.

    Raises:
        ConfigError: no such threshold.
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    layout = Layout(
        _PICTURE, 0, codes.intensities(au_threshold), None, "000.jpg and an intensity from 0 to 5"
    )
    root = Path(root)
    place = footage.find(root, ("Images",), 2)
    reading = Reading(place)
    partial: list[str] = []
    trials = _trials(root / "Labels")
    for (subject, trial), paths in trials.items():
        clip = f"{subject}_{trial}"
        files = codes.read_units(paths, layout)
        partial += [clip] if len(files) < len(AUS) else []
        pictures = footage.read(place, clip, Path(subject, trial), 0)
        labels = footage.unit_labels(pictures, files, AUS, codes.ROW_TOLERANCE)
        reading.add(clip, pictures, labels, subject, FPS)

    subjects = {subject for subject, _ in trials}
    notes = [codes.intensity_note(au_threshold), *noting.count(len(subjects), SUBJECTS, "subjects")]
    if partial:
        notes.append(f"{len(partial)} trials have no file for some action units: {some(partial)}")
    return reading.corpus("disfaplus", root, (), AUS, notes)


def _trials(labels: Path) -> dict[tuple[str, str], dict[str, Path]]:
    """Subject and trial -> action unit -> file."""
    trials: dict[tuple[str, str], dict[str, Path]] = {}
    for path in faults.visible(labels, "*/*/*.txt"):
        if path.stem not in AUS:
            raise faults.stranger(path, "file of DISFA+", f"{', '.join(AUS)} as names")
        if _SUBJECT.fullmatch(path.parts[-3]) is None:
            raise faults.stranger(path.parents[1], "subject of DISFA+", "SN001 and so on, people of DISFA")
        trials.setdefault((path.parts[-3], path.parts[-2]), {})[path.stem] = path
    if not trials:
        raise faults.lacking(labels, "label", "SN001/A1_AU1_TrailNo_1/AU1.txt in it")
    return trials
