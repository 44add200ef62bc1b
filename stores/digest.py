"""The digest of an array: SHA-256 over its dtype, shape and values, the same whatever file holds it.

Two backends that hold equal arrays give equal digests.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def array_digest(array: Array) -> str:
    """Returns the digest of a C-order, little-endian array."""
    return blocks_digest(array.dtype.name, array.shape, [array])


def blocks_digest(dtype: str, shape: tuple[int, ...], blocks: Iterable[Array]) -> str:
    """Returns the digest of the array that ``blocks``, C order, make up along the first axis."""
    digest = hashlib.sha256(f"{dtype} {'x'.join(map(str, shape))}\n".encode())
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()
