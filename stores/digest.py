"""The digest of an array: SHA-256 over its dtype, shape and values, the same whatever file holds it.

Not a checksum of any file: two backends that hold equal arrays give equal digests.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from stores.layout import ArrayLayout

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_BYTES = 8 * 2**20


class Reader(Protocol):
    """The open data of one clip."""

    def read(self, name: str, start: int, stop: int) -> Array:
        """Returns frames ``start`` (included) to ``stop`` (excluded) of one array, as a new C-order array."""


def array_digest(array: Array) -> str:
    """Returns the digest of a C-order, little-endian array."""
    return _digest(array.dtype.name, array.shape, [array])


def stored_digest(reader: Reader, name: str, layout: ArrayLayout) -> str:
    """Returns the digest of a stored array, read a block at a time: memory does not grow with the clip."""
    return _digest(layout.dtype, layout.shape, _blocks(reader, name, layout))


def _blocks(reader: Reader, name: str, layout: ArrayLayout) -> Iterator[Array]:
    chunk = layout.chunk_frames
    step = chunk * max(1, BLOCK_BYTES // (chunk * layout.row_bytes))
    for start in range(0, layout.shape[0], step):
        yield reader.read(name, start, min(start + step, layout.shape[0]))


def _digest(dtype: str, shape: tuple[int, ...], blocks: Iterable[Array]) -> str:
    digest = hashlib.sha256(f"{dtype} {'x'.join(map(str, shape))}\n".encode())
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()
