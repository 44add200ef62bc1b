"""The files of an import: which there are, whose clips they hold, and which module reads them.

To add a format of arrays: one function and one line in ``array_files.OPEN``.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from extract.importing import array_files, table_files
from extract.importing.request import Selection
from extract.parsing import tables
from stores.errors import ConfigError, CorpusError

SUFFIXES = (*array_files.OPEN, *tables.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Source:
    """What was given to import.

    Attributes:
        suffix: of every file; one of ``SUFFIXES``.
        files: clip -> its file, sorted by clip; empty if ``many`` is given.
        many: the one file of many clips, or None.
        reader: ``array_files`` or ``table_files``. ``read_one(path, selection)`` gives the rows of the clip
            of a file, ``clips(path, selection)`` the clips of a file of many; ``read_many(path, selection,
            wanted)`` yields each wanted one of these: its rows, or what is wrong with them.
    """

    suffix: str
    files: dict[str, Path]
    many: Path | None
    reader: ModuleType


def find(source: Path, selection: Selection) -> Source:
    """Looks at what is to be imported.

    Args:
        source: a folder with one file per clip (its stem is the clip's id; hidden files do not count), or one
            file of many clips. An array or group of Zarr counts as a file.
        selection: where in the files the features are.

    Raises:
        CorpusError: no such thing, or the folder is empty, a store, or holds other things than files of one
            known suffix; names what is in the way.
        ConfigError: columns are asked of arrays, or an array of tables.
    """
    if (source / "store.json").exists():
        msg = f"{source} is a store already: name it in the configuration: streams.<name>.store"
        raise CorpusError(msg)
    if _is_file(source):
        return _source(source.suffix, {}, source, selection)
    if not source.is_dir():
        msg = f"{source} is not a folder, nor a file that ends in one of {' '.join(SUFFIXES)}"
        raise CorpusError(msg)
    paths = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    strange = [path.name for path in paths if not _is_file(path)]
    suffixes = sorted({path.suffix for path in paths if _is_file(path)})
    if strange or len(suffixes) != 1:
        found = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        if not strange:
            found = f"files of {len(suffixes)} kinds ({' '.join(suffixes)})" if suffixes else "nothing"
        msg = (
            f"the folder {source} holds {found}: expected one file per clip, all with the same one of the"
            f" suffixes {' '.join(SUFFIXES)}; move the rest elsewhere"
        )
        raise CorpusError(msg)
    return _source(suffixes[0], {path.stem: path for path in paths}, None, selection)


def _is_file(path: Path) -> bool:
    return path.suffix in SUFFIXES and (path.is_dir() if path.suffix == ".zarr" else path.is_file())


def _source(suffix: str, files: dict[str, Path], many: Path | None, selection: Selection) -> Source:
    is_table = suffix in tables.SUFFIXES
    if selection.columns and not is_table:
        msg = f"--columns is for tables ({' '.join(tables.SUFFIXES)}), these are {suffix} files: use --array"
        raise ConfigError(msg)
    if selection.array is not None and (is_table or suffix == ".npy"):
        msg = f"--array is for .npz, .h5, .hdf5 and .zarr, these are {suffix} files"
        raise ConfigError(msg)
    return Source(suffix, files, many, table_files if is_table else array_files)
