"""Extraction: every clip of a corpus through a backbone, committed clip by clip to a feature store.

Not a scheduler: one process, one device. Shard a corpus by clips to use several.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from extract.backbones.backbone import Backbone
from extract.corpora import Corpus, Crops
from extract.feed import Batch, feed
from extract.source import Source, inspect
from stores import FeatureSpec, Store, differences
from stores.documents import Json
from stores.errors import ConfigError, CorpusError, SpecMismatch
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)

WRITES_AHEAD = 2
"""Clips that may wait for the disk before the network waits for them."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A crop that exists but could not be decoded: its row is zero and not valid."""

    clip: str
    frame: int
    reason: str


@dataclass(frozen=True, slots=True)
class FailedClip:
    """A clip that was not written, and why; the others were."""

    clip: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one extraction did.

    Attributes:
        written: ids of the clips that were extracted and committed.
        unchanged: ids of the clips whose committed features are of the same crops.
        failed: clips that were not written.
        bad_frames: unreadable crops of the clips in ``written`` and ``failed``.
        frames: rows committed by this run.
        images: crops that went through the network.
        seconds: wall-clock time, looking at the sources included.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedClip, ...]
    bad_frames: tuple[BadFrame, ...]
    frames: int
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Crops through the network per second of the whole run."""
        return self.images / self.seconds if self.seconds else 0.0


def extract(
    corpus: Corpus,
    backbone: Backbone,
    store: Store,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    decode_threads: int | None = None,
    max_bad_share: float = 0.5,
    progress: Progress = silent,
) -> Report:
    """Extracts every clip of ``corpus`` that ``store`` does not hold yet, or holds from other crops.

    As ``extract_clips``, which says what is returned and raised.
    """
    return extract_clips(
        [clip.crops for clip in corpus.clips],
        backbone,
        store,
        device=device,
        batch_size=batch_size,
        decode_threads=decode_threads,
        max_bad_share=max_bad_share,
        progress=progress,
    )


def extract_clips(
    clips: Sequence[Crops],
    backbone: Backbone,
    store: Store,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    decode_threads: int | None = None,
    max_bad_share: float = 0.5,
    progress: Progress = silent,
) -> Report:
    """Extracts every clip that ``store`` does not hold yet, or holds from other crops.

    A frame whose crop is absent or unreadable becomes a zero row with ``valid`` False. A clip fails, and is
    listed, when it has no crop, when more than ``max_bad_share`` of its crops are unreadable, or when a
    feature is not finite in the store's dtype; the other clips go on. When the run is interrupted, clips
    that are complete are still committed, and the next run does the rest.

    Args:
        clips: what to extract.
        backbone: the network; it is moved to ``device``.
        store: a feature store of ``backbone.feature_spec(...)``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``; the arithmetic is float32, without TF32, on each.
        batch_size: frames per pass of the network.
        decode_threads: None for one on the CPU, where the network is a hundred times slower than the
            decoder, and for as many as there are cores, 16 at most, on a GPU.
        max_bad_share: in [0, 1], of a clip's crops.
        progress: called with step ``sources`` as clips are looked at, then ``features`` with the frames done.

    Returns:
        What was written, kept, failed and flagged.

    Raises:
        SpecMismatch: the store is of another backbone, weights or preprocessing; names both values.
        CorpusError: a clip has no frames.
        ConfigError: no such device, or a batch size or thread count below 1.
        StoreError: the store cannot be written.
    """
    began = time.perf_counter()
    target = resolve_device(device)
    if decode_threads is None:
        decode_threads = min(16, os.cpu_count() or 1) if target.type == "cuda" else 1
    if batch_size < 1 or decode_threads < 1:
        msg = f"batch_size {batch_size}, decode_threads {decode_threads}: expected at least 1 of each"
        raise ConfigError(msg)
    dtype = _check_spec(backbone, store).dtype

    pending, unchanged, failed = plan(clips, store, progress)
    total = sum(len(source.present) for _, source in pending)
    batches = feed(
        pending,
        image_size=backbone.image_size,
        batch_size=batch_size,
        threads=decode_threads,
        pinned=target.type == "cuda",
    )
    network = _Network(backbone, target)
    written: list[str] = []
    bad_frames: list[BadFrame] = []
    frames = images = done = 0
    rows: _ClipRows | None = None
    writing: deque[Future[Any]] = deque()
    if pending:
        progress("features", total, 0)
    # Whatever ends the loop, leaving the executor waits for the clips that were handed to it.
    with ThreadPoolExecutor(1, thread_name_prefix="commit") as executor, closing(batches):
        for batch in batches:
            if rows is None:
                features = np.zeros((len(batch.source.present), backbone.dim), dtype)
                rows = _ClipRows(batch.clip, batch.source, features)
            rows.put(batch, network(batch))
            images += int(batch.source.present[batch.start : batch.start + batch.rows].sum())
            if not batch.last:
                progress("features", total, done + batch.start + batch.rows)
                continue
            done += len(rows.features)
            bad_frames += [
                BadFrame(rows.clip.id, frame, reason) for frame, reason in sorted(rows.unreadable.items())
            ]
            if reason := rows.finish(max_bad_share):
                failed.append(FailedClip(rows.clip.id, reason))
                logger.warning("clip %s is not written: %s", rows.clip.id, reason)
            else:
                if len(writing) == WRITES_AHEAD:
                    writing.popleft().result()
                writing.append(executor.submit(_commit, rows, store))
                written.append(rows.clip.id)
                frames += len(rows.features)
            rows = None
            progress("features", total, done)
        for future in writing:
            future.result()
    return Report(
        written=tuple(written),
        unchanged=tuple(unchanged),
        failed=tuple(failed),
        bad_frames=tuple(bad_frames),
        frames=frames,
        images=images,
        seconds=time.perf_counter() - began,
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: no such device, or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        msg = f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N"
        raise ConfigError(msg) from error
    if target.type not in ("cpu", "cuda"):
        msg = f"device {device}: expected auto, cpu, cuda or cuda:N"
        raise ConfigError(msg)
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        msg = f"device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto"
        raise ConfigError(msg)
    return target


class _Network:
    """Normalises and runs batches on one device, in float32 proper: TF32 would make GPU and CPU differ."""

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        self._module = backbone.module.to(device)
        self._device = device
        self._mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """(rows, dim) features of the batch; waits for the device, so that the ring may be filled again."""
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            pixels = batch.pixels.to(self._device, non_blocking=True)
            # NHWC in memory is channels_last: permuting costs nothing.
            images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
            features: NDArray[np.float32] = self._module(images)[: batch.rows].cpu().numpy()
            return features


@dataclass(slots=True, eq=False)
class _ClipRows:
    """The features of one clip as they come in."""

    clip: Crops
    source: Source
    features: NDArray[Any]
    unreadable: dict[int, str] = field(default_factory=dict)

    def put(self, batch: Batch, features: NDArray[np.float32]) -> None:
        with np.errstate(over="ignore"):  # finish() looks for what did not fit
            self.features[batch.start : batch.start + batch.rows] = features
        self.unreadable.update(batch.unreadable)

    def valid(self) -> NDArray[np.bool_]:
        valid = self.source.present.copy()
        valid[list(self.unreadable)] = False
        return valid

    def finish(self, max_bad_share: float) -> str:
        """Zeroes the rows that are not valid; returns why the clip cannot be written, or ""."""
        valid = self.valid()
        self.features[~valid] = 0
        crops = int(self.source.present.sum())
        if len(self.unreadable) > max_bad_share * crops or not valid.any():
            frame = min(self.unreadable)
            return (
                f"{len(self.unreadable)} of {crops} crops are unreadable, expected a share of at most "
                f"{max_bad_share:g}: replace them; the first is frame {frame}: {self.unreadable[frame]}"
            )
        broken = ~np.isfinite(self.features).all(axis=1)
        if broken.any():
            return (
                f"features of {int(broken.sum())} frames, first {int(broken.argmax())}, are not finite in "
                f"{self.features.dtype}; store float32, or check the weights"
            )
        return ""


def _commit(rows: _ClipRows, store: Store) -> None:
    arrays = {
        "features": rows.features,
        "frame": np.arange(len(rows.features), dtype=np.int32),
        "valid": rows.valid(),
    }
    attrs: dict[str, Json] = {
        "missing": int((~rows.source.present).sum()),
        "unreadable": sorted(rows.unreadable),
    }
    store.write(rows.clip.id, arrays, attrs, rows.source.digest)


def plan(
    clips: Sequence[Crops], store: Store, progress: Progress = silent
) -> tuple[list[tuple[Crops, Source]], list[str], list[FailedClip]]:
    """Looks at the crops of every clip, at the cost of one stat each.

    Returns:
        The clips that must be extracted, the ids of those that are unchanged, and those that cannot be.

    Raises:
        CorpusError: a clip has no frames.
        StoreError: a commit record of the store is damaged.
    """
    pending: list[tuple[Crops, Source]] = []
    unchanged: list[str] = []
    failed: list[FailedClip] = []
    for index, clip in enumerate(clips):
        progress("sources", len(clips), index)
        if not len(clip.frames):
            msg = f"clip {clip.id} has no frames: expected at least one; take it out of the corpus"
            raise CorpusError(msg)
        source = inspect(clip)
        if store.has(clip.id) and store.record(clip.id).source_digest == source.digest:
            unchanged.append(clip.id)
        elif not source.present.any():
            failed.append(FailedClip(clip.id, f"none of its {len(clip.frames)} frames has a crop"))
            logger.warning("clip %s is not written: none of its frames has a crop", clip.id)
        else:
            pending.append((clip, source))
    progress("sources", len(clips), len(clips))
    return pending, unchanged, failed


def _check_spec(backbone: Backbone, store: Store) -> FeatureSpec:
    spec = store.spec
    if not isinstance(spec, FeatureSpec):
        msg = f"the store {store.path} holds {spec.kind}: expected a feature store"
        raise SpecMismatch(msg)
    different = differences(spec, backbone.feature_spec(spec.dtype))
    if different:
        values = "; ".join(
            f"{name} is {have!r}, the backbone has {want!r}" for name, (have, want) in different.items()
        )
        msg = f"the store {store.path} is of another backbone: {values}: choose another folder"
        raise SpecMismatch(msg)
    return spec
