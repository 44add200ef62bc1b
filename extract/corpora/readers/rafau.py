"""Reads RAF-AU: the aligned faces of RAF-ML with the action units that they show.

Not RAF-ML's own labels, and not the landmarks (``RAFAU_landmark.txt``).

Layout (as read in public projects)::

    RAFAU_label.txt            0007.jpg 1+2+L12+25      or 0007.jpg null, which is unknown
    aligned/0007_aligned.jpg

The release has no split: all images train. Its people are not named.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from extract.corpora.clip import Corpus, Labels, Split
from extract.corpora.parsing import facs, image_lists, stills
from extract.corpora.parsing.facs import Units
from extract.corpora.parsing.image_lists import Line
from extract.corpora.readers.affwild2.counts import differences

logger = logging.getLogger(__name__)

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
    found, repeated = image_lists.once(_entries(root / LIST))
    folder = stills.folder_of(root, PLACES)
    wanted = [f"{name.removesuffix('.jpg')}_aligned.jpg" for name in found]
    there = stills.existing(folder, wanted)
    units, cells, one_sided = facs.table(list(found.values()))
    unknown = Labels.unknown(len(found), len(units))
    labels = Labels(unknown.valence, unknown.arousal, unknown.expression, cells)
    null = sum(shown is None for shown in found.values())
    notes = ["the release has no split: all images are of the training split"]
    notes += facs.notes(LIST, null, one_sided)
    notes += [f"{repeated} lines repeat an earlier one and were read once"] if repeated else []
    notes += stills.missing(folder, wanted, there)
    notes += differences(RELEASE, Counter({"images": len(found), "images without action units": null}))
    for note in notes:
        logger.info("%s: %s", root, note)
    splits: list[Split] = ["train"] * len(found)
    clips = stills.shards(folder, there, labels, stills.by_split(splits))
    return Corpus("rafau", root, "", (), units, tuple(clips), tuple(notes))


def _entries(path: Path) -> Iterator[tuple[Line, str, Units | None]]:
    for line in image_lists.read(path):
        name, text = line.halves()
        if not name.endswith(".jpg"):
            expected = "an image and action units such as 0007.jpg 1+2+L12+25, or null"
            raise line.error(expected)
        yield line, name, facs.parse(line, text)
