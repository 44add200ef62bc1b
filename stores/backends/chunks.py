"""Reading a clip: windows gathered straight from the chunks of its files, each chunk checked by its CRC-32C.

A backend says where the chunks are, the commit record says what they hold.
"""

import errno
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from stores.digest import Array, blocks_digest
from stores.errors import StoreError
from stores.layout import ArrayLayout

PAGE_BYTES, SHIFT_BYTES = 4096, 256
BYTE = np.dtype(np.uint8)
# Chunks that lie this close are read in one call, and what is between them (a Zarr shard's own CRC) dropped.
MAX_GAP_BYTES = 64
# Linux reads at most 2 GiB per call, and takes at most 1024 buffers.
MAX_CALL_BYTES = 2**30
MAX_CALL_BUFFERS = 1000


def checksums(array: Array, layout: ArrayLayout) -> str:
    """Returns the CRC-32C of every chunk's values in their order, 8 hexadecimal digits each.

    Padding is not part of them, so that they, like the digest, do not depend on the backend.

    Args:
        array: C order, as ``layout`` says.
        layout: its layout.
    """
    return "".join(f"{crc32c(array[low:high]):08x}" for low, high in layout.chunk_bounds())


def crc32c(data: Array | bytes | memoryview) -> int:
    """Returns the CRC-32C (Castagnoli, RFC 3720) of contiguous memory."""
    # The library takes neither bytearrays nor memoryviews; numpy makes an array of either without a copy.
    return int(google_crc32c.value(data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)))


class OpenFile:
    """A regular file, open for positioned reads; it may be shared by threads and inherited by ``fork``.

    It closes when nothing refers to it.
    """

    def __init__(self, path: Path) -> None:
        """Opens ``path``.

        Raises:
            StoreError: it is missing, not readable, or not a regular file (symbolic links are not followed).
        """
        self._descriptor = -1
        self._mapping: memoryview | None = None
        self.path = path
        try:
            # O_NONBLOCK so that a FIFO put in place of a file cannot hang the reader.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            status = os.fstat(self._descriptor)
        except OSError as error:
            link = error.errno == errno.ELOOP
            reason = "it is a symbolic link (symbolic links are refused)" if link else error.strerror
            msg = f"{path} cannot be read: {reason}"
            raise StoreError(msg) from error
        if not stat.S_ISREG(status.st_mode):
            msg = f"{path} is not a regular file (symbolic links are refused)"
            raise StoreError(msg)
        self.size = status.st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Returns ``length`` bytes from ``offset`` on.

        Raises:
            StoreError: the file ends before them, or cannot be read.
        """
        data = bytearray(length)
        self.gather([(offset, memoryview(data))])
        return bytes(data)

    def map(self) -> None:
        """Lets ``fill`` and ``refill`` copy from a mapping of the file instead of calling ``preadv``.

        Raises:
            StoreError: the file system cannot map files.
        """
        if self._mapping is not None or not self.size:
            return
        try:
            self._mapping = memoryview(mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ))
        except OSError as error:
            msg = f"{self.path} cannot be mapped into memory: {error.strerror}: open the store without mapped"
            raise StoreError(msg) from error

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fills ``buffer`` from ``offset`` on; see ``refill``."""
        if self._mapping is not None:
            self.refill([(offset, buffer)])
            return
        try:
            complete = os.preadv(self._descriptor, [buffer], offset) == len(buffer)
        except OSError:
            complete = False
        if not complete:  # gather() goes on, or says what is wrong
            self.gather([(offset, buffer)])

    def refill(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Does what ``gather`` does for pieces that were read before: from the mapping, if there is one."""
        # Touching a mapping behind the end of its file would end the process.
        if self._mapping is None or os.fstat(self._descriptor).st_size < self.size:
            self.gather(pieces)
            return
        for offset, buffer in pieces:
            buffer[:] = self._mapping[offset : offset + len(buffer)]

    def gather(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Fills each ``(offset, buffer)`` from the file, neighbours in one call.

        Raises:
            StoreError: the file ends before a piece does, or cannot be read.
        """
        for offset, buffers, length in _calls(pieces):
            try:
                count = self._read_all(buffers, offset)
            except OSError as error:
                msg = f"{self.path} cannot be read at byte {offset}: {error.strerror}"
                raise StoreError(msg) from error
            if count < length:
                msg = f"{self.path} ends at byte {offset + count}, expected {offset + length} at least"
                raise StoreError(msg)

    def _read_all(self, buffers: list[memoryview], offset: int) -> int:
        """Fills ``buffers`` as far as the file goes; returns the bytes read."""
        total = 0
        # preadv has no file position: threads and forked processes do not disturb each other.
        while buffers and (count := os.preadv(self._descriptor, buffers, offset + total)):
            total += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]
        return total


def _calls(pieces: Sequence[tuple[int, memoryview]]) -> Iterator[tuple[int, list[memoryview], int]]:
    """Yields ``(offset, buffers, bytes)`` for as few reads as the limits of the system allow."""
    start, buffers, length = 0, list[memoryview](), 0
    for offset, whole in pieces:
        rest = whole
        while rest:
            piece, rest, at = rest[:MAX_CALL_BYTES], rest[MAX_CALL_BYTES:], offset + len(whole) - len(rest)
            gap = at - start - length
            fits = length + gap + len(piece) <= MAX_CALL_BYTES and len(buffers) + 2 <= MAX_CALL_BUFFERS
            if buffers and fits and 0 <= gap <= MAX_GAP_BYTES:
                buffers += [memoryview(bytearray(gap)), piece] if gap else [piece]
                length += gap + len(piece)
            else:
                if buffers:
                    yield start, buffers, length
                start, buffers, length = at, [piece], len(piece)
    if buffers:
        yield start, buffers, length


@dataclass(frozen=True, slots=True)
class Location:
    """Where the chunks of one array are.

    Attributes:
        file: the open file.
        offsets: first byte of each chunk, in the order of the frames.
    """

    file: OpenFile
    offsets: Sequence[int]


class StoredArray:
    """One committed array. Every chunk is checked the first time that it is read through this object.

    Committed files never change, so a chunk that was right stays right while its file is open.
    """

    def __init__(self, location: Location, layout: ArrayLayout, chunk_crc32c: str) -> None:
        self.layout = layout
        self._file = location.file
        self._offsets = location.offsets
        self._crcs = np.frombuffer(bytes.fromhex(chunk_crc32c), ">u4").tolist()
        self._checked = bytearray(len(self._crcs))
        self._bounds = layout.chunk_bounds()
        self._chunk_frames, self._row_bytes = layout.chunk_frames, layout.row_bytes
        self._dtype, self._row_shape = np.dtype(layout.dtype), layout.shape[1:]
        step = self._chunk_frames * self._row_bytes
        self._first = location.offsets[0]
        self._is_contiguous = all(
            offset == self._first + number * step for number, offset in enumerate(location.offsets)
        )

    def read(self, start: int, stop: int) -> Array:
        """Returns frames ``[start, stop)``, C order, in new memory.

        Raises:
            StoreError: a chunk is damaged or could not be read.
        """
        chunk, row = self._chunk_frames, self._row_bytes
        values = _new_array((stop - start, *self._row_shape), self._dtype)
        if start == stop:
            return values
        target = values.data.cast("B")
        touched = range(start // chunk, (stop - 1) // chunk + 1)
        if self._is_contiguous and 0 not in self._checked[touched.start : touched.stop]:
            self._file.fill(self._first + start * row, target)  # the usual case, twice as fast
            return values
        ready = []
        for number in touched:
            low, high = self._bounds[number]
            first, last = max(start, low), min(stop, high)
            piece = target[(first - start) * row : (last - start) * row]
            if self._checked[number]:
                ready.append((self._offsets[number] + (first - low) * row, piece))
            elif (first, last) == (low, high):
                self._read_checked(number, piece)
            else:
                whole = _new_array(((high - low) * row,), BYTE).data
                self._read_checked(number, whole)
                piece[:] = whole[(first - low) * row : (last - low) * row]
        self._file.refill(ready)
        return values

    def chunks(self) -> Iterator[Array]:
        """Yields the values of chunk after chunk, each read and checked now, in memory that is used again.

        Memory that is touched for the first time costs more than reading into it.

        Raises:
            StoreError: a chunk is damaged or could not be read.
        """
        memory = _new_array((self._chunk_frames * self._row_bytes,), BYTE)
        for number, (low, high) in enumerate(self._bounds):
            values = memory[: (high - low) * self._row_bytes]
            self._read_checked(number, values.data)
            yield values.view(self._dtype).reshape(high - low, *self._row_shape)

    def digest(self) -> str:
        """Returns the digest of the values on disk, as ``stores.digest`` defines it.

        Raises:
            StoreError: a chunk is damaged or could not be read.
        """
        return blocks_digest(self.layout.dtype, self.layout.shape, self.chunks())

    def check(self, number: int) -> None:
        """Reads one chunk and checks it.

        Raises:
            StoreError: it is damaged or could not be read.
        """
        low, high = self._bounds[number]
        self._read_checked(number, _new_array(((high - low) * self._row_bytes,), BYTE).data)

    def _read_checked(self, number: int, buffer: memoryview) -> None:
        self._file.gather([(self._offsets[number], buffer)])
        if crc32c(buffer) != self._crcs[number]:
            first, last = self._bounds[number]
            msg = f"{self._file.path}: chunk {number} (frames {first}:{last}) fails its CRC-32C"
            raise StoreError(msg)
        self._checked[number] = True


def _new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Returns an array whose memory does not begin just behind the start of a page.

    Chunks begin on a page, and malloc likes to put large blocks 16 bytes behind one. Where source and target
    differ by so little modulo 4096 the processor takes each read for one of the bytes just written, and
    copies at half the speed.
    """
    values = np.empty(shape, dtype)
    if values.__array_interface__["data"][0] % PAGE_BYTES >= SHIFT_BYTES or values.nbytes < PAGE_BYTES:
        return values
    memory = np.empty(values.nbytes + SHIFT_BYTES, BYTE)
    start = SHIFT_BYTES if memory.__array_interface__["data"][0] % PAGE_BYTES < SHIFT_BYTES else 0
    return memory[start : start + values.nbytes].view(dtype).reshape(shape)
