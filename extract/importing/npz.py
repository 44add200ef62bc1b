"""Features in ``.npz`` files: the named arrays of one clip, or one array per clip.

Not a general archive: entries that are not plain, unencrypted arrays of numbers are refused.
"""

import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from extract.importing.npy import read_array, read_header
from extract.importing.readers import Many
from extract.importing.request import Selection
from extract.importing.rows import Rows, check_size, named_rows
from stores.digest import Array
from stores.errors import CorpusError

SUFFIX = ".npy"
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_one(path: Path, selection: Selection) -> Rows:
    """Reads the clip whose arrays are a file's entries.

    Raises:
        CorpusError: damaged, hostile or over the limit, or without an array that is the features.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive)
            limit = selection.max_bytes
            shapes = {name: _shape(archive, entry, limit) for name, entry in entries.items()}
            return named_rows(shapes, lambda name: _read(archive, entries[name], limit), selection)
    except DAMAGE as error:
        msg = f"it is not a readable .npz file: {error}"
        raise CorpusError(msg) from error


def open_many(path: Path, selection: Selection) -> Many:
    """Opens a file in which every entry is the features of a clip.

    Raises:
        CorpusError: damaged, or an entry is not an array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _ManyClips(path, selection, tuple(_entries(archive)))
    except DAMAGE as error:
        msg = f"it is not a readable .npz file: {error}"
        raise CorpusError(msg) from error


@dataclass(frozen=True, slots=True)
class _ManyClips:
    path: Path
    selection: Selection
    clips: tuple[str, ...]

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, Rows | CorpusError]]:
        with zipfile.ZipFile(self.path) as archive:
            for clip, entry in _entries(archive).items():
                if clip not in wanted:
                    continue
                try:
                    rows: Rows | CorpusError = Rows(_read(archive, entry, self.selection.max_bytes))
                except CorpusError as error:
                    rows = error
                except DAMAGE as error:
                    rows = CorpusError(f"array {clip!r} cannot be read: {error}")
                yield clip, rows


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(SUFFIX)
        if name == entry.filename or name in entries:
            msg = f"it holds {entry.filename!r}, expected different arrays, each a .npy entry"
            raise CorpusError(msg)
        if entry.compress_type not in COMPRESSIONS or entry.flag_bits & 1:
            msg = f"{entry.filename!r} is encrypted, or not compressed as numpy does it"
            raise CorpusError(msg)
        entries[name] = entry
    if not entries:
        msg = "it holds no array"
        raise CorpusError(msg)
    return entries


def _shape(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int) -> tuple[int, ...]:
    with archive.open(entry) as file:
        return read_header(file, entry.file_size, f"array {entry.filename!r}", max_bytes)[0]


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int) -> Array:
    check_size(f"array {entry.filename!r}", entry.file_size, entry.compress_size, max_bytes)
    with archive.open(entry) as file:
        values = read_array(file, entry.file_size, f"array {entry.filename!r}", max_bytes)
        file.read(1)  # the checksum is compared at the end of the entry
    return values
