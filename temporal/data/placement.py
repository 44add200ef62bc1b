"""Where the features of a split lie, on the device, in host memory or in the store, and how rows are read."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from stores import FeatureSpec, Store
from stores.errors import ConfigError, SpecMismatch

logger = logging.getLogger(__name__)

Placement = Literal["device", "host", "store"]
Wanted = Literal["auto", "device", "host", "store"]

SHARE = 0.7
"""Of the free memory that features may take; the rest is for replicas, activations and everybody else."""
GIB = 2**30
READERS = 4


class Features(Protocol):
    """The rows (F, D) of a split; a tensor on the device is the plain case.

    Indexing by a slice gives consecutive rows (n, D), by int64 rows (B, T) on the CPU or on ``device`` gives
    (B, T, D); both on ``device``, as stored, and the caller's to keep.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, D)."""

    @property
    def device(self) -> torch.device:
        """Where rows come to."""

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


class HostFeatures:
    """Features in host memory for a device that they do not fit on.

    Args:
        matrix: (F, D) on the CPU. It need not be pinned itself, which would take up to twice its size.
        device: where rows come to.
    """

    def __init__(self, matrix: Tensor, device: torch.device) -> None:
        self._matrix = matrix
        self._staging = _Staging(matrix.shape[1], matrix.dtype, device)
        self.shape = tuple(matrix.shape)
        self.device = device

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, slice):
            source = self._matrix[rows]
            return self._staging.bring(len(source), source.shape[:1], lambda room: room.copy_(source))
        index = rows.flatten().cpu()
        return self._staging.bring(
            len(index), rows.shape, lambda room: torch.index_select(self._matrix, 0, index, out=room)
        )


class StoreFeatures:
    """Features that are read from the store whenever they are asked for; memory does not grow with F.

    Args:
        store: a feature store.
        clips: ids of the clips, in the order of their rows.
        offsets: first row of each clip, then F.
        device: where rows come to.

    Raises:
        SpecMismatch: not a feature store.
    """

    def __init__(
        self, store: Store, clips: Sequence[str], offsets: Sequence[int], device: torch.device
    ) -> None:
        spec = feature_spec(store)
        self._store, self._clips, self._offsets = store, tuple(clips), np.asarray(offsets)
        self._staging = _Staging(spec.dim, dtype_of(spec), device)
        self.shape = (int(self._offsets[-1]), spec.dim)
        self.device = device

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, slice):
            first, end, _ = rows.indices(self.shape[0])
            return self._staging.bring(
                end - first, (end - first,), lambda room: self._read([(first, end)], room)
            )
        # Windows overlap, and padding repeats a row: each row is read once.
        wanted, inverse = np.unique(rows.numpy(force=True).ravel(), return_inverse=True)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(wanted, breaks) if len(run)]

        def fill(room: Tensor) -> None:
            once = torch.empty((len(wanted), room.shape[1]), dtype=room.dtype)
            self._read(runs, once)
            torch.index_select(once, 0, torch.from_numpy(inverse.ravel()), out=room)

        return self._staging.bring(rows.numel(), rows.shape, fill)

    def _read(self, runs: Iterable[tuple[int, int]], room: Tensor) -> None:
        """Reads runs of rows (first, end), one after the other, into ``room``."""
        windows = []
        for first, end in runs:
            inner = self._offsets[(self._offsets > first) & (self._offsets < end)].tolist()
            for a, b in pairwise([first, *inner, end] if first < end else []):
                clip = int(np.searchsorted(self._offsets, a, side="right")) - 1
                start = int(self._offsets[clip])
                windows.append((self._clips[clip], a - start, b - start))
        filled = 0
        for values in self._store.read_many(windows, threads=READERS):
            room[filled : filled + len(values)] = torch.from_numpy(values)
            filled += len(values)


class _Staging:
    """One pinned buffer, used again and again, through which rows reach the device."""

    def __init__(self, dim: int, dtype: torch.dtype, device: torch.device) -> None:
        self._device, self._lock = device, threading.Lock()
        self._buffer = torch.empty((0, dim), dtype=dtype)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def bring(self, count: int, shape: Iterable[int], fill: Callable[[Tensor], object]) -> Tensor:
        """Returns (``shape``, D) on the device: ``count`` rows as ``fill`` wrote them into the buffer."""
        with self._lock:
            if len(self._buffer) < count:
                size = (count, self._buffer.shape[1])
                pinned = self._stream is not None
                self._buffer = torch.empty(size, dtype=self._buffer.dtype, pin_memory=pinned)
            room = self._buffer[:count]
            fill(room)
            return self._send(room).view(*shape, room.shape[1])

    def _send(self, room: Tensor) -> Tensor:
        if self._stream is None:
            return room.clone()
        # On a stream of its own, so that the copy runs beside the training step; this thread waits for it,
        # for only then may the buffer be filled again.
        with torch.cuda.stream(self._stream):
            sent = room.to(self._device, non_blocking=True)
        self._stream.synchronize()
        sent.record_stream(torch.cuda.current_stream(self._device))
        return sent


def read_ahead(features: Features, indices: Iterable[slice | Tensor]) -> Iterator[Tensor]:
    """Yields ``features[index]`` for every index, in order.

    What is not on the device already is fetched by one thread while the caller works on the piece before.
    """
    if not isinstance(features, HostFeatures | StoreFeatures):
        for index in indices:
            yield features[index if isinstance(index, slice) else index.to(features.device)]
        return
    with ThreadPoolExecutor(1, thread_name_prefix="features") as pool:
        coming: Future[Tensor] | None = None
        for index in indices:
            ready, coming = coming, pool.submit(features.__getitem__, index)
            if ready is not None:
                yield _received(ready.result())
        if coming is not None:
            yield _received(coming.result())


def _received(rows: Tensor) -> Tensor:
    if rows.is_cuda:
        # The allocator must not hand the memory to the next copy while this thread's stream still reads it.
        rows.record_stream(torch.cuda.current_stream(rows.device))
    return rows


def choose(asked: Wanted, size: int, device: torch.device) -> Placement:
    """Returns where ``size`` bytes of features go, and logs why.

    ``auto`` takes the device if they fit into ``SHARE`` of its free memory, else host memory likewise, else
    the store. Where the device is the CPU, its memory is host memory.

    Raises:
        ConfigError: ``device`` or ``host`` was asked for and has less memory than that.
    """
    on_host = device.type == "cpu"
    free = {"device": free_memory(device), "host": free_memory(torch.device("cpu"))}
    fits: list[Placement] = [p for p in ("device", "host") if size <= SHARE * free[p]]
    found = f"{size / GIB:.2f} GiB of features, free: {free['host'] / GIB:.1f} GiB of host memory"
    if not on_host:
        found += f", {free['device'] / GIB:.1f} GiB on {device}"
    if asked == "auto":
        chosen = fits[0] if fits else "store"
        why = "the first of device, host and store where they take no more than"
        logger.info("bank: %s (%s; %s %.0f %% of what is free)", chosen, found, why, 100 * SHARE)
        return chosen
    if asked != "store" and size > free[asked]:
        msg = f"bank: {asked} was asked for, but there are {found}: give bank: auto or store"
        raise ConfigError(msg)
    logger.info("bank: %s, as asked for (%s)", asked, found)
    return asked


def free_memory(device: torch.device) -> int:
    """Returns the bytes that this process may still take on ``device``; limits of control groups count.

    Where the system does not tell what is free (not Linux), all of its memory counts as free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the caching allocator holds but nobody uses is free to us.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(
        [_available(Path("/proc/meminfo")), *_group_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    )


def _available(meminfo: Path) -> int:
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _group_limits(membership: Path, root: Path) -> Iterator[int]:
    """Yields what is left of the memory limit of each control group that this process is in, v2 and v1."""
    if not membership.exists():
        return
    for line in membership.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, limit, used, cached = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        path = base / group.lstrip("/")
        for folder in (path, *path.parents):
            if not folder.is_relative_to(base):
                break
            if (folder / limit).exists() and (folder / limit).read_text().strip() != "max":
                statistics = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                # Pages of files that nobody used lately are given back as soon as memory is short.
                taken = int((folder / used).read_text()) - int(statistics.get(cached, 0))
                yield max(0, int((folder / limit).read_text()) - taken)


def feature_spec(store: Store) -> FeatureSpec:
    """Returns the spec of a feature store.

    Raises:
        SpecMismatch: it is another kind of store.
    """
    if not isinstance(store.spec, FeatureSpec):
        msg = f"{store.path} holds {store.spec.kind}, expected features: correct the path"
        raise SpecMismatch(msg)
    return store.spec


def dtype_of(spec: FeatureSpec) -> torch.dtype:
    """Returns the type of a store's features."""
    return torch.float16 if spec.dtype == "float16" else torch.float32


def placed(
    store: Store, clips: Sequence[str], offsets: Sequence[int], placement: Placement, device: torch.device
) -> Features:
    """Returns the features of ``clips`` where ``placement`` says; reads them unless that is the store."""
    if placement == "store":
        return StoreFeatures(store, clips, offsets, device)
    spec = feature_spec(store)
    home = device if placement == "device" else torch.device("cpu")
    matrix = torch.empty((offsets[-1], spec.dim), dtype=dtype_of(spec), device=home)
    for clip, first, end in zip(clips, offsets[:-1], offsets[1:], strict=True):
        matrix[first:end] = torch.from_numpy(store.read(clip))
    return matrix if home == device else HostFeatures(matrix, device)
