"""Text files by line: UTF-8, with or without a byte order mark, with line ends of Unix or Windows.

Blanks around a line, and blank lines at the end of a file, do not count. An error names file and line.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from extract.parsing.faults import fault
from stores.errors import CorpusError

Value = TypeVar("Value")

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Attributes:
        path: of the file.
        number: of the line, from 1.
        text: without blanks at either end.
    """

    path: Path
    number: int
    text: str

    def halves(self) -> tuple[str, str]:
        """Returns the first field and what follows it, which may be nothing."""
        first, *rest = self.text.split(maxsplit=1)
        return first, "".join(rest)

    def error(self, expected: str) -> CorpusError:
        """Returns the error that this line is something else."""
        return fault(self.path, self.number, self.text, expected)


def read(path: Path) -> bytes:
    """Returns a file without byte order mark, blank lines at the end and the last line end.

    Raises:
        CorpusError: the file cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); restore it from the release"
        raise CorpusError(msg) from error


def decode(path: Path, data: bytes) -> str:
    """Returns the text in ``data``, which is all or a part of the file at ``path``.

    Raises:
        CorpusError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file ({error.reason} near {error.object[error.start :][:8]!r}); "
        msg += "restore it from the release"
        raise CorpusError(msg) from None


def lines(path: Path) -> list[str]:
    """Returns the lines of a file.

    Raises:
        CorpusError: the file cannot be read, is no text, or is empty.
    """
    text = decode(path, read(path))
    if not text:
        msg = f"{path}: empty; restore it from the release"
        raise CorpusError(msg)
    return [line.strip() for line in text.split("\n")]


def full_lines(path: Path) -> list[Line]:
    """Returns the lines of a file in which none is blank.

    Raises:
        CorpusError: as ``lines``, or a line inside is blank.
    """
    found = [Line(path, number, line) for number, line in enumerate(lines(path), 1)]
    for line in found:
        if not line.text:
            expected = "an image and its labels, not a blank line"
            raise line.error(expected)
    return found


def once(entries: Iterable[tuple[Line, str, Value]]) -> tuple[dict[str, Value], list[str]]:
    """Returns what is said of each key, in the order of the first line that says it, and notes repetitions.

    Args:
        entries: line, key such as an image, and what the line says of it.

    Raises:
        CorpusError: a line says something else of a key than an earlier one; names both.
    """
    first: dict[str, Line] = {}
    values: dict[str, Value] = {}
    repeated: list[Line] = []
    for line, key, value in entries:
        if key not in values:
            first[key], values[key] = line, value
        elif values[key] == value:
            repeated.append(line)
        else:
            expected = f"the same of {key} as in line {first[key].number} ({first[key].text[:80]!r})"
            raise line.error(expected)
    if not repeated:
        return values, []
    return values, [
        f"{len(repeated)} lines of {repeated[0].path.name} repeat an earlier one and were read once"
    ]


def number(cell: str) -> float | None:
    """Returns the finite number in a cell, or None if there is none."""
    cell = cell.strip()
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    return value if math.isfinite(value) else None


def whole(cell: str) -> int | None:
    """Returns the whole number in a cell, however it is written (``3``, ``3.0000000e+00``), or None."""
    value = number(cell)
    return int(value) if value is not None and value.is_integer() else None


def index(cell: str, first: int, last: int) -> int | None:
    """Returns the number that a cell of digits is, or None if it is none from ``first`` to ``last``."""
    if not (cell.isascii() and cell.isdigit()):
        return None
    value = int(cell)
    return value if first <= value <= last else None
