"""Reads RAF-CE: aligned faces with compound expressions, the official split and action units.

Not the original pictures, and not what the list of action units leaves open: ``null`` is unknown.

Layout (as read in public projects)::

    RAFCE_emolabel.txt         name class, from 0 in the order of ``COMPOUND``
    RAFCE_partition.txt        name part: 0 train, 1 test, 2 validation
    RAFCE_AUlabel.txt          name units, such as 1+2+12, or null; how units are joined was not seen
    aligned/<name>_aligned.jpg

Names are written with or without ``.jpg``. The lists need not be in the same order. The people are not named.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from extract.corpora.clip import Corpus, Labels, Split
from extract.corpora.parsing import facs, image_lists, stills
from extract.corpora.parsing.facs import Units
from extract.corpora.parsing.image_lists import Line, Value
from extract.corpora.readers.affwild2.counts import differences
from extract.corpora.readers.rafau import PLACES
from stores.errors import CorpusError

logger = logging.getLogger(__name__)

COMPOUND = (
    "Happily surprised",
    "Happily disgusted",
    "Sadly fearful",
    "Sadly angry",
    "Sadly surprised",
    "Sadly disgusted",
    "Fearfully angry",
    "Fearfully surprised",
    "Fearfully disgusted",
    "Angrily surprised",
    "Angrily disgusted",
    "Disgustedly surprised",
    "Happily fearful",
    "Happily sad",
)
"""Class 0 first, as every public reader of the list has them."""
PARTS: tuple[Split, ...] = ("train", "test", "validation")
"""Part 0 first."""
EMOTIONS, PARTITION, UNITS = "RAFCE_emolabel.txt", "RAFCE_partition.txt", "RAFCE_AUlabel.txt"
RELEASE = {"images": 4_549}


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``.

    The partition says which images there are; what another list does not say of one is unknown. Without the
    list of action units there are none.

    Args:
        root: folder with the lists and ``aligned``.
        edition: not looked at.

    Raises:
        CorpusError: a list or the folder of images is missing, a line is not as it should be, or it is of an
            image that has no part.
    """
    root = Path(root)
    parts, repeated = image_lists.once(_entries(root / PARTITION, _part))
    emotions, again = image_lists.once(_known(_entries(root / EMOTIONS, _emotion), parts))
    shown: dict[str, Units | None] = {}
    notes = []
    repeated += again
    if (root / UNITS).is_file():
        shown, again = image_lists.once(_known(_entries(root / UNITS, facs.parse), parts))
        repeated += again
    else:
        notes.append(f"no {UNITS}: no action units")
    folder = stills.folder_of(root, PLACES)
    wanted = [f"{name}_aligned.jpg" for name in parts]
    there = stills.existing(folder, wanted)
    units, cells, one_sided = facs.table([shown.get(name) for name in parts])
    unknown = Labels.unknown(len(parts), len(units))
    expression = np.array([emotions.get(name, -1) for name in parts], np.int8)
    labels = Labels(unknown.valence, unknown.arousal, expression, cells)
    splits = [PARTS[part] for part in parts.values()]
    if lacking := sum(name not in emotions for name in parts):
        notes.append(f"{lacking} images are not in {EMOTIONS}: their expression is unknown")
    if shown:
        notes += facs.notes(UNITS, sum(found is None for found in shown.values()), one_sided)
        if lacking := sum(name not in shown for name in parts):
            notes.append(f"{lacking} images are not in {UNITS}: their action units are unknown")
    notes += [f"{repeated} lines repeat an earlier one and were read once"] if repeated else []
    notes += stills.missing(folder, wanted, there)
    notes += differences(RELEASE, Counter({"images": len(parts)}))
    for note in notes:
        logger.info("%s: %s", root, note)
    clips = stills.shards(folder, there, labels, stills.by_split(splits))
    return Corpus("rafce", root, "", COMPOUND, units, tuple(clips), tuple(notes))


def _entries(path: Path, parse: Callable[[Line, str], Value]) -> Iterator[tuple[Line, str, Value]]:
    for line in image_lists.read(path):
        name, text = line.halves()
        yield line, name.removesuffix(".jpg"), parse(line, text)


def _known(
    entries: Iterator[tuple[Line, str, Value]], parts: dict[str, int]
) -> Iterator[tuple[Line, str, Value]]:
    for line, name, value in entries:
        if name not in parts:
            msg = (
                f"{line.path}, line {line.number}: {name} is not in {PARTITION}, so that its split is not "
                "known: restore both files from the release"
            )
            raise CorpusError(msg)
        yield line, name, value


def _part(line: Line, text: str) -> int:
    return _class(line, text, len(PARTS), "part")


def _emotion(line: Line, text: str) -> int:
    return _class(line, text, len(COMPOUND), "class")


def _class(line: Line, text: str, count: int, noun: str) -> int:
    value = image_lists.whole(text, 0, count - 1)
    if value is None:
        expected = f"an image and a {noun} from 0 to {count - 1}"
        raise line.error(expected)
    return value
