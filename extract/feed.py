"""Feeds crops to a network: batches decoded ahead, in threads, into a fixed ring of uint8 buffers.

Decoding releases the interpreter lock, so threads and shared memory suffice.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from extract.corpora import Crops, NamedFrames
from extract.decode import DecodeError, ReadError, decode, read_file
from extract.fingerprint import Source

SLOTS = 3
"""One batch in the network, two being decoded: memory does not grow with the corpus."""
TAIL = 8
"""A clip's last batch is padded to a multiple of this on a CPU, where a full one would waste half a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive frames of one clip.

    Attributes:
        clip: whose frames they are.
        source: the crops of that clip as found on disk.
        start: frame of the first row, a multiple of the batch size.
        rows: number of frames; what lies beyond in ``pixels`` is padding.
        last: whether no later frame of the clip has a crop.
        pixels: (rows padded, S, S, 3) uint8 RGB; zero where there is no readable crop. A view of the ring:
            valid until the next batch is asked for.
        unreadable: frame -> reason, of the crops that could not be decoded.
        unread: those of them whose bytes could not be had.
    """

    clip: Crops
    source: Source
    start: int
    rows: int
    last: bool
    pixels: Tensor
    unreadable: dict[int, str] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Spent:
    """Seconds that decoding threads have spent, all together.

    Attributes:
        read: reading files.
        decode: decoding them.
    """

    read: float = 0.0
    decode: float = 0.0


def feed(
    clips: Iterable[tuple[Crops, Source]],
    *,
    image_size: int,
    interpolation: str,
    batch_size: int,
    threads: int,
    pad: int,
    pinned: bool,
    spent: Spent,
) -> Generator[Batch, None, None]:
    """Yields the batches of ``clips`` in order.

    Batches are anchored to the clip's own frame index: batch k holds frames ``k * batch_size`` onward
    whatever was extracted before, so that an interrupted and resumed run computes, and writes, the same
    bytes. Batches without any crop are skipped.

    Args:
        clips: each with its crops as found on disk.
        image_size: side S of the crops as decoded, in pixels.
        interpolation: how crops of another size are resized, see ``extract.decode``.
        batch_size: frames per batch.
        threads: decoding threads.
        pad: a clip's last batch is padded to a multiple of this.
        pinned: whether the ring lies in page-locked memory, for a GPU.
        spent: is added to as batches are decoded.
    """
    ring = torch.zeros((SLOTS, batch_size, image_size, image_size, 3), dtype=torch.uint8, pin_memory=pinned)
    plan = _plan(clips, ring, batch_size, pad)
    decoding: deque[tuple[Batch, list[Future[tuple[float, float]]]]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        exhausted = False
        while True:
            # The consumer is done with the slot it was last given: SLOTS batches may be in flight again.
            while not exhausted and len(decoding) < SLOTS:
                batch = next(plan, None)
                if batch is None:
                    exhausted = True
                else:
                    parts = [
                        executor.submit(_decode_rows, batch, k, threads, interpolation)
                        for k in range(threads)
                    ]
                    decoding.append((batch, parts))
            if not decoding:
                return
            batch, parts = decoding.popleft()
            for part in parts:
                read, decoded = part.result()
                spent.read += read
                spent.decode += decoded
            yield batch
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _plan(clips: Iterable[tuple[Crops, Source]], ring: Tensor, batch_size: int, pad: int) -> Iterator[Batch]:
    slot = 0
    for clip, source in clips:
        frames = len(source.present)
        for start in range(0, frames, batch_size):
            if not source.present[start : start + batch_size].any():
                continue
            rows = min(batch_size, frames - start)
            padded = min(batch_size, -(-rows // pad) * pad)
            last = not source.present[start + batch_size :].any()
            yield Batch(clip, source, start, rows, last, ring[slot, :padded])
            slot = (slot + 1) % SLOTS


def _decode_rows(batch: Batch, first: int, step: int, interpolation: str) -> tuple[float, float]:
    """Decodes every ``step``-th row from ``first`` on; returns the seconds of reading and of decoding."""
    read = decoded = 0.0
    pixels = batch.pixels.numpy()
    size = pixels.shape[1]
    frames = batch.clip.frames
    name = frames.name if isinstance(frames, NamedFrames) else frames.__getitem__
    for row in range(first, len(pixels), step):
        frame = batch.start + row
        path = name(frame) if row < batch.rows else None
        if path is None:
            pixels[row] = 0
            continue
        began = middle = time.perf_counter()
        try:
            data = read_file(path)
            middle = time.perf_counter()
            pixels[row] = decode(data, size, interpolation)
        except DecodeError as error:
            pixels[row] = 0
            batch.unreadable[frame] = f"{path}: {error}"
            if isinstance(error, ReadError):
                batch.unread.add(frame)
        read += middle - began
        decoded += time.perf_counter() - middle
    return read, decoded
