"""Tables of labels with named columns, CSV or Parquet, whose rows have a place that a message can name.

Not a reader of lists without names (``lists``), and not of the challenge files of ABAW (``annotation``).
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.importing import csv, parquet
from extract.importing.table import Table
from stores.errors import CorpusError

OPEN: dict[str, Callable[[Path], Table]] = {
    ".csv": csv.open_table,
    ".tsv": csv.open_table,
    ".parquet": parquet.open_table,
}
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
_WIDTH = re.compile(r"Row #([0-9]+): Expected ([0-9]+) columns, got ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Rows:
    """A table that is open.

    Attributes:
        path: of its file.
        table: its columns.
        first_line: of the file that row 0 is in, from 1; 0 where a file has no lines.
    """

    path: Path
    table: Table
    first_line: int

    def place(self, row: int) -> str:
        """Returns where a row is, for a message: file and line, or file and row from 0."""
        return f"{self.path}, " + (f"line {self.first_line + row}" if self.first_line else f"row {row}")

    def error(self, row: int, found: object, expected: str) -> CorpusError:
        """Returns the error that a row holds something else."""
        return CorpusError(
            f"{self.place(row)}: found {str(found)[:80]!r}, expected {expected}; repair the file"
        )

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields the rows of some columns with the number of the first; blank lines at the end are left away.

        Raises:
            CorpusError: the file is damaged, a row has too many or too few columns, or a blank line is not at
                the end; names its line.
        """
        start, blank = 0, None
        for batch in self._read(columns):
            empty = _empty(batch)
            if blank is None and empty.any():
                blank = start + int(empty.argmax())
            if blank is not None and not empty[max(0, blank - start) :].all():
                raise self.error(blank, "", "a row of values, not a blank line")
            count = batch.num_rows if blank is None else blank - start
            if count > 0:
                yield start, batch.slice(0, count)
            start += batch.num_rows

    def _read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.table.batches(columns)
        except CorpusError as error:
            if match := _WIDTH.search(str(error)):
                line, expected, found = match.groups()
                msg = f"{self.path}, line {line}: found {found} columns, expected {expected}; repair the file"
                raise CorpusError(msg) from error
            msg = f"{self.path}: {error}"
            raise CorpusError(msg) from error

    def numbers(self, batch: pa.RecordBatch, name: str, first: int) -> NDArray[np.float64]:
        """Returns a column of a batch as float64, NaN where there is no value.

        Raises:
            CorpusError: a value is neither a finite number nor NaN; names its row.
        """
        column = batch.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = self._parse(column, name, first)
        elif not any(is_type(column.type) for is_type in _NUMERIC):
            msg = f"{self.path}: column {name!r} is of type {column.type}, expected numbers"
            raise CorpusError(msg)
        column = pc.fill_null(column.cast(pa.float64(), safe=False), math.nan)
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        if infinite.any():
            row = int(infinite.argmax())
            raise self.error(first + row, batch.column(name)[row], f"a finite number in column {name!r}")
        return values

    def _parse(self, column: pa.Array, name: str, first: int) -> pa.Array:
        try:
            return pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            trimmed = _trimmed(column)
        try:
            return pc.cast(trimmed, pa.float64())
        except pa.ArrowInvalid:
            row = next(row for row, text in enumerate(trimmed) if not _is_number(text))
            raise self.error(first + row, column[row], f"a number in column {name!r}") from None


def _is_number(text: pa.Scalar) -> bool:
    try:
        pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def text(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Returns a column as text without blanks around it; what is empty is null."""
    return _trimmed(batch.column(name).cast(pa.large_string()))


def _trimmed(column: pa.Array) -> pa.Array:
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def open_rows(path: Path) -> Rows:
    """Opens a table by its suffix and reads its header.

    Raises:
        CorpusError: another suffix, unreadable, or without a header of different names.
    """
    if path.suffix not in OPEN:
        msg = f"{path}: expected a file in {', '.join(OPEN)}"
        raise CorpusError(msg)
    try:
        table = OPEN[path.suffix](path)
    except CorpusError as error:
        msg = f"{path}: {error}"
        raise CorpusError(msg) from error
    return Rows(path, table, 0 if path.suffix == ".parquet" else 2)


def check_columns(rows: Rows, needed: Sequence[str]) -> None:
    """Passes if a table has some columns.

    Raises:
        CorpusError: it lacks one; names those that it has.
    """
    if lacking := [name for name in needed if name not in rows.table.names]:
        msg = (
            f"{rows.path}: no column {', '.join(map(repr, lacking))} (found "
            f"{', '.join(rows.table.names)[:200]}): expected a first line that names them; check the spelling"
        )
        raise CorpusError(msg)


def _empty(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """(N,) which rows have no value in any column."""
    empty = np.ones(batch.num_rows, np.bool_)
    for column in batch.columns:
        if column.null_count == 0:
            return np.zeros(batch.num_rows, np.bool_)
        empty &= column.is_null().to_numpy(zero_copy_only=False)
    return empty
