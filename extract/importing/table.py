"""The rows of tables, whatever file holds them: which columns are what, and where each clip begins and ends.

Not a data frame: batches of rows pass through once, and no more than one clip is kept.
"""

import fnmatch
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extract.importing.request import Selection
from extract.importing.rows import Rows, as_flags, check_size, listing
from stores.digest import Array
from stores.errors import CorpusError

FLAGS = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


class Table(Protocol):
    """An open table; a CSV and a Parquet file are the two there are."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the columns, all different, in the order of the file."""

    def batches(self, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of these columns in order; text where a file has no types of its own.

        Raises:
            CorpusError: the file is damaged.
        """


Open = Callable[[Path], Table]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table by what they are."""

    features: tuple[str, ...]
    clip: str | None
    frame: str | None
    valid: str | None

    def used(self) -> tuple[str, ...]:
        return tuple(name for name in (*self.features, self.frame, self.valid) if name is not None)


def read_one(open_table: Open, path: Path, selection: Selection) -> Rows:
    """Reads a table that holds one clip.

    Raises:
        CorpusError: damaged, over the limit, without the columns asked for, or of another clip than its name
            says.
    """
    table = open_table(path)
    columns = _assign(table.names, selection)
    if columns.clip is not None:
        found = list(_ends(table, columns.clip))
        if found != [path.stem]:
            msg = f"column {columns.clip!r} holds {listing(found)}, expected {path.stem!r} in every row"
            raise CorpusError(msg)
    clip = _Clip(columns, selection)
    for batch in table.batches(columns.used()):
        clip.add(batch)
    return clip.rows()


def open_many(open_table: Open, path: Path, selection: Selection) -> "TableClips":
    """Opens a table of many clips: reads the column that names them.

    Raises:
        CorpusError: damaged, without such a column, or the rows of a clip are not together.
    """
    table = open_table(path)
    columns = _assign(table.names, selection)
    if columns.clip is None:
        msg = (
            f"there is no column {selection.clip_column!r} that names the clip of a row, only"
            f" {listing(table.names)}: name it by --clip-column, or give the folder if each file is one clip"
        )
        raise CorpusError(msg)
    return TableClips(table, columns, selection, _ends(table, columns.clip))


@dataclass(frozen=True, slots=True)
class TableClips:
    """A table of many clips.

    Attributes:
        table: the open file.
        columns: what its columns are.
        selection: as it was asked for.
        ends: clip -> the row after its last, in the order of the file.
    """

    table: Table
    columns: _Columns
    selection: Selection
    ends: Mapping[str, int]

    @property
    def clips(self) -> tuple[str, ...]:
        """Ids of the clips, in the order of the file."""
        return tuple(self.ends)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Rows | CorpusError]]:
        """Yields each wanted clip; where the file turns out to be damaged, all that follow are errors."""
        left = deque(self.ends.items())
        clip = _Clip(self.columns, self.selection)
        row = 0
        try:
            for batch in self.table.batches(self.columns.used()):
                end = row + batch.num_rows
                while row < end and left:
                    name, stop = left[0]
                    until = min(stop, end)
                    if name in wanted:
                        clip.add(batch.slice(batch.num_rows - (end - row), until - row))
                    row = until
                    if until == stop:
                        left.popleft()
                        if name in wanted:
                            yield name, clip.outcome()
                        clip = _Clip(self.columns, self.selection, stop)
            if left:
                msg = f"it ended at row {row}, before all of its clips: it changed while it was read"
                raise CorpusError(msg)
        except CorpusError as error:
            yield from ((name, error) for name, _ in left if name in wanted)


class _Clip:
    """The rows of one clip as they come in; the first mistake among them stands for all."""

    def __init__(self, columns: _Columns, selection: Selection, first_row: int = 0) -> None:
        self._columns = columns
        self._max_bytes = selection.max_bytes
        self._first_row = first_row
        self._count = 0
        self._features: list[Array] = []
        self._frame: list[Array] = []
        self._valid: list[Array] = []
        self._error: CorpusError | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        if self._error is not None:
            return
        first = self._first_row + self._count
        self._count += batch.num_rows
        try:
            features = _matrix(batch, self._columns.features, first)
            check_size("the clip", self._count * features[:1].nbytes, self._max_bytes, self._max_bytes)
            if self._features and features.shape[1] != self._features[0].shape[1]:
                before = self._features[0].shape[1]
                msg = f"row {first} has {features.shape[1]} features, the rows before it have {before}"
                raise CorpusError(msg)
            self._features.append(features)
            if self._columns.frame is not None:
                self._frame.append(_numbers(batch, self._columns.frame, first))
            if self._columns.valid is not None:
                self._valid.append(_flags(batch.column(self._columns.valid), self._columns.valid, first))
        except CorpusError as error:
            self._error = error
            self._features, self._frame, self._valid = [], [], []

    def outcome(self) -> Rows | CorpusError:
        try:
            return self.rows()
        except CorpusError as error:
            return error

    def rows(self) -> Rows:
        if self._error is not None:
            raise self._error
        if not self._features:
            msg = "the table has no rows"
            raise CorpusError(msg)
        return Rows(
            features=np.concatenate(self._features),
            frame=np.concatenate(self._frame) if self._frame else None,
            valid=np.concatenate(self._valid) if self._valid else None,
            columns=self._columns.features,
            first_row=self._first_row,
        )


def _assign(names: Sequence[str], selection: Selection) -> _Columns:
    for name in (selection.frame, selection.valid):
        if name is not None and name not in names:
            msg = f"there is no column {name!r}, only {listing(names)}"
            raise CorpusError(msg)
    aside = {selection.clip_column, selection.frame_name, selection.valid_name}
    free = [name for name in names if name not in aside]
    features = free
    if selection.columns:
        for pattern in selection.columns:
            if not any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names):
                msg = f"no column is called, or matches, {pattern!r}: there are {listing(names)}"
                raise CorpusError(msg)
        features = [
            name
            for name in names
            if any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in selection.columns)
        ]
        if taken := [name for name in features if name in aside]:
            msg = f"{listing(taken)} cannot be features and clips, frames or flags too: narrow --columns"
            raise CorpusError(msg)
    if not features:
        msg = f"no column is left for the features: there are only {listing(names)}"
        raise CorpusError(msg)
    clip, frame, valid = (
        name if name in names else None
        for name in (selection.clip_column, selection.frame_name, selection.valid_name)
    )
    return _Columns(tuple(features), clip, frame, valid)


def _ends(table: Table, column: str) -> dict[str, int]:
    """Returns clip -> the row after its last, in the order of the file; its rows must follow one another."""
    ends: dict[str, int] = {}
    current, row = None, 0
    for batch in table.batches((column,)):
        encoded = pc.cast(batch.column(column), pa.string()).dictionary_encode()
        if encoded.null_count:
            msg = f"row {row + int(np.argmax(encoded.is_null()))} names no clip in column {column!r}"
            raise CorpusError(msg)
        codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()] if len(codes) else []
        for start, stop in zip(starts, [*starts[1:], len(codes)], strict=False):
            clip = names[codes[start]]
            if clip != current and clip in ends:
                msg = (
                    f"row {row + start} is of clip {clip!r}, whose rows ended at row {ends[clip] - 1}: sort"
                    f" the table by {column!r}, so that the rows of a clip are together"
                )
                raise CorpusError(msg)
            ends[clip] = row + stop
            current = clip
        row += batch.num_rows
    if not ends:
        msg = "the table has no rows"
        raise CorpusError(msg)
    return ends


def _matrix(batch: pa.RecordBatch, columns: Sequence[str], first_row: int) -> Array:
    """Returns (N, D) float32 or float64: one column per number, or per element of a list."""
    parts = [_numbers(batch, name, first_row) for name in columns]
    dtype = np.float32 if all(part.dtype in (np.float16, np.float32) for part in parts) else np.float64
    widths = [1 if part.ndim == 1 else part.shape[1] for part in parts]
    matrix = np.empty((batch.num_rows, sum(widths)), dtype)
    at = 0
    for part, width in zip(parts, widths, strict=True):
        matrix[:, at : at + width] = part[:, None] if part.ndim == 1 else part
        at += width
    return matrix


def _numbers(batch: pa.RecordBatch, name: str, first_row: int) -> Array:
    """Returns the values of a column, (N,), or (N, D) of lists; NaN where there is none."""
    column = batch.column(name)
    kind = column.type
    if pa.types.is_string(kind):
        column = _parse(column, name, first_row)
    elif _is_list(kind) and _is_number(kind.value_type):
        return _stack(column, name, first_row)
    elif not _is_number(kind):
        msg = f"column {name!r} is of type {kind}, expected numbers: choose the features by --columns"
        raise CorpusError(msg)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values


def _parse(column: pa.Array, name: str, first_row: int) -> pa.Array:
    """Returns float64 of text; blanks around a number are allowed, as OpenFace writes them."""
    for text in (column, pc.utf8_trim_whitespace(column)):
        try:
            return pc.cast(text, pa.float64())
        except pa.ArrowInvalid:
            continue
    row = next(row for row, text in enumerate(column) if not _parses(text))
    msg = (
        f"row {first_row + row} has {column[row].as_py()!r} in column {name!r}, expected a number: repair it,"
        " or choose the features by --columns"
    )
    raise CorpusError(msg)


def _parses(text: pa.Scalar) -> bool:
    try:
        pc.cast(pc.utf8_trim_whitespace(text), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _stack(column: pa.Array, name: str, first_row: int) -> Array:
    """Returns (N, D) of lists of one length; a row without a list is NaN."""
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    there = ~np.isnan(lengths.astype(np.float64))
    if not there.any():
        msg = f"rows {first_row} to {first_row + len(column) - 1} have no list in column {name!r}"
        raise CorpusError(msg)
    width = int(lengths[there][0])
    odd = there & (lengths != width)
    if odd.any():
        row = int(odd.argmax())
        msg = f"row {first_row + row} has a list of {lengths[row]:g} in column {name!r}, not {width}"
        raise CorpusError(msg)
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    if there.all():
        matrix: Array = values.reshape(-1, width)
        return matrix
    matrix = np.full((len(column), width), np.nan)
    matrix[there] = values.reshape(-1, width)
    return matrix


def _flags(column: pa.Array, name: str, first_row: int) -> Array:
    """Returns (N,) bool of booleans, of integers 0 and 1, or of text that says so."""
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null()))
        msg = f"row {row} is empty in column {name!r}, expected 0 or 1"
        raise CorpusError(msg)
    if not pa.types.is_string(column.type):
        return as_flags(column.to_numpy(zero_copy_only=False))
    words = [word.strip().lower() for word in column.to_pylist()]
    wrong = next((row for row, word in enumerate(words) if word not in FLAGS), None)
    if wrong is not None:
        msg = f"row {first_row + wrong} has {column[wrong].as_py()!r} in column {name!r}, expected 0 or 1"
        raise CorpusError(msg)
    return np.array([FLAGS[word] for word in words])


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
