"""How the arrays of a clip are shaped, typed, named and cut into chunks.

Both backends take shapes, dtypes and chunk lengths from here.
"""

import math
from dataclasses import dataclass

import numpy as np

MAX_CHUNK_BYTES = 512 * 2**10


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shape and type of one array of a clip; the first axis is always the frame.

    Attributes:
        shape: ``(T,)`` or ``(T, D)``, every length at least 1.
        dtype: numpy name: ``float16``, ``float32``, ``int8``, ``int32`` or ``bool``.
        dims: one name per axis, as xarray uses them.
    """

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one frame."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array, without any container."""
        return self.shape[0] * self.row_bytes

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk ``Tc``: a power of two.

        The largest with a chunk of at most 512 KiB (so above 256 KiB, one row allowing), but no longer than
        the clip needs. A 300-frame window of 2048 float16 then reads 1.42 times its bytes; smaller chunks
        cost more calls, larger ones more bytes.
        """
        fits = max(1, MAX_CHUNK_BYTES // self.row_bytes)
        clip = 1 << (self.shape[0] - 1).bit_length()
        return min(1 << (fits.bit_length() - 1), clip)

    @property
    def chunk_count(self) -> int:
        """Number of chunks; the last one may hold fewer frames than the others."""
        return -(-self.shape[0] // self.chunk_frames)

    @property
    def padded_bytes(self) -> int:
        """Bytes of the array with the last chunk at full length."""
        return self.chunk_count * self.chunk_frames * self.row_bytes

    def chunk_bounds(self) -> list[tuple[int, int]]:
        """Returns the first frame of each chunk, and the one after its last."""
        frames, chunk = self.shape[0], self.chunk_frames
        return [(low, min(low + chunk, frames)) for low in range(0, frames, chunk)]
