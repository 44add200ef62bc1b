"""Features in ``.csv`` (commas) and ``.tsv`` (tabs) files with a header line, in UTF-8.

Not a guesser of dialects: other separators, decimal commas and lines of other lengths are errors.
"""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from extract.importing import table
from extract.importing.rows import listing
from stores.errors import CorpusError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
BLOCK_BYTES = 8 * 2**20
"""Text that is parsed at once; a line cannot be longer."""


@dataclass(frozen=True, slots=True)
class CsvTable:
    """An open file; see ``table.Table``. All of its columns are text, and nothing between separators is null.

    Attributes:
        path: of the file.
        names: of the columns, without the blanks around them.
        header: whether the first line holds the names, as it should.
    """

    path: Path
    names: tuple[str, ...]
    header: bool = True

    def batches(self, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Yields about 8 MiB of text at a time."""
        wanted = [name for name in self.names if name in columns]
        try:
            yield from pyarrow.csv.open_csv(
                self.path,
                # One thread keeps up with the disk, and names the line of an error.
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=BLOCK_BYTES,
                    column_names=self.names,
                    skip_rows=int(self.header),
                ),
                # An empty line is a row without values: skipping it would shift all frames after it.
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=SEPARATORS[self.path.suffix], ignore_empty_lines=False
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            msg = f"it cannot be parsed (lines are counted from 1): {error}"
            raise CorpusError(msg) from error


def open_table(path: Path) -> CsvTable:
    """Opens a file and reads its header line.

    Raises:
        CorpusError: not UTF-8 text, or the header has a name twice or none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(BLOCK_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"it has no header line: {error}"
        raise CorpusError(msg) from error
    names = [name.strip() for row in csv.reader([line], delimiter=SEPARATORS[path.suffix]) for name in row]
    if not names or "" in names or len(set(names)) < len(names):
        msg = f"its first line names columns {listing(names)}: expected a header of different names"
        raise CorpusError(msg)
    return CsvTable(path, tuple(names))


read_one = partial(table.read_one, open_table)
open_many = partial(table.open_many, open_table)
