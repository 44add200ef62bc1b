"""Reads the organisers' lists: which clips or images a submission must have, in which order.

Dummy values that a list may carry after a name are not read. Lists differ: bare clip names without a header
(ABAW-3), a header and bare images (ABAW-4), images with a comma behind (ABAW-5, 7), images with dummy values
(ABAW-6, 8). An image may be listed twice (s-Aff-Wild2 has such rows) and then wants two rows; frames need not
be consecutive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline.submission.formats import IMAGE, Format
from stores.errors import CorpusError
from stores.record import is_clip_id


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows that a submission must have.

    Attributes:
        path: the list.
        header: first line of a submission: the list's own if it has one, else the format's.
        names: clips, or images such as ``video1/00001.jpg``, in the order of the list.
        lengths: rows per clip, if known; empty for lists of images.
    """

    path: Path
    header: str
    names: tuple[str, ...]
    lengths: Mapping[str, int]


def read_list(path: Path, form: Format, lengths: Path | None = None) -> Listing:
    """Reads a list of clips or images, whichever ``form`` needs.

    Args:
        path: the organisers' list.
        form: of the submission.
        lengths: lines ``clip,frames``: how many rows the file of each clip must have. The lists of ABAW-1 to
            3 do not say; the organisers count the frames of the videos.

    Raises:
        CorpusError: not a list of this track and edition; names file and line.
    """
    lines = _lines(path)
    header, first = form.header_line, lines[0].strip().rstrip(",").rstrip()
    headed = not form.clipwise and not IMAGE.fullmatch(_name(first))
    if headed:
        found = [name.strip().casefold() for name in first.split(",")]
        if found != [name.casefold() for name in form.header]:
            _fail(path, 1, first, f"the header {header!r}, or an image such as video1/00001.jpg")
        header = first
    names = tuple(_name(line) for line in lines[headed:])
    if not names:
        _fail(path, 2, "", "at least one image")
    seen: set[str] = set()
    for line, name in enumerate(names, 1 + headed):
        if form.clipwise and (not is_clip_id(name) or name.endswith((".txt", ".jpg"))):
            _fail(path, line, name, "the name of a clip, such as video1_left")
        if not form.clipwise and not IMAGE.fullmatch(name):
            _fail(path, line, name, "an image such as video1/00001.jpg")
        if form.clipwise and name in seen:
            _fail(path, line, name, "every clip once")
        seen.add(name)
    return Listing(path, header, names, {} if lengths is None else _lengths(lengths, form, names))


def _lengths(path: Path, form: Format, names: tuple[str, ...]) -> dict[str, int]:
    if not form.clipwise:
        msg = f"{path}: a submission to {form.name} has a row per listed image, so no lengths are needed"
        raise CorpusError(msg)
    known: dict[str, int] = {}
    for line, text in enumerate(_lines(path), 1):
        name, _, count = (part.strip() for part in text.partition(","))
        if not count.isascii() or not count.isdecimal() or int(count) == 0:
            _fail(path, line, text, "a clip and its number of frames, such as video1_left,1204")
        if name in known:
            _fail(path, line, text, "every clip once")
        known[name] = int(count)
    if missing := [name for name in names if name not in known]:
        msg = f"{path}: {len(missing)} listed clips have no length, the first is {missing[0]}: add a line"
        raise CorpusError(msg)
    return known


def _lines(path: Path) -> list[str]:
    """Returns the lines of a list; a byte order mark, CRLF and blank lines at the end do no harm."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file ({error.reason} at byte {error.start}); take the organisers' file"
        raise CorpusError(msg) from None
    if not lines:
        _fail(path, 1, "", "at least one name")
    return lines


def _name(line: str) -> str:
    return line.partition(",")[0].strip()


def _fail(path: Path, line: int, found: str, expected: str) -> NoReturn:
    msg = (
        f"{path}, line {line}: found {found[:80]!r}, expected {expected}; give the organisers' list of this"
        " edition and track"
    )
    raise CorpusError(msg)
