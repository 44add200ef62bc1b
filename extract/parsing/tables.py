"""Tables with named columns, CSV, TSV or Parquet, read batch by batch; an error names file, line and column.

A CSV or TSV file is UTF-8 text with a header line. Other separators, decimal commas and rows of another
length are errors. A row has a line in these files; in a Parquet file it has a number, from 0.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from extract.parsing.faults import listing
from stores.digest import Array
from stores.errors import CorpusError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")
BLOCK_BYTES = 8 * 2**20
"""Text that is parsed at once; a line cannot be longer."""
BATCH_ROWS, BATCH_VALUES = 2**10, 2**20
"""Rows, and values, of a Parquet file that are read at once."""

_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_WIDTH = re.compile(r"Row #([0-9]+): Expected ([0-9]+) columns, got ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Table:
    """An open table. The columns of a text file are text, and a cell without text is null.

    Attributes:
        path: of its file.
        names: of its columns, all different, in the order of the file.
        first_line: of the file that row 0 is in, from 1; 0 where a file has no lines.
    """

    path: Path
    names: tuple[str, ...]
    first_line: int

    def place(self, row: int) -> str:
        """Returns where a row is, for a message."""
        return f"{self.path}, " + (f"line {self.first_line + row}" if self.first_line else f"row {row}")

    def error(self, row: int, found: object, expected: str) -> CorpusError:
        """Returns the error that a row holds something else."""
        found = found.as_py() if isinstance(found, pa.Scalar) else found
        found = "" if found is None else str(found)[:80]
        return CorpusError(f"{self.place(row)}: found {found!r}, expected {expected}; repair the file")

    def batches(self, columns: Iterable[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields some columns with the number of the first row: 8 MiB of text or a million values at a time.

        Raises:
            CorpusError: the file is damaged, or a row has too many or too few columns; names its line.
        """
        wanted = set(columns)
        names = [name for name in self.names if name in wanted]
        start = 0
        try:
            for batch in self._text(names) if self.first_line else self._values(names):
                yield start, batch
                start += batch.num_rows
        except _DAMAGE as error:
            if match := _WIDTH.search(str(error)):
                line, expected, found = match.groups()
                msg = f"{self.path}, line {line}: found {found} columns, expected {expected}; repair the file"
            else:
                msg = f"{self.path}: it cannot be read (lines are counted from 1): {error}"
            raise CorpusError(msg) from error

    def full_batches(self, columns: Iterable[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields as ``batches``, without the blank rows at the end of the file.

        Raises:
            CorpusError: as ``batches``, or a blank row has others after it.
        """
        blank = None
        for start, batch in self.batches(columns):
            empty = _empty(batch)
            if blank is None and empty.any():
                blank = start + int(empty.argmax())
            if blank is not None and not empty[max(0, blank - start) :].all():
                raise self.error(blank, "", "a row of values, not a blank line")
            count = batch.num_rows if blank is None else blank - start
            if count > 0:
                yield start, batch.slice(0, count)

    def _text(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        yield from pyarrow.csv.open_csv(
            self.path,
            # One thread keeps up with the disk, and names the line of an error.
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=self.names,
                skip_rows=self.first_line - 1,
            ),
            # A blank line is a row without values: skipping it would shift all frames after it.
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=SEPARATORS[self.path.suffix], ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )

    def _values(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        rows = max(1, min(BATCH_ROWS, BATCH_VALUES // max(1, len(names))))
        with _parquet(self.path) as file:
            yield from file.iter_batches(rows, columns=names, use_threads=False)

    def numbers(self, batch: pa.RecordBatch, name: str, first: int) -> NDArray[np.float64]:
        """Returns a column of a batch as float64, NaN where there is no value.

        Raises:
            CorpusError: a value is neither a finite number nor NaN; names its row.
        """
        column = self._parsed(batch, name, first)
        if not _is_number(column.type) and not pa.types.is_boolean(column.type):
            raise self._type_error(name, column.type)
        column = pc.fill_null(column.cast(pa.float64(), safe=False), math.nan)
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        infinite = np.isinf(values)
        if infinite.any():
            row = int(infinite.argmax())
            raise self.error(first + row, batch.column(name)[row], f"a finite number in column {name!r}")
        return values

    def flags(self, batch: pa.RecordBatch, name: str, first: int) -> NDArray[np.bool_]:
        """Returns a column of a batch that holds 0 and 1, or false and true.

        Raises:
            CorpusError: another value, or none; names its row.
        """
        column = batch.column(name)
        if _is_text(column.type):
            column = pc.replace_substring_regex(pc.utf8_lower(text(batch, name)), "^true$", "1")
            column = pc.replace_substring_regex(column, "^false$", "0")
        try:
            values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
            wrong = ~np.isin(values, (0, 1))
        except pa.ArrowInvalid:
            wrong = ~np.array([value in ("0", "1", "0.0", "1.0") for value in column.to_pylist()])
        if wrong.any():
            row = int(wrong.argmax())
            raise self.error(first + row, batch.column(name)[row], f"0 or 1 in column {name!r}")
        return np.asarray(values == 1)

    def matrix(self, batch: pa.RecordBatch, names: Sequence[str], first: int) -> Array:
        """Returns (N, D) of numbers, in the narrowest type that holds all; NaN where there is no value.

        A column has one number per row, or a list of numbers of one length.

        Raises:
            CorpusError: a value is no number, or a list has another length; names its row.
        """
        parts = [self._cells(batch, name, first) for name in names]
        matrix: Array = np.column_stack(parts)
        return matrix

    def _cells(self, batch: pa.RecordBatch, name: str, first: int) -> Array:
        """Returns (N,), or (N, D) of lists."""
        column = self._parsed(batch, name, first)
        if not _is_list(column.type):
            if not _is_number(column.type):
                raise self._type_error(name, column.type)
            return np.asarray(column.to_numpy(zero_copy_only=False))
        if not _is_number(column.type.value_type):
            raise self._type_error(name, column.type)
        there = column.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        width = int(lengths[there.argmax()]) if there.any() else 0
        odd = there & (lengths != width)
        if odd.any() or not width:
            row = int(odd.argmax())
            expected = f"a list of {width} in column {name!r}" if width else f"numbers in column {name!r}"
            raise self.error(first + row, f"a list of {max(0, lengths[row])}", expected)
        values = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        if there.all():
            return np.asarray(values)
        matrix = np.full((len(column), width), np.nan, np.result_type(values.dtype, np.float16))
        matrix[there] = values
        return matrix

    def _parsed(self, batch: pa.RecordBatch, name: str, first: int) -> pa.Array:
        """Returns a column with numbers for text, or float64 for nothing but nulls, or else as it is."""
        column = batch.column(name)
        if pa.types.is_null(column.type):
            return column.cast(pa.float64())
        if not _is_text(column.type):
            return column
        try:
            return pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            trimmed = _trimmed(column)  # blanks around a number are allowed, as OpenFace writes them
        try:
            return pc.cast(trimmed, pa.float64())
        except pa.ArrowInvalid:
            row = next(row for row, cell in enumerate(trimmed) if not _parses(cell))
            raise self.error(first + row, column[row], f"a number in column {name!r}") from None

    def _type_error(self, name: str, kind: pa.DataType) -> CorpusError:
        return CorpusError(f"{self.path}: column {name!r} is of type {kind}, expected numbers")


def open_table(path: Path) -> Table:
    """Opens a table by its suffix and reads its header.

    Raises:
        CorpusError: another suffix, unreadable, or without a header of different names.
    """
    if path.suffix not in SUFFIXES:
        msg = f"{path}: expected a file in {', '.join(SUFFIXES)}"
        raise CorpusError(msg)
    try:
        if path.suffix == ".parquet":
            with _parquet(path) as file:
                names = list(file.schema_arrow.names)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = [file.readline(BLOCK_BYTES)]
            rows = csv.reader(lines, delimiter=SEPARATORS[path.suffix])
            names = [name.strip() for row in rows for name in row]
    except _DAMAGE as error:
        msg = f"{path}: no readable {path.suffix} file with named columns: {error}"
        raise CorpusError(msg) from error
    if not names or "" in names or len(set(names)) < len(names):
        msg = f"{path}: found columns {listing(names)}, expected a header of different names"
        raise CorpusError(msg)
    return Table(path, tuple(names), 0 if path.suffix == ".parquet" else 2)


def check_columns(table: Table, needed: Iterable[str]) -> None:
    """Passes if a table has some columns.

    Raises:
        CorpusError: it lacks one; names those that it has.
    """
    if lacking := [name for name in needed if name not in table.names]:
        msg = (
            f"{table.path}: no column {listing(lacking)} (found {', '.join(table.names)[:200]}): expected a "
            "first line that names them; check the spelling"
        )
        raise CorpusError(msg)


def text(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Returns a column as text without blanks around it; a blank cell is null."""
    return _trimmed(batch.column(name).cast(pa.large_string()))


def _parquet(path: Path) -> "pyarrow.parquet.ParquetFile":
    # Buffered, so that a row group is decoded page by page instead of being read as a whole.
    return pyarrow.parquet.ParquetFile(
        path, pre_buffer=False, buffer_size=2**16, page_checksum_verification=True, memory_map=False
    )


def _trimmed(column: pa.Array) -> pa.Array:
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _parses(cell: pa.Scalar) -> bool:
    try:
        pc.cast(cell, pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _empty(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """(N,) which rows have no value in any column."""
    empty = np.ones(batch.num_rows, np.bool_)
    for column in batch.columns:
        if column.null_count == 0:
            return np.zeros(batch.num_rows, np.bool_)
        empty &= column.is_null().to_numpy(zero_copy_only=False)
    return empty
