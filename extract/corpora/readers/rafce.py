"""Reads RAF-CE: aligned faces with compound expressions, the official split and action units.

Not the original pictures, and not what the list of action units leaves open: ``null`` is unknown.

Layout (as read in public projects)::

    RAFCE_emolabel.txt         name class, from 0 in the order of ``COMPOUND``
    RAFCE_partition.txt        name part: 0 train, 1 test, 2 validation
    RAFCE_AUlabel.txt          name units, such as 1+2+12, or null; how units are joined was not seen
    aligned/<name>_aligned.jpg

Names are written with or without ``.jpg``. The lists need not be in the same order. The people are not named.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels, Split
from extract.corpora.imagery import stills
from extract.corpora.readers.rafau import PLACES
from extract.parsing import facs, text
from extract.parsing.facs import Units
from extract.parsing.text import Line, Value
from stores.errors import CorpusError

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
    parts, notes = text.once(_entries(root / PARTITION, _part))
    emotions, more = text.once(_known(_entries(root / EMOTIONS, _emotion), parts))
    notes += more
    shown: dict[str, Units | None] = {}
    if (root / UNITS).is_file():
        shown, more = text.once(_known(_entries(root / UNITS, facs.parse), parts))
        notes += more
    else:
        notes.append(f"no {UNITS}: no action units")
    units, cells, one_sided = facs.table([shown.get(name) for name in parts])
    labels = Labels.unknown(len(parts), len(units))
    labels.expression[:] = [emotions.get(name, -1) for name in parts]
    labels.au[:] = cells
    if lacking := sum(name not in emotions for name in parts):
        notes.append(f"{lacking} images are not in {EMOTIONS}: their expression is unknown")
    if shown:
        notes += facs.notes(UNITS, sum(found is None for found in shown.values()), one_sided)
        if lacking := sum(name not in shown for name in parts):
            notes.append(f"{lacking} images are not in {UNITS}: their action units are unknown")
    notes += noting.differences(RELEASE, {"images": len(parts)})
    wanted = [f"{name}_aligned.jpg" for name in parts]
    splits = [PARTS[part] for part in parts.values()]
    folder = stills.folder_of(root, PLACES)
    return stills.corpus(
        "rafce", root, folder, wanted, labels, splits=splits, expressions=COMPOUND, aus=units, notes=notes
    )


def _entries(path: Path, parse: Callable[[Line, str], Value]) -> Iterator[tuple[Line, str, Value]]:
    for line in text.full_lines(path):
        name, rest = line.halves()
        yield line, name.removesuffix(".jpg"), parse(line, rest)


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


def _part(line: Line, cell: str) -> int:
    return _class(line, cell, len(PARTS), "part")


def _emotion(line: Line, cell: str) -> int:
    return _class(line, cell, len(COMPOUND), "class")


def _class(line: Line, cell: str, count: int, noun: str) -> int:
    value = text.index(cell, 0, count - 1)
    if value is None:
        expected = f"an image and a {noun} from 0 to {count - 1}"
        raise line.error(expected)
    return value
