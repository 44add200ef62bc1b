"""Features in tables: which columns are what, and where each clip begins and ends.

Memory is that of the longest clip: its rows as the file has them, and the matrix that they make.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from extract.importing.request import Selection
from extract.importing.timeline import Rows
from extract.parsing import tables
from extract.parsing.faults import listing
from extract.parsing.tables import Table
from stores.errors import CorpusError


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table by what they are."""

    features: tuple[str, ...]
    clip: str | None
    frame: str | None
    valid: str | None


def read_one(path: Path, selection: Selection) -> Rows:
    """Reads a table that holds one clip.

    Raises:
        CorpusError: damaged, over the limit, without the columns asked for, or of another clip than its name
            says.
    """
    table = tables.open_table(path)
    columns = _assign(table, selection)
    if columns.clip is not None and (found := list(_ends(table, columns.clip))) != [path.stem]:
        msg = f"{path}: column {columns.clip!r} holds {listing(found)}, expected {path.stem!r} in every row"
        raise CorpusError(msg)
    batches = [batch for _, batch in table.batches(_used(columns))]
    if not sum(batch.num_rows for batch in batches):
        raise _no_rows(table)
    return _rows(table, columns, selection, batches, 0)


def clips(path: Path, selection: Selection) -> tuple[str, ...]:
    """Returns the clips of a table, in its order: reads the column that names them.

    Raises:
        CorpusError: damaged, without such a column, or the rows of a clip are not together.
    """
    table = tables.open_table(path)
    columns = _assign(table, selection)
    if columns.clip is None:
        msg = (
            f"{path}: no column {selection.clip_column!r} names the clip of a row, only"
            f" {listing(table.names)}: name it by --clip-column, or give the folder if each file is one clip"
        )
        raise CorpusError(msg)
    return tuple(_ends(table, columns.clip))


def read_many(
    path: Path, selection: Selection, wanted: Iterable[str]
) -> Iterator[tuple[str, Rows | CorpusError]]:
    """Yields the wanted clips; where the file turns out to be damaged, all that follow are errors."""
    table = tables.open_table(path)
    columns = _assign(table, selection)
    left = dict.fromkeys(wanted)
    current, first = "", 0
    parts: list[pa.RecordBatch] = []
    try:
        for start, batch in table.batches((*_used(columns), str(columns.clip))):
            for clip, begin, stop in _runs(table, batch, str(columns.clip), start):
                if clip != current:
                    if parts:
                        yield current, _outcome(table, columns, selection, parts, first)
                    current, first, parts = clip, start + begin, []
                if clip in left or parts:
                    left.pop(clip, None)
                    parts.append(batch.slice(begin, stop - begin))
        if parts:
            yield current, _outcome(table, columns, selection, parts, first)
        error = CorpusError(f"{path}: it has lost rows since it was opened: import again")
    except CorpusError as damage:
        error = damage
        if parts:
            yield current, error
    yield from ((clip, error) for clip in left)


def _assign(table: Table, selection: Selection) -> _Columns:
    names = table.names
    tables.check_columns(table, [name for name in (selection.frame, selection.valid) if name is not None])
    aside = {selection.clip_column, selection.frame_name, selection.valid_name}
    features = [name for name in names if name not in aside]
    if selection.columns:
        for pattern in selection.columns:
            if not any(_matches(name, pattern) for name in names):
                msg = f"{table.path}: no column is called, or matches, {pattern!r}: found {listing(names)}"
                raise CorpusError(msg)
        features = [name for name in names if any(_matches(name, one) for one in selection.columns)]
        if taken := [name for name in features if name in aside]:
            msg = f"{table.path}: {listing(taken)} cannot be features and clips, frames or flags too:"
            msg += " narrow --columns"
            raise CorpusError(msg)
    if not features:
        msg = f"{table.path}: no column is left for the features: found {listing(names)}"
        raise CorpusError(msg)
    clip, frame, valid = (
        name if name in names else None
        for name in (selection.clip_column, selection.frame_name, selection.valid_name)
    )
    return _Columns(tuple(features), clip, frame, valid)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _used(columns: _Columns) -> tuple[str, ...]:
    return tuple(name for name in (*columns.features, columns.frame, columns.valid) if name is not None)


def _runs(table: Table, batch: pa.RecordBatch, column: str, start: int) -> list[tuple[str, int, int]]:
    """Returns clip, first row and the row after the last of every run of rows of one clip."""
    encoded = batch.column(column).cast(pa.string()).dictionary_encode()
    if encoded.null_count:
        row = int(np.argmax(encoded.is_null()))
        raise table.error(start + row, "", f"the name of a clip in column {column!r}")
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    return [
        (names[codes[begin]], begin, stop)
        for begin, stop in zip(starts, [*starts[1:], len(codes)], strict=True)
        if stop > begin
    ]


def _ends(table: Table, column: str) -> dict[str, int]:
    """Returns clip -> the row after its last, in the order of the file; its rows must follow one another."""
    ends: dict[str, int] = {}
    current = None
    for start, batch in table.batches((column,)):
        for clip, begin, stop in _runs(table, batch, column, start):
            if clip != current and clip in ends:
                found = f"{clip}, whose rows ended at {table.place(ends[clip] - 1)}"
                raise table.error(start + begin, found, f"a table that is sorted by {column!r}")
            ends[clip] = start + stop
            current = clip
    if not ends:
        raise _no_rows(table)
    return ends


def _no_rows(table: Table) -> CorpusError:
    return CorpusError(f"{table.path}: the table has no rows")


def _outcome(
    table: Table, columns: _Columns, selection: Selection, parts: Sequence[pa.RecordBatch], first: int
) -> Rows | CorpusError:
    try:
        return _rows(table, columns, selection, parts, first)
    except CorpusError as error:
        return error


def _rows(
    table: Table, columns: _Columns, selection: Selection, parts: Sequence[pa.RecordBatch], first: int
) -> Rows:
    batch = pa.concat_batches(parts)
    if batch.nbytes > selection.max_bytes:
        msg = f"{table.place(first)}: its clip takes {batch.nbytes} bytes, the limit for a clip is"
        msg += f" {selection.max_bytes}: cut it into clips"
        raise CorpusError(msg)
    features = table.matrix(batch, columns.features, first)
    return Rows(
        path=table.path,
        features=features,
        frame=None if columns.frame is None else table.matrix(batch, (columns.frame,), first)[:, 0],
        valid=None if columns.valid is None else table.flags(batch, columns.valid, first),
        columns=columns.features,
        unit="line" if table.first_line else "row",
        first=table.first_line + first,
    )
