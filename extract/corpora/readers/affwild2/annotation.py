"""Parses one ABAW annotation file: a header line, then one row per frame, checked by name, range and line.

Not a reader of a tree: which files exist and which split they belong to is the corpus reader's business.

Files that are as they should be are parsed by Arrow; any other is gone through line by line, which either
names what is wrong or takes what Arrow is too strict for. Both give the same numbers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from extract.corpora.clip import Labels
from extract.corpora.readers.affwild2.frame_names import UNNAMED, CropNames, read_names
from extract.parsing import text
from stores.errors import CorpusError

Task = Literal["VA", "EXPR", "AU"]
TASKS: tuple[Task, ...] = ("VA", "EXPR", "AU")
Table = NDArray[Any]

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
BLOCK_BYTES = 4 * 2**20


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

    def allows(self, value: float) -> bool:
        """Whether a cell may have this value."""
        return (
            math.isfinite(value)
            and self.low <= value <= self.high
            and (value.is_integer() or not self.integer)
        )


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

    @property
    def width(self) -> int:
        """Numbers per row."""
        return sum(block.columns for block in self.blocks)


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """The rows of one file; unknown markers are left as they are.

    Attributes:
        count: how many rows, N; row i is line i + 2 of the file.
        tables: (N, columns) per task of the format, float64 for VA, else int8.
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
    data = text.read(path)
    end = data.find(b"\n")
    header = data if end < 0 else data[:end]
    check_header(path, text.decode(path, header), form.header, "choose the edition this file is of")
    if end < 0:
        msg = f"{path}: header without any row; expected one row per frame: restore it from the release"
        raise CorpusError(msg)
    count = data.count(b"\n")
    parsed = _parse(path, pa.py_buffer(data).slice(end + 1), count, form)
    return (
        parsed
        if parsed is not None
        else _parse_lines(path, text.decode(path, data[end + 1 :]).split("\n"), form)
    )


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


@cache
def _options(form: Format) -> dict[str, Any]:
    """How Arrow is to read the rows of a file."""
    types = {str(column): pa.float64() for column in range(form.width)}
    if form.named:
        types = {"name": pa.string(), **types}
    return {
        "read_options": pyarrow.csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=list(types)
        ),
        # A blank line is a row without values: skipping it would shift all frames after it.
        "parse_options": pyarrow.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
        "convert_options": pyarrow.csv.ConvertOptions(column_types=types, null_values=[]),
    }


def _parse(path: Path, body: pa.Buffer, count: int, form: Format) -> Parsed | None:
    """Parses block by block of the file; None if any row is not as it should be."""
    parts: dict[Task, list[Table]] = {block.task: [] for block in form.blocks}
    names: list[pa.Array] = []
    try:
        for batch in pyarrow.csv.open_csv(pa.BufferReader(body), **_options(form)):
            columns = iter(batch.columns)
            if form.named:
                names.append(next(columns))
            for block in form.blocks:
                # Arrow's own to_numpy imports pandas where there is one.
                values = np.stack(
                    [np.from_dlpack(column) for column in islice(columns, block.columns)], axis=1
                )
                if (table := _checked(values, block)) is None:
                    return None
                parts[block.task].append(table)
    except pa.ArrowInvalid:
        return None
    tables = {task: np.concatenate(found) for task, found in parts.items()}
    if any(len(table) != count for table in tables.values()):  # a lone carriage return ends a line for Arrow
        return None
    return Parsed(count, tables, read_names(path, pa.chunked_array(names), 2) if form.named else UNNAMED)


def _checked(values: NDArray[np.float64], block: Block) -> Table | None:
    """The values in the type they are kept in, or None if any of them is not allowed."""
    least, most = values.min(), values.max()  # NaN if any of them is
    if not (np.isfinite(least) and least >= block.low and most <= block.high):
        return None
    if not block.integer:
        return values
    whole = values.astype(np.int8)
    return whole if (whole == values).all() else None


def _parse_lines(path: Path, lines: list[str], form: Format) -> Parsed:
    """Parses row by row, and raises an error that names the first one that is wrong."""
    values = np.empty((len(lines), form.width))
    for row, line in enumerate(lines):
        cells = line.split(",")[form.named :]
        if expected := _fault(cells, form):
            frame = "" if form.named else f" (frame {row})"
            msg = (
                f"{path}, line {row + 2}{frame}: found {line.strip()[:80]!r}, expected {expected}; "
                "restore the file from the release"
            )
            raise CorpusError(msg)
        values[row] = [float(cell) for cell in cells]
    tables: dict[Task, Table] = {}
    start = 0
    for block in form.blocks:
        part = values[:, start : start + block.columns]
        tables[block.task] = part.astype(np.int8) if block.integer else part
        start += block.columns
    names = UNNAMED
    if form.named:
        column = pa.chunked_array([pa.array([line.partition(",")[0] for line in lines], pa.string())])
        names = read_names(path, column, 2)
    return Parsed(len(lines), tables, names)


def _fault(cells: Sequence[str], form: Format) -> str:
    """What is expected in place of the numbers of a row; "" if nothing is wrong with them."""
    if len(cells) != form.width or not all(map(_NUMBER.fullmatch, cells)):
        name = "the name of a crop and " if form.named else ""
        return f"{name}{form.width} comma-separated numbers"
    values = map(float, cells)
    for block in form.blocks:
        if not all(block.allows(value) for value in islice(values, block.columns)):
            task = f"{block.task} as " if form.named else ""
            kind = "whole numbers from" if block.integer else "numbers from"
            return f"{task}{kind} {max(block.low, -1):g} to {block.high:g}, or the marker for unknown"
    return ""
