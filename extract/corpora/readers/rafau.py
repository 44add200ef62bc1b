"""Reads RAF-AU: the aligned faces of RAF-ML with the action units that they show.

Not RAF-ML's own labels, and not the landmarks (``RAFAU_landmark.txt``).

Layout (as read in public projects)::

    RAFAU_label.txt            0007.jpg 1+2+L12+25      or 0007.jpg null, which is unknown
    aligned/0007_aligned.jpg

The release has no split: all images train. Its people are not named.
"""

from collections.abc import Iterator
from pathlib import Path

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels
from extract.corpora.imagery import stills
from extract.parsing import facs, text
from extract.parsing.facs import Units
from extract.parsing.text import Line

LIST = "RAFAU_label.txt"
PLACES = ("aligned/aligned", "aligned", "Image/aligned")
RELEASE = {"images": 4_601, "images without action units": 253}


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``.

    The action units are all that the list names anywhere; what is seen on one side of the face is present.

    Args:
        root: folder with the list and ``aligned``.
        edition: not looked at.

    Raises:
        CorpusError: the list or the folder of images is missing, or a line is not as it should be.
    """
    root = Path(root)
    found, notes = text.once(_entries(root / LIST))
    units, cells, one_sided = facs.table(list(found.values()))
    labels = Labels.unknown(len(found), len(units))
    labels.au[:] = cells
    null = sum(shown is None for shown in found.values())
    notes += ["the release has no split: all images are of the training split"]
    notes += facs.notes(LIST, null, one_sided)
    notes += noting.differences(RELEASE, {"images": len(found), "images without action units": null})
    wanted = [f"{name.removesuffix('.jpg')}_aligned.jpg" for name in found]
    folder = stills.folder_of(root, PLACES)
    return stills.corpus("rafau", root, folder, wanted, labels, aus=units, notes=notes)


def _entries(path: Path) -> Iterator[tuple[Line, str, Units | None]]:
    for line in text.full_lines(path):
        name, units = line.halves()
        if not name.endswith(".jpg"):
            expected = "an image and action units such as 0007.jpg 1+2+L12+25, or null"
            raise line.error(expected)
        yield line, name, facs.parse(line, units)
