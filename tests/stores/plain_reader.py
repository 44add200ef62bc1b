"""A reader of stores made from docs/FORMAT.md alone: the standard library, and h5py for HDF5.

It is slow; it proves that the document is enough, and that our reader reads what it says.
"""

import hashlib
import json
import math
import struct
from pathlib import Path

BYTES = {"float16": 2, "float32": 4, "int32": 4, "int8": 1, "bool": 1}


def read_store(path: Path) -> dict[str, dict[str, tuple[tuple[int, ...], bytes]]]:
    """Returns clip -> array -> shape and values (C order, little-endian); ``ValueError`` on any damage."""
    store = json.loads((path / "store.json").read_bytes())
    require(store["format"] == "facets-store" and store["version"] == 1, "not a store of version 1")
    deciding = {key: value for key, value in store["spec"].items() if key != "versions"}
    spec_digest = sha256(canonical({**deciding, "kind": store["kind"]}))
    return {
        file.name.removesuffix(".json"): read_clip(file, store["backend"], spec_digest)
        for file in sorted((path / "clips").glob("*.json"))
    }


def read_clip(file: Path, backend: str, spec_digest: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Returns array -> shape and values of the clip whose record is ``file``."""
    record = json.loads(file.read_bytes())
    stated = record.pop("record_sha256")
    require(sha256(canonical(record)) == stated, "the record fails its digest")
    require(record["clip"] + ".json" == file.name, "the record is of another clip")
    require(record["spec_sha256"] == spec_digest, "the record is of another spec")
    data = file.parent / record["data"]
    files = [data] if data.is_file() else [part for part in data.rglob("*") if part.is_file()]
    require(sum(part.stat().st_size for part in files) == record["data_bytes"], "the data has another size")
    read = read_hdf5 if backend == "hdf5" else read_zarr
    arrays = {}
    for name, array in record["arrays"].items():
        shape, dtype = tuple(array["shape"]), array["dtype"]
        values = read(data, name, shape, dtype)
        head = f"{dtype} {'x'.join(map(str, shape))}\n".encode()
        step = chunk_frames(shape, dtype) * row_bytes(shape, dtype)
        for number in range(-(-len(values) // step)):
            crc = int(array["chunk_crc32c"][8 * number : 8 * number + 8], 16)
            chunk = values[number * step : (number + 1) * step]
            require(crc32c(chunk) == crc, f"chunk {number} of {name!r} fails its CRC")
        require(sha256(head + values) == array["sha256"], f"{name!r} fails its digest")
        arrays[name] = (shape, values)
    return arrays


def read_hdf5(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> bytes:
    import h5py

    with h5py.File(path, "r") as file:
        require((file[name].shape, file[name].dtype.name) == (shape, dtype), f"{name!r} has another type")
        return file[name][...].tobytes()


def read_zarr(path: Path, name: str, shape: tuple[int, ...], dtype: str) -> bytes:
    metadata = json.loads((path / name / "zarr.json").read_bytes())
    require((tuple(metadata["shape"]), metadata["data_type"]) == (shape, dtype), f"{name!r} has another type")
    frames = chunk_frames(shape, dtype)
    sharding = metadata["codecs"][0]["configuration"]
    require(sharding["chunk_shape"] == [frames, *shape[1:]], f"{name!r} has other chunks")
    shard = (path / name / ".".join(["c", *("0" for _ in shape)])).read_bytes()
    count = -(-shape[0] // frames)
    index = shard[-(16 * count + 4) :]
    require(crc32c(index[:-4]) == struct.unpack("<I", index[-4:])[0], f"the index of {name!r} fails its CRC")
    values = b""
    for number in range(count):
        offset, length = struct.unpack_from("<QQ", index, 16 * number)
        values += shard[offset : offset + length - 4]
    return values[: shape[0] * row_bytes(shape, dtype)]


def chunk_frames(shape: tuple[int, ...], dtype: str) -> int:
    """``Tc``: the largest power of two within 512 KiB, but no more than the smallest that holds the clip."""
    largest = 1
    while 2 * largest * row_bytes(shape, dtype) <= 512 * 1024:
        largest *= 2
    whole = 1
    while whole < shape[0]:
        whole *= 2
    return min(largest, whole)


def row_bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape[1:]) * BYTES[dtype]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def require(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)
