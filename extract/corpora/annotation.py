"""Parses one ABAW annotation file: a header line, then one row per frame, checked by name, range and line.

Not a reader of a tree: which files exist and which split they belong to is the corpus reader's business.

Files that are as they should be are parsed by Arrow; any other is gone through line by line, which either
names what is wrong or takes what Arrow is too strict for. Both give the same numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from extract.corpora.affwild2_names import UNNAMED, CropNames, read_names
from extract.corpora.clip import Labels
from stores.errors import CorpusError

Task = Literal["VA", "EXPR", "AU"]
TASKS: tuple[Task, ...] = ("VA", "EXPR", "AU")
Table = NDArray[np.float64]

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Block:
    """The columns of one task, side by side.

    Attributes:
        task: whose they are.
        columns: how many; one for EXPR, whose header lists classes.
        low: least value; below it is an error, save for VA, where it means unknown.
        high: greatest value.
        integer: whether values are whole numbers.
    """

    task: Task
    columns: int
    low: float
    high: float
    integer: bool


@dataclass(frozen=True, slots=True)
class Format:
    """How a file looks.

    Attributes:
        header: names of the first line, in order.
        blocks: the numbers of a row, in order.
        named: whether a row begins with the name of its crop; otherwise row i is frame i.
    """

    header: tuple[str, ...]
    blocks: tuple[Block, ...]
    named: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """The rows of one file; unknown markers are left as they are.

    Attributes:
        count: how many rows N, two lines less than the number of the next line of the file.
        tables: (N, columns) float64 per task of the format.
        names: the crops that the rows name; empty in a format that does not name them.
    """

    count: int
    tables: Mapping[Task, Table]
    names: CropNames


def formats(expressions: tuple[str, ...], aus: tuple[str, ...]) -> dict[Task, Format]:
    """The per-clip files of an edition with these class and action unit names."""
    va, expr, au = _blocks(expressions, aus)
    return {
        "VA": Format(("valence", "arousal"), (va,)),
        "EXPR": Format(expressions, (expr,)),
        "AU": Format(aus, (au,)),
    }


def multitask(expressions: tuple[str, ...], aus: tuple[str, ...]) -> Format:
    """The one file of a multi-task edition: five names in the header, all AUs under the last."""
    header = ("image", "valence", "arousal", "expression", "aus")
    return Format(header, _blocks(expressions, aus), named=True)


def _blocks(expressions: tuple[str, ...], aus: tuple[str, ...]) -> tuple[Block, Block, Block]:
    return (
        Block("VA", 2, -np.inf, 1, integer=False),
        Block("EXPR", 1, -1, len(expressions) - 1, integer=True),
        Block("AU", len(aus), -1, 1, integer=True),
    )


def read(path: Path, form: Format) -> Parsed:
    """Reads one file.

    A byte order mark, Windows line ends, blanks around values and blank lines at the end are tolerated.

    Raises:
        CorpusError: wrong header, a blank line inside, a wrong number of columns, a value that is no
            number or out of range, or a name of no crop; the message has file and line.
    """
    data = read_text(path)
    header, _, body = data.partition(b"\n")
    check_header(path, decode(path, header), form.header, "choose the edition this file is of")
    if not body:
        msg = f"{path}: header without any row; expected one row per frame: restore it from the release"
        raise CorpusError(msg)
    count = body.count(b"\n") + 1
    rows = _parse(path, body, count, form)
    return rows if rows is not None else _parse_lines(path, decode(path, body).split("\n"), form)


def read_text(path: Path) -> bytes:
    """The bytes of a file without byte order mark, blank lines at the end and the last line end.

    Raises:
        CorpusError: the file cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); restore it from the release"
        raise CorpusError(msg) from error


def decode(path: Path, data: bytes) -> str:
    """The text in ``data``, which is all or a part of the file at ``path``.

    Raises:
        CorpusError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"{path}: not a text file ({error.reason} near {error.object[error.start :][:8]!r}); "
        msg += "restore it from the release"
        raise CorpusError(msg) from None


def check_header(path: Path, line: str, expected: tuple[str, ...], remedy: str) -> None:
    """Compares the first line of a file with the names it must have, in order; case and blanks do not count.

    Raises:
        CorpusError: other names, or another order.
    """
    found = tuple(name.strip() for name in line.split(","))
    lower = [name.lower() for name in found]
    if lower == [name.lower() for name in expected]:
        return
    same = sorted(lower) == sorted(name.lower() for name in expected)
    if same:
        hint, remedy = "the same names in another order", "reorder columns and class numbers as expected"
    else:
        hint = "other names"
    msg = (
        f"{path}, line 1: found header {','.join(found)[:200]!r} ({hint}), "
        f"expected {','.join(expected)!r}; {remedy}"
    )
    raise CorpusError(msg)


def known(task: Task, table: Table) -> NDArray[np.bool_]:
    """(N,) which rows of a table have a label.

    VA marks an unknown row by -5; any value below -1 in either column counts (the ABAW-5 entries test >= -1).
    An AU row is known as soon as one of its cells is.
    """
    if task == "VA":
        return np.asarray((table >= -1).all(axis=1))
    return np.asarray((table >= 0).any(axis=1))


def to_labels(tables: Mapping[Task, Table], rows: int, aus: int) -> Labels:
    """Labels of ``rows`` frames from tables of at most as many rows; the rest is unknown."""
    labels = Labels.unknown(rows, aus)
    for task, table in tables.items():
        if task == "VA":
            both = np.where(known(task, table)[:, None], table, np.nan)
            labels.valence[: len(table)], labels.arousal[: len(table)] = both.T
        elif task == "EXPR":
            labels.expression[: len(table)] = table[:, 0]
        else:
            labels.au[: len(table)] = table
    return labels


def _parse(path: Path, body: bytes, count: int, form: Format) -> Parsed | None:
    """Parses all rows at once; None if any of them is not as it should be."""
    width = sum(block.columns for block in form.blocks)
    numbers = [str(column) for column in range(width)]
    names = ["name"] if form.named else []
    types = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(names, pa.string())
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(body),
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=[*names, *numbers]
            ),
            # A blank line is a row without values: skipping it would shift all frames after it.
            pyarrow.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    if table.num_rows != count:  # a lone carriage return ends a line for Arrow
        return None
    tables: dict[Task, Table] = {}
    start = 0
    for block in form.blocks:
        columns = table.columns[start + form.named : start + form.named + block.columns]
        values = np.stack([column.to_numpy() for column in columns], axis=1)
        if not _fits(values, block).all():
            return None
        tables[block.task] = values
        start += block.columns
    return Parsed(count, tables, read_names(path, table["name"], 2) if form.named else UNNAMED)


def _fits(values: Table, block: Block) -> NDArray[np.bool_]:
    fits = np.isfinite(values) & (values >= block.low) & (values <= block.high)
    if block.integer:
        fits &= values == np.trunc(values)
    return np.asarray(fits)


def _parse_lines(path: Path, lines: list[str], form: Format) -> Parsed:
    """Parses row by row, and raises an error that names the first one that is wrong."""
    width = sum(block.columns for block in form.blocks)
    table = np.empty((len(lines), width))
    parsed = len(lines)
    for row, line in enumerate(lines):
        cells = line.split(",")[form.named :]
        if len(cells) != width or not all(map(_NUMBER.fullmatch, cells)):
            parsed = row
            break
        table[row] = [float(cell) for cell in cells]
    tables = dict(zip(form.blocks, _divide(table, form), strict=True))
    for wrong in np.flatnonzero(
        ~np.all([_fits(t, b).all(axis=1) for b, t in tables.items()], axis=0)[:parsed]
    ):
        block = next(block for block, values in tables.items() if not _fits(values[wrong], block).all())
        task = f"{block.task} as " if form.named else ""
        kind = "whole numbers from" if block.integer else "numbers from"
        limits = f"{task}{kind} {max(block.low, -1):g} to {block.high:g}, or the marker for unknown"
        _fail(path, int(wrong), lines[wrong], form, limits)
    if parsed < len(lines):
        name = "the name of a crop and " if form.named else ""
        _fail(path, parsed, lines[parsed], form, f"{name}{width} comma-separated numbers")
    names = UNNAMED
    if form.named:
        column = pa.chunked_array([pa.array([line.partition(",")[0] for line in lines], pa.string())])
        names = read_names(path, column, 2)
    return Parsed(len(lines), {block.task: values for block, values in tables.items()}, names)


def _divide(table: Table, form: Format) -> Iterator[Table]:
    start = 0
    for block in form.blocks:
        yield table[:, start : start + block.columns]
        start += block.columns


def _fail(path: Path, row: int, text: str, form: Format, expected: str) -> NoReturn:
    frame = "" if form.named else f" (frame {row})"
    msg = (
        f"{path}, line {row + 2}{frame}: found {text.strip()[:80]!r}, expected {expected}; "
        "restore the file from the release"
    )
    raise CorpusError(msg)
