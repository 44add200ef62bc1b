"""The pictures of a corpus of videos: crops as ``facets crop`` writes them, or the corpus' own folders.

Not a reader of labels, and no picture is opened: folders are listed, once each.

Either ``cropped_aligned/<clip>/00001.jpg`` (or ``cropped/...``), where 00001 is the first frame, a gap is a
frame without a face, and ``crops/<video>.json`` tells of the video; or the corpus' own folder of frames,
where the number that a name consists of, or ends in after an underscore (``0012.jpg``,
``S005_001_00000012.png``), is that of the annotation.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.corpora.clip import Clip, Corpus, CropFrames, Labels
from extract.corpora.imagery import crop_folders
from extract.crops import journal
from extract.crops.journal import Origin
from extract.parsing.codes import ROW_TOLERANCE, Codes
from extract.parsing.faults import found_in, some
from stores.errors import CorpusError

logger = logging.getLogger(__name__)

CROPPED = (crop_folders.FOLDER, "cropped")
_PICTURE = re.compile(r"(?:.*_)?([0-9]{1,8})\.(?:jpg|jpeg|png)", re.IGNORECASE)
_MAX_FRAMES = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where the pictures of a corpus are.

    Attributes:
        folder: of all of them.
        cropped: whether it is as ``facets crop`` writes it.
        depth: levels of folders down to those of clips; 0 where the annotation is beside the pictures.
        origins: clip folder -> where its crops come from.
        notes: what else lies there.
    """

    folder: Path
    cropped: bool
    depth: int
    origins: Mapping[str, Origin]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """The pictures of one clip.

    Attributes:
        folder: where they are.
        frames: item i is the picture of frame i, or None; the last one is a picture.
        stray: how many other files lie beside them.
        end: number of frames of the video, where that is known: own frames are complete, crops may lack.
        origin: where crops come from, where that is known.
    """

    folder: Path
    frames: Sequence[Path | None]
    stray: int
    end: int | None
    origin: Origin | None


@dataclass(slots=True)
class Reading:
    """A corpus as far as it has been read.

    Attributes:
        place: of its pictures.
        clips: made so far.
        folders: of the pictures of these clips.
        stray: files among the pictures that are none.
        lacking: frames with a label and without a picture.
        unlabelled: frames with a picture and without a label.
    """

    place: Place
    clips: list[Clip] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    stray: int = 0
    lacking: int = 0
    unlabelled: int = 0

    def add(self, clip: str, footage: Footage, labels: Labels, subject: str, fps: float) -> None:
        """Adds a clip of the training split; ``fps`` is used where the origin of its crops is unknown."""
        frames = len(labels.valence)
        lacking = frames - len(footage.frames)
        present = np.array([picture is not None for picture in footage.frames] + [False] * lacking)
        pictures: Sequence[Path | None] = (*footage.frames, *[None] * lacking)
        if self.place.cropped:
            pictures = CropFrames(footage.folder, present)
        known = np.isfinite(labels.valence) | np.isfinite(labels.arousal)
        known |= (labels.expression >= 0) | (labels.au >= 0).any(axis=1)
        self.stray += footage.stray
        self.lacking += int((known & ~present).sum())
        self.unlabelled += int((present & ~known).sum())
        self.folders.add(footage.folder)
        origin = footage.origin
        rate, made_by = (fps, None) if origin is None else (origin.fps, origin.attrs)
        self.clips.append(Clip(clip, "train", pictures, labels, rate, subject, origin=made_by))

    def corpus(
        self, name: str, root: Path, expressions: Sequence[str], aus: Sequence[str], notes: Sequence[str]
    ) -> Corpus:
        """The corpus of these clips, with the reader's notes and those on its pictures; all are logged."""
        level = self.place.folder.glob("/".join("*" * self.place.depth)) if self.place.depth else ()
        others = sorted(
            str(path.relative_to(self.place.folder))
            for path in level
            if path.is_dir() and path not in self.folders and not path.name.startswith(".")
        )
        said = (
            (self.lacking, "frames have a label and no picture"),
            (self.unlabelled, "frames have a picture and no label"),
            (self.stray, "files among the pictures are no pictures and were not read"),
            (len(others), f"folders of pictures have no annotation and were not read: {some(others)}"),
        )
        all_notes = [*notes, *self.place.notes, *(f"{count} {what}" for count, what in said if count)]
        for note in all_notes:
            logger.info("%s: %s", root, note)
        clips = sorted(self.clips, key=lambda clip: clip.id)
        return Corpus(name, root, "", tuple(expressions), tuple(aus), tuple(clips), tuple(all_notes))


def find(root: Path, own: Sequence[str], depth: int) -> Place:
    """Finds the pictures: crops, if there are any, else one of the corpus' own folders.

    Args:
        root: of the corpus.
        own: names that the corpus' own folder may have.
        depth: levels of folders in there.

    Raises:
        CorpusError: there is neither, or a record of crops is damaged.
    """
    found = [name for name in (*CROPPED, *own) if (root / name).is_dir()]
    if not found:
        expected = " or ".join(f"{name}/" for name in (*CROPPED, *own))
        msg = (
            f"no pictures in {root} (found {found_in(root)}): expected {expected} in it; run "
            "facets crop on the videos, or put crops there, and check corpus.root"
        )
        raise CorpusError(msg)
    cropped = found[0] in CROPPED
    others = [name for name in found[1:] if name != "."]
    notes = [f"pictures are those of {found[0]}, not those of {some(others)}"] if others else []
    return Place(root / found[0], cropped, 1 if cropped else depth, journal.origins(root), tuple(notes))


def read(place: Place, clip: str, own: Path, first: int) -> Footage:
    """Lists the pictures of one clip.

    Args:
        place: of all pictures.
        clip: its folder among crops.
        own: its folder among the corpus' own, from ``place.folder``.
        first: number that the corpus' own pictures give frame 0.

    Raises:
        CorpusError: no folder, no picture in it, two of one frame, or a number that no frame can have.
    """
    folder = place.folder / (clip if place.cropped else own)
    if not folder.is_dir():
        msg = (
            f"no folder {folder}: expected the pictures of an annotated clip; put them there, or take "
            "its annotation away"
        )
        raise CorpusError(msg)
    if place.cropped:
        present, stray = crop_folders.present(folder)
        origin = place.origins.get(clip)
        end = None if origin is None else max(origin.frames, len(present))
        return Footage(folder, CropFrames(folder, present), stray, end, origin)
    pictures, stray = _numbered(folder, first)
    return Footage(folder, pictures, stray, len(pictures), None)


def _numbered(folder: Path, first: int) -> tuple[tuple[Path | None, ...], int]:
    """The pictures of a folder by the number in their name, and how many other files lie beside them."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    pictures: dict[int, str] = {}
    for name in names:
        if (match := _PICTURE.fullmatch(name)) is None:
            continue
        frame = int(match[1]) - first
        if not 0 <= frame < _MAX_FRAMES:
            msg = (
                f"{folder / name}: expected frames numbered from {first}, fewer than {_MAX_FRAMES}; rename "
                "the pictures of this clip"
            )
            raise CorpusError(msg)
        if frame in pictures:
            msg = f"{folder / name} and {pictures[frame]} are both frame {match[1]}: keep one picture of it"
            raise CorpusError(msg)
        pictures[frame] = name
    if not pictures:
        found = f"{len(names)} other files such as {names[0]}" if names else "nothing"
        msg = (
            f"{folder} holds no picture (found {found}): expected the number of the frame as name, such as "
            f"{first:05d}.jpg or .png, or after an underscore; unpack the clip's pictures"
        )
        raise CorpusError(msg)
    timeline = tuple(
        folder / pictures[frame] if frame in pictures else None for frame in range(max(pictures) + 1)
    )
    return timeline, len(names) - len(pictures)


def length(footage: Footage, last: Codes, slack: int | None) -> int:
    """T of a clip: the largest of its last code, its last picture and the length of its video.

    Args:
        footage: its pictures.
        last: its file of codes that ends last.
        slack: pictures that may follow the last code, where every frame ought to have one; None: any number.

    Raises:
        CorpusError: codes go on where the video has ended, or pictures where the codes have; names file and
            line, or the picture.
    """
    if footage.end is not None and last.end - footage.end > ROW_TOLERANCE:
        msg = (
            f"{last.beyond(footage.end + ROW_TOLERANCE)}: beyond the end of {footage.folder}, which has "
            f"{footage.end} frames: expected {ROW_TOLERANCE} more at most; unpack the clip's pictures "
            "again, or restore the file from the release"
        )
        raise CorpusError(msg)
    if slack is not None and len(footage.frames) - last.end > slack:
        msg = (
            f"{footage.frames[-1]}: beyond the end of {last.path}, whose last frame number is "
            f"{last.end - 1 + last.first}: expected {slack} more pictures at most; these are of another "
            "video, or were taken at another frame rate"
        )
        raise CorpusError(msg)
    return max(last.end, len(footage.frames), footage.end or 0)


def unit_labels(
    footage: Footage, files: Mapping[str, Codes], aus: Sequence[str], slack: int | None
) -> Labels:
    """Returns the labels of a clip from a file of codes per action unit; ``slack`` as for ``length``."""
    last = max(files.values(), key=lambda file: file.end)
    labels = Labels.unknown(length(footage, last, slack), len(aus))
    for unit, file in files.items():
        labels.au[file.frames, aus.index(unit)] = file.values[:, 0]
    return labels
