"""The HDF5 backend: the arrays of one clip in one file, raw, in chunks of whole frames, dimensions scaled.

A file that holds anything but the expected plain datasets is refused. HDF5 itself places and finds the
chunks; their values pass beside it. h5py is imported when a file is opened: most answers need records alone.
"""

import contextlib
import io
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stores import commit
from stores.backends.chunks import Location, OpenFile
from stores.digest import Array
from stores.errors import StoreError
from stores.layout import ArrayLayout
from stores.spec import Spec

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5")
IS_FOLDER = False

LIBVER = ("v110", "v110")
# Large arrays start on a page of memory: an unaligned one would be copied in twice as many pieces.
ALIGNMENT = {"alignment_threshold": 2**16, "alignment_interval": 4096}
SPARE_BYTES = 4 * 2**20


def write(path: Path, arrays: Mapping[str, Array], spec: Spec) -> None:
    """Writes the file of one clip and syncs it; equal arrays give equal bytes.

    HDF5 lays the file out in memory without the values, which then go through our own descriptor: HDF5
    reports a full disk late, or by a crash at exit, and copies every value twice.

    Args:
        path: file to overwrite.
        arrays: name to array, C order, as ``contents.check_layout`` passed them.
        spec: spec of the store.

    Raises:
        OSError: the file could not be written in full.
    """
    import h5py

    frames = len(next(iter(arrays.values())))
    layout = spec.layout(frames)
    image = _Image(sum(array.padded_bytes for array in layout.values()) + SPARE_BYTES)
    with h5py.File(image, "w", libver=LIBVER, **ALIGNMENT) as file:
        scales = {
            name: file.create_dataset(name, data=values, track_times=False)
            for name, values in spec.coordinates(frames).items()
        }
        datasets = {name: _allocate(file, name, array) for name, array in layout.items()}
        for name, scale in (scales | datasets).items():
            if name in {dim for array in layout.values() for dim in array.dims}:
                scale.make_scale(name)
        for name, array in layout.items():
            for axis, dim in enumerate(array.dims):
                datasets[name].dims[axis].label = dim
                if dim != name:
                    datasets[name].dims[axis].attach_scale(file[dim])
        file.flush()
        # The values in the order of the file, and where the file's own bytes between them begin and end.
        values = sorted(
            (offset, name, number)
            for name, array in layout.items()
            for number, offset in enumerate(_offsets(datasets[name], array))
        )
    commit.write_file(path, _blocks(image, values, arrays, layout))


def size(path: Path, spec: Spec, frames: int) -> int:
    """Returns the bytes of the clip's file.

    Raises:
        StoreError: it is missing, or is not a regular file.
    """
    return OpenFile(path).size


def locate(path: Path, spec: Spec, frames: int) -> dict[str, Location]:
    """Opens the file of one clip and returns where its arrays are.

    Raises:
        StoreError: not HDF5, truncated, or holds anything else than the plain datasets of a clip of
            ``frames`` frames: links, external or virtual storage, filters, other types or shapes.
    """
    layout, coordinates = spec.layout(frames), spec.coordinates(frames)
    clip = OpenFile(path)
    with _parsed(clip) as file:
        if len(file) != len(layout) + len(coordinates):
            msg = f"{path} holds {len(file)} objects, expected {len(layout) + len(coordinates)}"
            raise StoreError(msg)
        for name, values in coordinates.items():
            _dataset(file, path, name, values.dtype, values.shape)
        return {name: Location(clip, _locate(file, path, name, layout[name])) for name in layout}


def check_rest(path: Path, spec: Spec, frames: int) -> None:
    """Checks what other readers of HDF5 see beside the arrays: the values of the dimension scales.

    Raises:
        StoreError: a scale does not hold what the spec says.
    """
    with _parsed(OpenFile(path)) as file:
        for name, values in spec.coordinates(frames).items():
            if not np.array_equal(_dataset(file, path, name, values.dtype, values.shape)[()], values):
                msg = f"{path}: the dimension scale {name!r} does not hold what the spec says"
                raise StoreError(msg)


@contextlib.contextmanager
def _parsed(clip: OpenFile) -> "Iterator[h5py.File]":
    import h5py

    try:
        with h5py.File(_Source(clip), "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        msg = f"{clip.path} is not a readable clip: {error}"
        raise StoreError(msg) from error


class _Seekable(io.RawIOBase):
    """What HDF5 asks of a file object beside reading and writing."""

    def __init__(self, end: int) -> None:
        self.end = end
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.end}[whence]
        return self._position


class _Image(_Seekable):
    """A file in memory to which HDF5 writes all but the values; pages that nobody touches take no memory."""

    def __init__(self, capacity: int) -> None:
        super().__init__(0)
        self._memory = mmap.mmap(-1, capacity)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        buffer[:] = self[self._position : self._position + len(buffer)]
        return len(buffer)

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        self._memory[self._position : self._position + len(data)] = bytes(data)
        self.end = max(self.end, self._position + len(data))
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        self.end = self._position if size is None else size
        return self.end

    def __getitem__(self, part: slice) -> bytes:
        return self._memory[part]


class _Source(_Seekable):
    """An open file as HDF5 reads it, so that what it parses is the file whose values are read."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file.size)
        self._file = file

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        self._file.gather([(self._position, buffer)])
        return len(buffer)


def _allocate(file: "h5py.File", name: str, layout: ArrayLayout) -> "h5py.Dataset":
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    # What fits in one chunk is stored contiguous: there is nothing to skip.
    chunk = layout.chunk_frames
    chunks = (chunk, *layout.shape[1:]) if chunk < layout.shape[0] else None
    return file.create_dataset(name, layout.shape, layout.dtype, chunks=chunks, track_times=False, dcpl=plan)


def _offsets(dataset: "h5py.Dataset", layout: ArrayLayout) -> list[int]:
    """Returns the first byte of each chunk; a contiguous dataset has chunks without knowing it."""
    if dataset.chunks is None:
        step, first = layout.chunk_frames * layout.row_bytes, dataset.id.get_offset()
        return [first + number * step for number in range(layout.chunk_count)]
    chunks: list[tuple[int, int]] = []
    dataset.id.chunk_iter(lambda chunk: chunks.append((chunk.chunk_offset[0], chunk.byte_offset)))
    return [offset for _, offset in sorted(chunks)]


def _blocks(
    image: _Image,
    values: list[tuple[int, str, int]],
    arrays: Mapping[str, Array],
    layout: Mapping[str, ArrayLayout],
) -> Iterator[bytes | memoryview]:
    """Yields the whole file: what HDF5 wrote, and in its place each chunk of values, padded with zeros."""
    bounds = {name: array.chunk_bounds() for name, array in layout.items()}
    position = 0
    for offset, name, number in values:
        yield image[position:offset]
        low, high = bounds[name][number]
        data = arrays[name][low:high].data.cast("B")
        yield data
        position = offset + len(data)
    yield image[position : image.end]


def _locate(file: "h5py.File", path: Path, name: str, layout: ArrayLayout) -> list[int]:
    dataset = _dataset(file, path, name, np.dtype(layout.dtype), layout.shape)
    chunk = (layout.chunk_frames, *layout.shape[1:])
    if dataset.chunks is not None and dataset.chunks != chunk:
        msg = f"{path}: {name!r} has chunks of {dataset.chunks}, expected {chunk}"
        raise StoreError(msg)
    # An unwritten chunk has no place in the file.
    offsets = _offsets(dataset, layout)
    stored = dataset.id.get_storage_size()
    if len(offsets) != layout.chunk_count or stored < layout.nbytes:
        msg = f"{path}: {name!r} holds {stored} bytes, expected at least {layout.nbytes}"
        raise StoreError(msg)
    return offsets


def _dataset(
    file: "h5py.File", path: Path, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> "h5py.Dataset":
    import h5py

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
    if dataset.dtype != dtype or dataset.shape != shape:
        msg = f"{path}: {name!r} is {dataset.dtype} {dataset.shape}, expected {dtype} {shape}"
        raise StoreError(msg)
    return dataset
