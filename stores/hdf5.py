"""The HDF5 backend: the arrays of one clip in one file, raw, in chunks of whole frames.

Not a general HDF5 reader: a file that holds anything but the expected plain datasets is refused.
"""

import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from stores import commit
from stores.digest import Array
from stores.errors import StoreError
from stores.layout import ArrayLayout

SUFFIX = ".h5"
IS_FOLDER = False

LIBVER = ("v110", "v110")
MAX_CHUNK_BYTES = 4 * 2**20


def write(path: Path, arrays: Mapping[str, Array], layout: Mapping[str, ArrayLayout]) -> None:
    """Writes the file of one clip and syncs it; equal arrays give equal bytes.

    The file is built in memory and written through our own descriptor: HDF5 reports a full disk late, or by a
    crash at exit.

    Args:
        path: file to overwrite.
        arrays: name to array, as ``contents.check_arrays`` passed them.
        layout: their layout.

    Raises:
        OSError: the file could not be written in full.
    """
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBVER) as file:
        for name, array_layout in layout.items():
            chunk = array_layout.chunk_frames
            # What fits in one chunk is stored contiguous: there is nothing to skip.
            chunks = (chunk, *array_layout.shape[1:]) if chunk < array_layout.shape[0] else None
            dataset = file.create_dataset(name, data=arrays[name], chunks=chunks, track_times=False)
            for axis, dim in enumerate(array_layout.dims):
                dataset.dims[axis].label = dim
    commit.write_file(path, [image.getvalue()])


def size(path: Path, layout: Mapping[str, ArrayLayout]) -> int:
    """Returns the bytes of the clip's file.

    Raises:
        StoreError: it is missing, or is not a regular file.
    """
    try:
        status = path.lstat()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise StoreError(msg) from error
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is not a regular file (symbolic links are refused)"
        raise StoreError(msg)
    return status.st_size


def open_clip(path: Path, layout: Mapping[str, ArrayLayout]) -> "Hdf5Clip":
    """Opens the file of one clip; only the calling process may use the result.

    Raises:
        StoreError: not HDF5, truncated, or holds anything else than the plain datasets of ``layout``: links,
            external or virtual storage, filters, other types or shapes.
    """
    size(path, layout)
    try:
        # Committed files never change, so there is nothing to lock, and some file systems cannot.
        # Without a cache HDF5 reads only the rows of a window, not whole chunks: twice as fast for raw data.
        file = h5py.File(os.fspath(path), "r", locking=False, rdcc_nbytes=0)
        if len(file) != len(layout):
            msg = f"{path} holds {len(file)} objects, expected {len(layout)}"
            raise StoreError(msg)
        return Hdf5Clip(
            file, {name: _dataset(file, path, name, expected) for name, expected in layout.items()}
        )
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        msg = f"{path} is not a readable clip: {error}"
        raise StoreError(msg) from error


class Hdf5Clip:
    """The open file of one clip; it closes when nothing refers to it."""

    def __init__(self, file: h5py.File, datasets: Mapping[str, h5py.Dataset]) -> None:
        self._file = file
        self._datasets = datasets

    def read(self, name: str, start: int, stop: int) -> Array:
        """Returns frames ``[start, stop)`` of one array.

        Raises:
            StoreError: the file could not be read.
        """
        try:
            values: Array = self._datasets[name][start:stop]
        except (OSError, RuntimeError) as error:
            msg = f"{self._file.filename}: frames {start}:{stop} of {name!r} cannot be read: {error}"
            raise StoreError(msg) from error
        return values


def _dataset(file: h5py.File, path: Path, name: str, expected: ArrayLayout) -> h5py.Dataset:
    # The kind of link comes first: asking for the object would already follow it.
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        msg = f"{path}: {name!r} is a soft or external link, which stores never hold"
        raise StoreError(msg)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        msg = f"{path}: {name!r} is not a dataset"
        raise StoreError(msg)
    plan = dataset.id.get_create_plist()
    if plan.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or plan.get_external_count():
        msg = f"{path}: {name!r} has virtual, compact or external storage, which stores never hold"
        raise StoreError(msg)
    if plan.get_nfilters():
        msg = f"{path}: {name!r} passes through {plan.get_nfilters()} filters, expected raw values"
        raise StoreError(msg)
    if dataset.dtype != np.dtype(expected.dtype) or dataset.shape != expected.shape:
        found = f"{dataset.dtype} {dataset.shape}"
        msg = f"{path}: {name!r} is {found}, the commit record says {expected.dtype} {expected.shape}"
        raise StoreError(msg)
    chunk_frames = dataset.chunks[0] if dataset.chunks else 0
    if chunk_frames * expected.row_bytes > max(MAX_CHUNK_BYTES, expected.row_bytes):
        msg = f"{path}: {name!r} has chunks of {dataset.chunks}, over {MAX_CHUNK_BYTES} bytes"
        raise StoreError(msg)
    # An unwritten chunk would read as zeros.
    stored = dataset.id.get_storage_size()
    if stored < expected.nbytes:
        msg = f"{path}: {name!r} holds {stored} bytes, expected at least {expected.nbytes}"
        raise StoreError(msg)
    return dataset
