"""Lists of images without a header: fields between blanks, one image per line, each line with its number.

Not a reader of tables with named columns (``tables``), nor of the challenge files of ABAW (``annotation``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from extract.corpora.parsing.annotation import decode, read_text
from stores.errors import CorpusError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Attributes:
        path: of the list.
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
        return CorpusError(
            f"{self.path}, line {self.number}: found {self.text[:80]!r}, expected {expected}; "
            "restore the file from the release"
        )


def read(path: Path) -> list[Line]:
    """Reads a list.

    A byte order mark, Windows line ends, blanks around lines and blank lines at the end are tolerated.

    Raises:
        CorpusError: it cannot be read, is not text or is empty, or a line inside is blank.
    """
    text = decode(path, read_text(path))
    if not text.strip():
        msg = f"{path}: empty; expected one image per line: restore it from the release"
        raise CorpusError(msg)
    lines = [Line(path, number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    for line in lines:
        if not line.text:
            expected = "an image and its labels, not a blank line"
            raise line.error(expected)
    return lines


def whole(text: str, low: int, high: int) -> int | None:
    """Returns the whole number that a field is, or None if it is none from ``low`` to ``high``."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if low <= number <= high else None


def once(entries: Iterable[tuple[Line, str, Value]]) -> tuple[dict[str, Value], int]:
    """Returns what is said of each key, in the order of the first line that says it, and how many repeat it.

    Args:
        entries: line, key such as an image, and what the line says of it.

    Raises:
        CorpusError: a line says something else of a key than an earlier one; names both.
    """
    first: dict[str, Line] = {}
    values: dict[str, Value] = {}
    repeated = 0
    for line, key, value in entries:
        if key not in values:
            first[key], values[key] = line, value
        elif values[key] == value:
            repeated += 1
        else:
            expected = f"the same of {key} as in line {first[key].number} ({first[key].text[:80]!r})"
            raise line.error(expected)
    return values, repeated
