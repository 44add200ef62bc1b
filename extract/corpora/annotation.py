"""Parses one ABAW annotation file: a header line, then one row per frame, checked by name, range and line.

Not a reader of a tree: which files exist and which split they belong to is the corpus reader's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from extract.corpora.clip import Labels
from stores.errors import CorpusError

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Format:
    """How the files of one task look.

    Attributes:
        task: folder name of the task, such as ``VA_Set``.
        header: names of the first line, in order.
        columns: values per row; one for EXPR, whose header lists classes.
        low: least value; below it is an error, save for VA, where it means unknown.
        high: greatest value.
        integer: whether values are whole numbers.
    """

    task: str
    header: tuple[str, ...]
    columns: int
    low: float
    high: float
    integer: bool


def formats(expressions: tuple[str, ...], aus: tuple[str, ...]) -> dict[str, Format]:
    """The three file formats of an edition with these class and action unit names."""
    return {
        "VA_Set": Format("VA_Set", ("valence", "arousal"), 2, -np.inf, 1, integer=False),
        "EXPR_Set": Format("EXPR_Set", expressions, 1, -1, len(expressions) - 1, integer=True),
        "AU_Set": Format("AU_Set", aus, len(aus), -1, 1, integer=True),
    }


def read(path: Path, form: Format) -> Table:
    """Reads one file into a float64 table (rows, columns); unknown markers are left as they are.

    Raises:
        CorpusError: wrong header, a blank line inside, a wrong number of columns, or a value that is no
            number or out of range; the message names file and line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); restore it from the release"
        raise CorpusError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file ({error.reason} at byte {error.start}); restore it from the release"
        raise CorpusError(msg) from None
    lines = text.rstrip().replace("\r\n", "\n").split("\n")
    _check_header(path, lines[0], form)
    rows = lines[1:]
    if not rows:
        msg = f"{path}: header without any row; expected one row per frame: restore it from the release"
        raise CorpusError(msg)
    table = _parse(path, rows, form.columns)
    values = table[np.isfinite(table)]
    whole = not form.integer or bool((values == np.trunc(values)).all())
    if len(values) != table.size or values.min() < form.low or values.max() > form.high or not whole:
        good = np.isfinite(table) & (table >= form.low) & (table <= form.high)
        if form.integer:
            good &= table == np.trunc(table)
        row = int(np.argmin(good.all(axis=1)))
        kind = "whole numbers from" if form.integer else "numbers from"
        _fail(
            path, row, rows[row], f"{kind} {max(form.low, -1):g} to {form.high:g}, or the marker for unknown"
        )
    return table


def fill(labels: Labels, task: str, table: Table) -> None:
    """Writes a table into the first rows of ``labels``, turning the markers of the files into unknown.

    VA marks an unknown row by -5; any value below -1 in either column counts (the ABAW-5 entries test >= -1).
    """
    rows = len(table)
    if task == "VA_Set":
        known = (table >= -1).all(axis=1)
        labels.valence[:rows] = np.where(known, table[:, 0], np.nan)
        labels.arousal[:rows] = np.where(known, table[:, 1], np.nan)
    elif task == "EXPR_Set":
        labels.expression[:rows] = table[:, 0]
    else:
        labels.au[:rows] = table


def _check_header(path: Path, line: str, form: Format) -> None:
    found = tuple(name.strip() for name in line.split(","))
    if tuple(name.lower() for name in found) == tuple(name.lower() for name in form.header):
        return
    same = sorted(name.lower() for name in found) == sorted(name.lower() for name in form.header)
    hint = "the same names in another order" if same else "other names"
    msg = (
        f"{path}, line 1: found header {','.join(found)[:200]!r} ({hint}), "
        f"expected {','.join(form.header)!r}; choose the edition this file is of, or reorder its columns "
        "and class numbers to the expected header"
    )
    raise CorpusError(msg)


def _parse(path: Path, rows: Sequence[str], columns: int) -> Table:
    # loadtxt skips blank lines, which would shift every later frame: they are ruled out first.
    table = _numbers(rows) if all(row.strip() for row in rows) else None
    if table is not None and table.shape == (len(rows), columns):
        return table
    for index, row in enumerate(rows):
        single = _numbers([row]) if row.strip() else None
        if single is None or single.shape != (1, columns):
            _fail(path, index, row, f"{columns} comma-separated numbers")
    msg = f"{path}: rows could not be parsed; restore it from the release"
    raise CorpusError(msg)


def _numbers(rows: Sequence[str]) -> Table | None:
    try:
        return np.loadtxt(rows, np.float64, comments=None, delimiter=",", ndmin=2)
    except ValueError:
        return None


def _fail(path: Path, row: int, text: str, expected: str) -> NoReturn:
    where = f"{path}, line {row + 2} (frame {row})"
    msg = f"{where}: found {text[:80]!r}, expected {expected}; restore the file from the release"
    raise CorpusError(msg)
