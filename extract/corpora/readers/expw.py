"""Reads ExpW, faces of everyday pictures: one list of boxes and expressions, and a folder of cut faces.

Not a reader of whole pictures: a picture shows several people, and only its boxes tell whose label is whose.

Layout (the list as read in public projects)::

    label.lst                       image face_id top left right bottom confidence label
    origin/<image>                  the pictures
    faces/<image stem>_<face_id>.jpg    cut from them by ``facets cut``

The box is top, left, **right, bottom**, in pixels. Labels count from 0 in the order of ``EXPRESSIONS``. The
confidence is that of the face detector; all faces are read unless ``min_confidence`` says otherwise. The
release has no split, and names nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels
from extract.corpora.imagery import boxes, stills
from extract.corpora.imagery.boxes import CutReport, Face
from extract.parsing import text
from extract.parsing.faults import found_in
from extract.parsing.text import Line
from stores.errors import CorpusError
from stores.progress import Progress, silent

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Label 0 first, in the order of the release's own notes, as public projects have it."""
LIST, PICTURES, FACES = "label.lst", "origin", "faces"
RELEASE = {"faces": 91_793}


@dataclass(frozen=True, slots=True)
class Row:
    """What the list says of one face.

    Attributes:
        image: name of the picture.
        face: number of the face in it.
        box: left, top, right, bottom in pixels.
        confidence: of the detector.
        label: index into ``EXPRESSIONS``.
    """

    image: str
    face: int
    box: tuple[float, float, float, float]
    confidence: float
    label: int

    @property
    def crop(self) -> str:
        """Name of its crop, which has the number of the face: pictures with several would overwrite them."""
        return f"{PurePosixPath(self.image).stem}_{self.face}.jpg"


def load(root: Path, edition: str, *, min_confidence: float | None = None) -> Corpus:
    """Reads the tree under ``root``.

    Faces are ordered by picture, and those of one picture share a shard; within a picture they keep the order
    of the list.

    Args:
        root: folder with ``label.lst`` and ``faces``.
        edition: not looked at.
        min_confidence: faces that the detector was less sure of are left out; None for all.

    Raises:
        CorpusError: the list or the folder of faces is missing, or a line is not as it should be.
    """
    root = Path(root)
    rows, notes = _read(root)
    if min_confidence is not None:
        kept = [row for row in rows if row.confidence >= min_confidence]
        notes.append(f"{len(rows) - len(kept)} faces of a confidence below {min_confidence:g} were left out")
        rows = kept
    if not rows:
        msg = f"{root}: no face is left of {LIST}: lower the option min_confidence"
        raise CorpusError(msg)
    if not (root / FACES).is_dir():
        msg = (
            f"no folder {FACES} in {root} (found {found_in(root)}): expected a crop of each face, called "
            f"<image>_<face_id>.jpg; cut them out of the pictures by facets cut expw {root}"
        )
        raise CorpusError(msg)
    pictures = {image: number for number, image in enumerate(dict.fromkeys(row.image for row in rows))}
    labels = Labels.unknown(len(rows), 0)
    labels.expression[:] = [row.label for row in rows]
    notes.append(
        f"{len(rows)} faces of {len(pictures)} pictures, all of the training split: the release has no other"
    )
    return stills.corpus(
        "expw",
        root,
        root / FACES,
        [row.crop for row in rows],
        labels,
        expressions=EXPRESSIONS,
        picture=np.array([pictures[row.image] for row in rows], np.intp),
        notes=notes,
    )


def cut_faces(root: Path, *, margin: float = 0.0, progress: Progress = silent) -> CutReport:
    """Cuts every face of the list out of ``root/origin`` into ``root/faces``; see ``boxes.cut``.

    Raises:
        CorpusError: the list or the folder of pictures is missing, a line is not as it should be, or faces
            are there that were cut with another margin.
    """
    root = Path(root)
    rows, _ = _read(root)
    pictures = stills.folder_of(root, (PICTURES,))
    faces = [Face(pictures / row.image, row.box, root / FACES / row.crop) for row in rows]
    return boxes.cut(faces, root / FACES, margin=margin, progress=progress)


def _read(root: Path) -> tuple[list[Row], list[str]]:
    """The faces ordered by picture, and what is to be noted about the list."""
    found, notes = text.once((line, row.crop, row) for line, row in _rows(root / LIST))
    notes += noting.differences(RELEASE, {"faces": len(found)})
    return sorted(found.values(), key=lambda row: row.image), notes


def _rows(path: Path) -> Iterator[tuple[Line, Row]]:
    for line in text.full_lines(path):
        fields = line.text.split()
        row = _row(fields) if len(fields) == 8 else None
        if row is None:
            expected = (
                "8 fields: image, face, top, left, right, bottom, confidence and a label from 0 to "
                f"{len(EXPRESSIONS) - 1}"
            )
            raise line.error(expected)
        yield line, row


def _row(fields: list[str]) -> Row | None:
    image, face, *cells, last = fields
    number, label = text.index(face, 0, 9_999), text.index(last, 0, len(EXPRESSIONS) - 1)
    numbers = [value for value in map(text.number, cells) if value is not None]
    if number is None or label is None or len(numbers) < len(cells):
        return None
    top, left, right, bottom, confidence = numbers
    return Row(image, number, (left, top, right, bottom), confidence, label)
