"""Reads RAF-DB, the basic or the compound expressions: aligned faces and one list of classes.

Not the landmarks, attributes or votes of its ``Annotation`` folder, nor its original pictures.

Layout (as read in public projects; that of the compound set is assumed to be the same)::

    basic/EmoLabel/list_patition_label.txt          train_00001.jpg 5        ("patition" is how it is spelt)
    basic/Image/aligned/train_00001_aligned.jpg
    compound/...

Classes are counted from 1, in the order of ``BASIC`` and ``COMPOUND``. The names begin with the split, train
or test; there is no validation split.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels, Split
from extract.corpora.imagery import stills
from extract.parsing import text
from extract.parsing.text import Line
from stores.errors import ConfigError, CorpusError

BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
"""Class 1 first, as every public reader of the list has them."""
COMPOUND = (
    "Happily Surprised",
    "Happily Disgusted",
    "Sadly Fearful",
    "Sadly Angry",
    "Sadly Surprised",
    "Sadly Disgusted",
    "Fearfully Angry",
    "Fearfully Surprised",
    "Angrily Surprised",
    "Angrily Disgusted",
    "Disgustedly Surprised",
)
"""Class 1 first, as the labels are explained in public code; the release itself was not seen."""
SETS = {"basic": BASIC, "compound": COMPOUND}
RELEASES = {
    "basic": {"images, train": 12_271, "images, test": 3_068},
    "compound": {"images": 3_954},
}
LIST = "EmoLabel/list_patition_label.txt"

_IMAGE = re.compile(r"(train|test)_[0-9]+\.jpg")


def load(root: Path, edition: str, *, classes: str = "basic") -> Corpus:
    """Reads the tree under ``root``.

    Args:
        root: folder that holds ``basic`` or ``compound``, or is it and is called so: the two lists look the
            same, and nothing else tells them apart.
        edition: not looked at.
        classes: ``basic`` or ``compound``.

    Raises:
        ConfigError: other classes.
        CorpusError: the list or the folder of images is missing, or a line is not as it should be.
    """
    if classes not in SETS:
        msg = f"rafdb: option classes: found {classes!r}, expected one of {', '.join(SETS)}"
        raise ConfigError(msg)
    root = Path(root)
    base = root if root.absolute().name == classes else root / classes  # absolute: "." has no name
    path = base / LIST
    if not path.is_file():
        msg = (
            f"no {path}: expected {classes}/{LIST} in the root of the corpus, unless the root is the folder "
            f"{classes}; check corpus.root and the option classes"
        )
        raise CorpusError(msg)
    folder = stills.folder_of(base, ("Image/aligned/aligned", "Image/aligned"))
    names = SETS[classes]
    found, notes = text.once(_entries(path, len(names)))
    labels = Labels.unknown(len(found), 0)
    labels.expression[:] = np.fromiter(found.values(), np.int8, len(found)) - 1
    splits: list[Split] = ["train" if name.startswith("train") else "test" for name in found]
    counts = Counter(f"images, {split}" for split in splits) + Counter({"images": len(found)})
    notes += [
        f"{counts['images, train']} images of training, {counts['images, test']} of test: none validates",
        *noting.differences(RELEASES[classes], counts),
    ]
    wanted = [f"{name.removesuffix('.jpg')}_aligned.jpg" for name in found]
    return stills.corpus("rafdb", root, folder, wanted, labels, splits=splits, expressions=names, notes=notes)


def _entries(path: Path, classes: int) -> Iterator[tuple[Line, str, int]]:
    for line in text.full_lines(path):
        name, cell = line.halves()
        value = text.index(cell, 1, classes)
        if value is None or not _IMAGE.fullmatch(name):
            expected = f"an image and a class from 1 to {classes}, such as train_00001.jpg 5"
            raise line.error(expected)
        yield line, name, value
