"""The Zarr backend: the arrays of one clip in one Zarr v3 group, one shard per array, crc32c on every chunk.

Not a general Zarr reader: it reads the one layout that it writes, raw shards, without the zarr library. Any
Zarr v3 reader with the sharding codec opens these groups; groups that others write are refused.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import google_crc32c
import numpy as np

from stores import commit, documents
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.layout import ArrayLayout

SUFFIX = ".zarr"
IS_FOLDER = True

METADATA = "zarr.json"
GROUP: dict[str, Json] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
CRC_BYTES = 4


def write(path: Path, arrays: Mapping[str, Array], layout: Mapping[str, ArrayLayout]) -> None:
    """Writes the group of one clip and syncs all of it; equal arrays give equal bytes.

    Args:
        path: an empty folder.
        arrays: name to array, as ``contents.check_arrays`` passed them.
        layout: their layout.

    Raises:
        OSError: a file could not be written in full.
    """
    for name, array_layout in layout.items():
        folder = path / name
        folder.mkdir()
        commit.write_file(folder / _shard_name(array_layout), _shard(arrays[name], array_layout))
        commit.write_file(folder / METADATA, [documents.render(_metadata(array_layout))])
        commit.sync_folder(folder)
    commit.write_file(path / METADATA, [documents.render(GROUP)])
    commit.sync_folder(path)


def size(path: Path, layout: Mapping[str, ArrayLayout]) -> int:
    """Returns the bytes of the clip's files.

    Raises:
        StoreError: one is missing, one too many is there, or one is not a plain file or folder.
    """
    total = 0
    try:
        for folder, expected in _tree(path, layout).items():
            if not stat.S_ISDIR(folder.lstat().st_mode):
                msg = f"{folder} is not a folder (symbolic links are refused)"
                raise StoreError(msg)
            found = {entry.name for entry in os.scandir(folder)}
            if found != expected:
                msg = f"{folder} holds {sorted(found)}, expected {sorted(expected)}"
                raise StoreError(msg)
            for name in expected - layout.keys():
                status = (folder / name).lstat()
                if not stat.S_ISREG(status.st_mode):
                    msg = f"{folder / name} is not a regular file (symbolic links are refused)"
                    raise StoreError(msg)
                total += status.st_size
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        raise StoreError(msg) from error
    return total


def open_clip(path: Path, layout: Mapping[str, ArrayLayout]) -> "ZarrClip":
    """Opens the group of one clip.

    Raises:
        StoreError: the group, an array or a shard is not exactly what ``write`` makes for ``layout``.
    """
    size(path, layout)
    _check_metadata(path / METADATA, GROUP)
    shards = {}
    for name, array_layout in layout.items():
        _check_metadata(path / name / METADATA, _metadata(array_layout))
        shards[name] = _Shard(path / name / _shard_name(array_layout), array_layout)
    return ZarrClip(shards)


class ZarrClip:
    """The open shards of one clip; they close when nothing refers to them."""

    def __init__(self, shards: Mapping[str, "_Shard"]) -> None:
        self._shards = shards

    def read(self, name: str, start: int, stop: int) -> Array:
        """Returns frames ``[start, stop)`` of one array; every chunk touched is checked by its crc32c.

        Raises:
            StoreError: a chunk is damaged or could not be read.
        """
        return self._shards[name].read(start, stop)


class _Shard:
    """One open shard file: chunk, crc32c, chunk, crc32c, ..., then the index and its crc32c."""

    def __init__(self, path: Path, layout: ArrayLayout) -> None:
        self._descriptor = -1
        self._path = path
        self._layout = layout
        index = _index(layout)
        offset = _chunk_count(layout) * (_chunk_bytes(layout) + CRC_BYTES)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            length = os.fstat(self._descriptor).st_size
            stored = os.pread(self._descriptor, len(index), offset)
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise StoreError(msg) from error
        if length != offset + len(index) or stored != index:
            msg = f"{path} is not a complete shard of {layout.dtype} {layout.shape}: {length} bytes"
            raise StoreError(msg)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, start: int, stop: int) -> Array:
        layout, chunk, length = self._layout, self._layout.chunk_frames, _chunk_bytes(self._layout)
        values = np.empty((stop - start, *layout.shape[1:]), layout.dtype)
        for number in range(start // chunk, -(-stop // chunk)):
            offset = number * (length + CRC_BYTES)
            try:
                # pread has no file position, so threads and forked processes may share the descriptor.
                data = os.pread(self._descriptor, length, offset)
                crc = os.pread(self._descriptor, CRC_BYTES, offset + length)
            except OSError as error:
                msg = f"{self._path}: chunk {number} cannot be read: {error.strerror}"
                raise StoreError(msg) from error
            first = number * chunk
            if len(data) != length or _crc(data) != crc:
                msg = f"{self._path}: chunk {number} (frames {first}:{first + chunk}) fails its crc32c"
                raise StoreError(msg)
            rows = np.frombuffer(data, layout.dtype, length // values.itemsize).reshape(
                chunk, *layout.shape[1:]
            )
            low, high = max(start, first), min(stop, first + chunk)
            values[low - start : high - start] = rows[low - first : high - first]
        return values


def _shard(array: Array, layout: ArrayLayout) -> Iterator[bytes | memoryview]:
    chunk = layout.chunk_frames
    for first in range(0, layout.shape[0], chunk):
        data = array[first : first + chunk].tobytes().ljust(_chunk_bytes(layout), b"\0")
        yield data
        yield _crc(data)
    yield _index(layout)


def _index(layout: ArrayLayout) -> bytes:
    """The shard index: ``(offset, length)`` of each chunk as little-endian uint64, then its crc32c."""
    length = _chunk_bytes(layout) + CRC_BYTES
    count = _chunk_count(layout)
    entries = np.stack([np.arange(count) * length, np.full(count, length)], axis=1).astype("<u8").tobytes()
    return entries + _crc(entries)


def _metadata(layout: ArrayLayout) -> dict[str, Json]:
    crc: Json = {"name": "crc32c"}
    little: Json = {"name": "bytes", "configuration": {"endian": "little"}}
    # The bytes codec has no endianness where a value is one byte.
    values: Json = little if np.dtype(layout.dtype).itemsize > 1 else {"name": "bytes"}
    chunk, rest = layout.chunk_frames, layout.shape[1:]
    fill: Json = False if layout.dtype == "bool" else 0.0 if layout.dtype.startswith("float") else 0
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [*layout.shape],
        "data_type": layout.dtype,
        "dimension_names": [*layout.dims],
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [_chunk_count(layout) * chunk, *rest]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [chunk, *rest],
                    "codecs": [values, crc],
                    "index_codecs": [little, crc],
                    "index_location": "end",
                },
            }
        ],
        "attributes": {},
        "storage_transformers": [],
    }


def _check_metadata(path: Path, expected: Mapping[str, Json]) -> None:
    found = documents.read(path)
    if documents.canonical(found) != documents.canonical(expected):
        names = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        msg = f"{path}: {', '.join(names)} not as this format writes it; refused"
        raise StoreError(msg)


def _tree(path: Path, layout: Mapping[str, ArrayLayout]) -> dict[Path, set[str]]:
    arrays = {path / name: {METADATA, _shard_name(array_layout)} for name, array_layout in layout.items()}
    return {path: {METADATA, *layout}, **arrays}


def _shard_name(layout: ArrayLayout) -> str:
    return ".".join(["c", *("0" for _ in layout.shape)])


def _chunk_count(layout: ArrayLayout) -> int:
    return -(-layout.shape[0] // layout.chunk_frames)


def _chunk_bytes(layout: ArrayLayout) -> int:
    return layout.chunk_frames * layout.row_bytes


def _crc(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(CRC_BYTES, "little")
