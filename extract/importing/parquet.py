"""Features in Parquet files: a column per number, or columns of lists.

Not a reader of nested tables: what is neither a number nor a list of numbers cannot be a feature.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from extract.importing import table
from extract.importing.rows import listing
from stores.errors import CorpusError

DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
BATCH_ROWS, BATCH_VALUES = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """An open file; see ``table.Table``. Its columns have types of their own.

    Attributes:
        path: of the file.
        names: of the columns.
    """

    path: Path
    names: tuple[str, ...]

    def batches(self, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Yields at most a thousand rows and, of numbers, a million values at a time."""
        wanted = [name for name in self.names if name in columns]
        rows = max(1, min(BATCH_ROWS, BATCH_VALUES // len(wanted)))
        try:
            with _open(self.path) as file:
                yield from file.iter_batches(rows, columns=wanted, use_threads=False)
        except DAMAGE as error:
            msg = f"it is damaged: {error}"
            raise CorpusError(msg) from error


def open_table(path: Path) -> ParquetTable:
    """Opens a file and reads its schema.

    Raises:
        CorpusError: not a Parquet file, or a column name is there twice.
    """
    try:
        with _open(path) as file:
            names = file.schema_arrow.names
    except DAMAGE as error:
        msg = f"it is not a readable Parquet file: {error}"
        raise CorpusError(msg) from error
    if len(set(names)) < len(names):
        msg = f"it has columns {listing(names)}: expected different names"
        raise CorpusError(msg)
    return ParquetTable(path, tuple(names))


def _open(path: Path) -> "pyarrow.parquet.ParquetFile":
    # Buffered, so that a row group is decoded page by page instead of being read as a whole.
    return pyarrow.parquet.ParquetFile(
        path, pre_buffer=False, buffer_size=2**16, page_checksum_verification=True, memory_map=False
    )


read_one = partial(table.read_one, open_table)
open_many = partial(table.open_many, open_table)
