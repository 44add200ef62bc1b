"""Features in ``.npy`` files: one clip each, a 2-D array of numbers.

Not a loader of pickles: an array of Python objects is refused from its header.
"""

import ast
import math
from pathlib import Path
from typing import IO, Any

import numpy as np

from extract.importing.readers import Many
from extract.importing.request import Selection
from extract.importing.rows import Rows, check_size
from stores.digest import Array
from stores.errors import CorpusError

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000


def read_one(path: Path, selection: Selection) -> Rows:
    """Reads the clip in a file.

    Raises:
        CorpusError: not a 2-D array of numbers, damaged, or over the limit.
    """
    try:
        with path.open("rb") as file:
            return Rows(read_array(file, path.stat().st_size, "the array", selection.max_bytes))
    except OSError as error:
        msg = f"it cannot be read: {error.strerror}"
        raise CorpusError(msg) from error


def open_many(path: Path, selection: Selection) -> Many:
    """Refuses the file: one array cannot tell its clips apart."""
    msg = (
        f"{path} is one array, which cannot tell clips apart: give the folder that holds one .npy file per"
        " clip, or an .npz file with one array per clip"
    )
    raise CorpusError(msg)


def read_array(file: IO[bytes], size: int, what: str, max_bytes: int) -> Array:
    """Reads one array; arguments and errors are those of ``read_header``, and it must not be cut short."""
    shape, dtype, fortran_order = read_header(file, size, what, max_bytes)
    declared = math.prod(shape) * dtype.itemsize
    data = file.read(declared)
    if len(data) < declared:
        msg = f"{what} ends after {len(data)} of {declared} bytes"
        raise CorpusError(msg)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def read_header(
    file: IO[bytes], size: int, what: str, max_bytes: int
) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Reads the header of an array in numpy's format (NEP 1, versions 1 and 2).

    Args:
        file: open at the start of the array; afterwards at its values.
        size: bytes of header and values together.
        what: the array, for messages.
        max_bytes: most bytes that the values may take.

    Returns:
        Shape, type, and whether the first axis varies fastest.

    Raises:
        CorpusError: not in numpy's format, not plain numbers, over the limit, or not of ``size`` bytes.
    """
    start = file.read(8)
    if start not in (MAGIC + b"\x01\x00", MAGIC + b"\x02\x00"):
        msg = f"{what} starts with {start!r}, expected version 1 or 2 of numpy's format"
        raise CorpusError(msg)
    digits = 2 if start.endswith(b"\x01\x00") else 4
    length = int.from_bytes(file.read(digits), "little")
    try:
        # A literal, never code; its length is limited because the parser's own memory is not.
        header = ast.literal_eval(file.read(min(length, MAX_HEADER_BYTES)).decode("latin1").strip())
        shape, order, description = header["shape"], header["fortran_order"], header["descr"]
        dtype = np.dtype(description)
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
        msg = f"{what} has a header that cannot be read: {error}"
        raise CorpusError(msg) from error
    if dtype.hasobject or dtype.names is not None or not isinstance(description, str):
        kind = "Python objects: pickles are never loaded" if dtype.hasobject else f"records of type {dtype}"
        msg = f"{what} holds {kind}; save plain numbers"
        raise CorpusError(msg)
    if not isinstance(shape, tuple) or not all(type(axis) is int and axis >= 0 for axis in shape):
        msg = f"{what} has shape {shape!r} by its header, expected a tuple of lengths"
        raise CorpusError(msg)
    declared, held = math.prod(shape) * dtype.itemsize, size - len(start) - digits - length
    check_size(what, declared, held, max_bytes)
    if declared != held:
        msg = f"{what} is {dtype} {shape}, {declared} bytes, by its header, but {held} bytes follow: damaged"
        raise CorpusError(msg)
    return shape, dtype, bool(order)
