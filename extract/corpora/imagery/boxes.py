"""Cuts faces out of pictures by the boxes that a corpus lists, for corpora that give pictures and boxes.

Not a detector and not an aligner: a box is made square around its centre, and a face is not turned upright.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from stores import commit, documents
from stores.errors import CorpusError
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)

QUALITY = 95
"""Of the JPEG files."""
MAX_SIDE = 1024
"""Of a crop, in pixels: a larger one is made smaller, for the extraction refuses what is far too large."""

RECORD = ".cut.json"
"""Beside the faces: the margin that they were cut with."""

# What Pillow raises for a damaged picture depends on its format and on the byte that is wrong.
DAMAGED = (
    OSError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    ValueError,
    SyntaxError,
    TypeError,
)


@dataclass(frozen=True, slots=True)
class Face:
    """One face to cut.

    Attributes:
        picture: file that it is in.
        box: left, top, right, bottom in pixels of the picture; the last two are just beyond the face.
        target: file that it becomes.
    """

    picture: Path
    box: tuple[float, float, float, float]
    target: Path


@dataclass(frozen=True, slots=True)
class CutReport:
    """What ``cut`` did.

    Attributes:
        written: how many faces were cut.
        unchanged: how many were there already.
        failed: picture and reason of each that could not be cut.
    """

    written: int
    unchanged: int
    failed: tuple[tuple[Path, str], ...]


def cut(
    faces: Iterable[Face], folder: Path, *, margin: float = 0.0, progress: Progress = silent
) -> CutReport:
    """Writes each face as a square JPEG; what lies outside of the picture is black.

    A face that is there already is left as it is, so that a run that was interrupted goes on.

    Args:
        faces: what to cut.
        folder: that all of them go to, at any depth; the margin is noted there.
        margin: how much larger than the longer side of the box the crop is, as a share of it.
        progress: called with step ``cut`` and the faces done.

    Raises:
        CorpusError: faces are there that were cut with another margin, or nobody knows with which.
    """
    listed = list(faces)
    _agree(listed, folder, margin)
    written = unchanged = 0
    failed: list[tuple[Path, str]] = []
    for done, face in enumerate(listed):
        progress("cut", len(listed), done)
        if face.target.exists():
            unchanged += 1
            continue
        try:
            _cut(face, margin)
        except DAMAGED as error:
            failed.append((face.picture, str(error)))
            logger.warning("%s: its face cannot be cut: %s", face.picture, error)
        else:
            written += 1
    progress("cut", len(listed), len(listed))
    return CutReport(written, unchanged, tuple(failed))


def _agree(faces: Sequence[Face], folder: Path, margin: float) -> None:
    """Passes if the faces that are there already were cut with this margin; notes it where none is there."""
    path = folder / RECORD
    if not any(face.target.exists() for face in faces):
        folder.mkdir(parents=True, exist_ok=True)
        commit.replace_file(path, documents.render({"margin": margin}))
        return
    try:
        noted = documents.read(path).get("margin")
    except FileNotFoundError:
        noted = None
    if noted != margin:
        made = "nobody noted with which margin" if noted is None else f"with a margin of {noted}"
        msg = (
            f"{folder} has faces already, cut {made}, and all should be cut alike, now with {margin}: remove"
            " the folder to cut them all again" + ("" if noted is None else f", or give --margin {noted}")
        )
        raise CorpusError(msg)


def _cut(face: Face, margin: float) -> None:
    left, top, right, bottom = face.box
    side = round(max(right - left, bottom - top) * (1 + margin))
    if right <= left or bottom <= top:
        msg = f"its box {face.box} is empty"
        raise ValueError(msg)
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    with Image.open(face.picture) as picture:
        crop = picture.convert("RGB").crop((x, y, x + side, y + side))
    if side > MAX_SIDE:
        crop = crop.resize((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    face.target.parent.mkdir(parents=True, exist_ok=True)
    part = face.target.with_name(f".{face.target.name}.{os.getpid()}")
    crop.save(part, "JPEG", quality=QUALITY)
    part.replace(face.target)
