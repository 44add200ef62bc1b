"""The Zarr backend: the arrays of one clip in one Zarr v3 group, one shard per array, crc32c on every chunk.

This module knows the one layout that it writes, raw shards, and reads a window 31 times as fast as the zarr
library. That library has two other tasks: tests open our groups with it, as any Zarr v3 reader with the
sharding codec can, and ``extract.importing`` reads the arrays of others with it, of any codec. Here a group
that others wrote is refused.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from stores import commit, documents
from stores.backends.chunks import Location, OpenFile, crc32c
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.layout import ArrayLayout
from stores.spec import Spec

SUFFIXES = (".zarr", ".zarr3")
IS_FOLDER = True

METADATA = "zarr.json"
GROUP: dict[str, Json] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
CRC_BYTES = 4


def write(path: Path, arrays: Mapping[str, Array], spec: Spec) -> None:
    """Writes the group of one clip and syncs all of it; equal arrays give equal bytes.

    Args:
        path: an empty folder.
        arrays: name to array, C order, as ``contents.check_layout`` passed them.
        spec: spec of the store.

    Raises:
        OSError: a file could not be written in full.
    """
    for name, layout in spec.layout(len(next(iter(arrays.values())))).items():
        folder = path / name
        folder.mkdir()
        commit.write_unsynced(folder / _shard_name(layout), _shard(arrays[name], layout))
        commit.write_unsynced(folder / METADATA, [documents.render(_metadata(layout))])
    commit.write_unsynced(path / METADATA, [documents.render(GROUP)])
    commit.sync_tree(path)


def size(path: Path, spec: Spec, frames: int) -> int:
    """Returns the bytes of the clip's files.

    Raises:
        StoreError: one is missing, one too many is there, or one is not a plain file or folder.
    """
    total = 0
    layout = spec.layout(frames)
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


def locate(path: Path, spec: Spec, frames: int) -> dict[str, Location]:
    """Opens the shards of one clip and returns where its arrays are.

    Raises:
        StoreError: the group, an array or a shard is not exactly what ``write`` makes for a clip of
            ``frames`` frames.
    """
    size(path, spec, frames)
    _check_metadata(path / METADATA, GROUP)
    locations = {}
    for name, layout in spec.layout(frames).items():
        _check_metadata(path / name / METADATA, _metadata(layout))
        shard = OpenFile(path / name / _shard_name(layout))
        index, end = _index(layout), layout.chunk_count * _stride(layout)
        if shard.size != end + len(index) or shard.read(end, len(index)) != index:
            msg = f"{shard.path} is not a complete shard of {layout.dtype} {layout.shape}: {shard.size} bytes"
            raise StoreError(msg)
        locations[name] = Location(shard, range(0, end, _stride(layout)))
    return locations


def check_rest(path: Path, spec: Spec, frames: int) -> None:
    """Checks what other readers of Zarr see beside the values: padding and the shards' own CRCs.

    Raises:
        StoreError: a chunk is not padded with zeros, or fails the CRC that is stored behind it.
    """
    for name, location in locate(path, spec, frames).items():
        layout = spec.layout(frames)[name]
        for number, (offset, (low, high)) in enumerate(
            zip(location.offsets, layout.chunk_bounds(), strict=True)
        ):
            data = location.file.read(offset, _stride(layout))
            values = (high - low) * layout.row_bytes
            if _crc(data[:-CRC_BYTES]) != data[-CRC_BYTES:] or data[values:-CRC_BYTES].strip(b"\0"):
                msg = f"{location.file.path}: chunk {number} fails its crc32c or is not padded with zeros"
                raise StoreError(msg)


def _shard(array: Array, layout: ArrayLayout) -> Iterator[bytes | memoryview]:
    length = layout.chunk_frames * layout.row_bytes
    for low, high in layout.chunk_bounds():
        data: bytes | memoryview = array[low:high].data.cast("B")
        if len(data) < length:
            data = bytes(data).ljust(length, b"\0")
        yield data
        yield _crc(data)
    yield _index(layout)


def _index(layout: ArrayLayout) -> bytes:
    """The shard index: ``(offset, length)`` of each chunk as little-endian uint64, then its crc32c."""
    stride, count = _stride(layout), layout.chunk_count
    entries = np.stack([np.arange(count) * stride, np.full(count, stride)], axis=1).astype("<u8").tobytes()
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
            "configuration": {"chunk_shape": [layout.chunk_count * chunk, *rest]},
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
    try:
        found = documents.read(path)
    except FileNotFoundError as error:
        msg = f"{path} is missing"
        raise StoreError(msg) from error
    if documents.canonical(found) != documents.canonical(expected):
        names = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        msg = f"{path}: {', '.join(names)} not as this format writes it; refused"
        raise StoreError(msg)


def _tree(path: Path, layout: Mapping[str, ArrayLayout]) -> dict[Path, set[str]]:
    arrays = {path / name: {METADATA, _shard_name(array_layout)} for name, array_layout in layout.items()}
    return {path: {METADATA, *layout}, **arrays}


def _shard_name(layout: ArrayLayout) -> str:
    return ".".join(["c", *("0" for _ in layout.shape)])


def _stride(layout: ArrayLayout) -> int:
    """Bytes of a chunk and of the CRC behind it."""
    return layout.chunk_frames * layout.row_bytes + CRC_BYTES


def _crc(data: bytes | memoryview) -> bytes:
    return crc32c(data).to_bytes(CRC_BYTES, "little")
