"""The readers of feature files by suffix: ``load(suffix)`` gives the module that reads such files.

Not an importer of every format's library: a module is imported when its suffix is asked for.

To add one: a module with the two functions of ``Reader``, and one line in ``READERS``.
"""

import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol, cast

from extract.importing.request import Selection
from extract.importing.rows import Rows
from stores.errors import ConfigError, CorpusError

READERS = {
    ".npy": "extract.importing.npy",
    ".npz": "extract.importing.npz",
    ".h5": "extract.importing.hdf5",
    ".hdf5": "extract.importing.hdf5",
    ".csv": "extract.importing.csv",
    ".tsv": "extract.importing.csv",
    ".parquet": "extract.importing.parquet",
}
TABLES = (".csv", ".tsv", ".parquet")


class Many(Protocol):
    """An open file of many clips."""

    @property
    def clips(self) -> tuple[str, ...]:
        """Ids of the clips, in the order of the file."""

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Rows | CorpusError]]:
        """Yields each wanted clip once, in the order of the file: its rows, or what is wrong with it."""


class Reader(Protocol):
    """What a module must hold to read files of a format."""

    def read_one(self, path: Path, selection: Selection) -> Rows:
        """Reads the one clip that a file holds; ``CorpusError`` if it is damaged, hostile or unfit."""

    def open_many(self, path: Path, selection: Selection) -> Many:
        """Opens a file of many clips; ``CorpusError`` as above, or if the format cannot tell clips apart."""


def load(suffix: str, selection: Selection) -> Reader:
    """Returns the reader of files with ``suffix``, once ``selection`` is known to mean something to it.

    Raises:
        ConfigError: unknown suffix; or columns asked of arrays, or an array of tables.
    """
    if suffix not in READERS:
        msg = f"unknown suffix {suffix!r}: expected one of {' '.join(READERS)}"
        raise ConfigError(msg)
    if selection.columns and suffix not in TABLES:
        msg = f"--columns is for tables ({' '.join(TABLES)}), these are {suffix} files: use --array"
        raise ConfigError(msg)
    if selection.array is not None and suffix in (*TABLES, ".npy"):
        msg = f"--array is for .npz, .h5 and .hdf5, these are {suffix} files"
        raise ConfigError(msg)
    return cast("Reader", importlib.import_module(READERS[suffix]))
