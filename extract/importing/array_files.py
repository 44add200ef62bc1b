"""Features in .npy, .npz, HDF5 and Zarr files: arrays, alone or by name, read a clip at a time.

A file is an array or a group, and a group holds arrays and groups by name. An array is the features of a
clip; a group of one clip holds ``features``, and ``frame`` and ``valid`` if there are any.
"""

import logging
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from extract.importing.request import Selection
from extract.importing.timeline import Rows
from extract.parsing.faults import listing
from stores.digest import Array
from stores.errors import CorpusError

logger = logging.getLogger(__name__)

DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    EOFError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What the libraries raise for files that are damaged or of another kind, and this module for unfit ones."""


@dataclass(frozen=True, slots=True)
class Item:
    """An array in a file.

    Attributes:
        shape: of it.
        dtype: of it.
        read: reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]


Member = Callable[[], "Item | Group"]
Group = Mapping[str, Member]
"""Opens its members when they are asked for: one that is damaged does not spoil the others."""


def read_one(path: Path, selection: Selection) -> Rows:
    """Reads the clip that a file holds.

    Raises:
        CorpusError: damaged or over the limit, or without an array that is the features.
    """
    try:
        with OPEN[path.suffix](path) as root:
            return _rows(path, root, selection)
    except DAMAGE as error:
        raise _unfit(path, error) from error


def clips(path: Path, selection: Selection) -> tuple[str, ...]:
    """Returns the names in a file in which every array, or group of arrays, is a clip.

    Raises:
        CorpusError: damaged or empty, or one array.
    """
    del selection
    try:
        with OPEN[path.suffix](path) as root:
            names = None if isinstance(root, Item) else tuple(root)
    except DAMAGE as error:
        raise _unfit(path, error) from error
    if names is None:
        msg = (
            f"{path} is one array, which cannot tell clips apart: give the folder that holds one"
            f" {path.suffix} file per clip, or a file with one array per clip, such as an .npz file"
        )
        raise CorpusError(msg)
    if not names:
        msg = f"{path} holds no array or group: expected one per clip"
        raise CorpusError(msg)
    return names


def read_many(
    path: Path, selection: Selection, wanted: Iterable[str]
) -> Iterator[tuple[str, Rows | CorpusError]]:
    """Yields the wanted clips of a file in which every array, or group of arrays, is a clip."""
    with OPEN[path.suffix](path) as root:
        assert not isinstance(root, Item)
        for clip in wanted:
            rows: Rows | CorpusError
            try:
                rows = _rows(path, root[clip](), selection)
            except CorpusError as error:
                rows = error
            except DAMAGE as error:
                rows = _unfit(path, error)
            yield clip, rows


def _unfit(path: Path, error: Exception) -> CorpusError:
    return CorpusError(f"{path}: {error or type(error).__name__}")


def _rows(path: Path, found: Item | Group, selection: Selection) -> Rows:
    if isinstance(found, Item):
        return Rows(path, _values("the array", found, selection))
    for name in (selection.array, selection.frame, selection.valid):
        if name is not None and name not in found:
            msg = f"there is no array {name!r}, only {listing(found)}"
            raise ValueError(msg)
    frame, valid = selection.frame_name, selection.valid_name
    chosen = selection.array or "features"
    if chosen not in found:
        matrices = [name for name in found if name not in (frame, valid) and _is_matrix(found[name]())]
        if len(matrices) != 1:
            msg = (
                f"no array is called 'features', and {len(matrices)} of {listing(found)} are 2-D: name the"
                " one that it is by --array"
            )
            raise ValueError(msg)
        chosen = matrices[0]
    arrays = {
        name: _values(repr(name), found[name](), selection)
        for name in (chosen, frame, valid)
        if name in found
    }
    return Rows(path, arrays[chosen], arrays.get(frame), arrays.get(valid))


def _is_matrix(found: Item | Group) -> bool:
    return isinstance(found, Item) and len(found.shape) == 2


def _values(what: str, found: Item | Group, selection: Selection) -> Array:
    if not isinstance(found, Item):
        msg = f"{what} is a group, expected an array"
        raise ValueError(msg)
    if found.dtype.kind not in "fiub":
        kind = "Python objects: pickles are never loaded" if found.dtype.hasobject else found.dtype
        msg = f"{what} holds {kind}, expected numbers"
        raise ValueError(msg)
    size = math.prod(found.shape) * found.dtype.itemsize
    if size > selection.max_bytes:
        msg = f"{what} takes {size} bytes, the limit for a clip is {selection.max_bytes}: cut it into clips"
        raise ValueError(msg)
    return found.read()


@contextmanager
def _open_npy(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        item = _npy(file, partial(np.load, path, allow_pickle=False))
        declared, held = math.prod(item.shape) * item.dtype.itemsize, path.stat().st_size - file.tell()
    if declared != held and not item.dtype.hasobject:
        msg = f"the array takes {declared} bytes by its header, but {held} bytes follow: damaged"
        raise ValueError(msg)
    yield item


def _npy(file: Any, read: Callable[[], Array]) -> Item:
    """Reads the header of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    return Item(shape, dtype, read)


@contextmanager
def _open_npz(path: Path) -> Iterator[Group]:
    def member(name: str) -> Item:
        with archive.open(name) as file:
            return _npy(file, partial(read, name))

    def read(name: str) -> Array:
        with archive.open(name) as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if strange := [name for name in names if not name.endswith(".npy")]:
            msg = f"it holds {strange[0]!r}, expected arrays, each a .npy entry"
            raise ValueError(msg)
        yield {name.removesuffix(".npy"): partial(member, name) for name in names}


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Group]:
    with h5py.File(path, "r", locking=False) as file:
        yield _hdf5_group(file)


def _hdf5_group(group: h5py.Group) -> Group:
    if strange := [name for name in group if not isinstance(name, str)]:  # h5py gives bytes for these
        msg = f"it holds {strange[0]!r}, a name that is not UTF-8"
        raise ValueError(msg)
    return {name: partial(_hdf5_member, group, name) for name in group}


def _hdf5_member(group: h5py.Group, name: str) -> Item | Group:
    # The kind of link comes first: asking for the object would already follow it.
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        msg = f"{name!r} is a soft or external link, which may lead anywhere: copy what it leads to"
        raise ValueError(msg)
    found = group[name]
    if isinstance(found, h5py.Group):
        return _hdf5_group(found)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        msg = f"{name!r} is not a dataset with values"
        raise ValueError(msg)
    return Item(found.shape, found.dtype, partial(_hdf5_values, found))


def _hdf5_values(dataset: h5py.Dataset) -> Array:
    plan = dataset.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        msg = f"{dataset.name!r} has virtual or external storage, which may lead to other files: copy it"
        raise ValueError(msg)
    if dataset.chunks is None:
        complete = dataset.id.get_storage_size() >= dataset.nbytes
    else:
        pairs = zip(dataset.shape, dataset.chunks, strict=True)
        complete = dataset.id.get_num_chunks() == int(
            np.prod([-(-length // chunk) for length, chunk in pairs])
        )
    if not complete:
        # What is not there would read as the fill value, which is a guess at what should be there.
        msg = f"{dataset.name!r} was never written in full: chunks are not in the file"
        raise ValueError(msg)
    values: Array = dataset[...]
    return values


@contextmanager
def _open_zarr(path: Path) -> Iterator[Item | Group]:
    import zarr  # 0.3 s, which no other format needs

    def tree(found: Any) -> Item | Group:
        if isinstance(found, zarr.Group):
            return {name: partial(member, found, name) for name in sorted(found)}
        return Item(found.shape, np.dtype(found.dtype), partial(_zarr_values, found))

    def member(group: Any, name: str) -> Item | Group:
        return tree(group[name])

    yield tree(zarr.open(path, mode="r"))


def _zarr_values(array: Any) -> Array:
    if absent := array.nchunks - array.nchunks_initialized:
        # Not an error: Zarr leaves out the chunks that hold nothing but the fill value.
        logger.warning(
            "%s: %d of %d chunks of %r are not there and read as %s",
            array.store_path,
            absent,
            array.nchunks,
            array.path,
            array.fill_value,
        )
    try:
        return np.asarray(array[...])
    except Exception as error:  # a codec is anybody's code, and raises what it likes
        raise ValueError(str(error)) from error


OPEN: dict[str, Callable[[Path], AbstractContextManager[Item | Group]]] = {
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".zarr": _open_zarr,
}
