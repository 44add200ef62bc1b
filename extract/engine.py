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
from dataclasses import dataclass, fields

import numpy as np
import torch

from extract.assembly import ClipRows
from extract.backbones.backbone import Backbone
from extract.corpora import Crops
from extract.feed import TAIL, Batch, Spent, feed
from extract.fingerprint import Source, inspect
from extract.network import Network, Pending, Precision
from stores import FeatureSpec, Store, differences
from stores.errors import ConfigError, CorpusError, SpecMismatch
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)

ESTIMATE_BATCHES = 2
"""Batches after which a run says how long it will take; in the first one kernels are prepared."""
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
class Stages:
    """Seconds that each stage was busy; stages run at the same time, so the longest decides.

    Attributes:
        read: reading crops, per decoding thread.
        decode: decoding them, per decoding thread.
        model: of the network.
        write: of the thread that commits clips.
    """

    read: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    write: float = 0.0

    def __add__(self, other: "Stages") -> "Stages":
        return Stages(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def bound(self) -> str:
        """The stage that bounds the run: reading and decoding share their threads."""
        feed = self.read + self.decode
        longest = max(feed, self.model, self.write)
        if longest == feed:
            return "decode" if self.decode >= self.read else "read"
        return "model" if longest == self.model else "write"

    def rates(self, images: int) -> dict[str, float]:
        """Stage -> crops per second that it could do, given ``images`` crops; idle stages are left out."""
        seconds = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: images / spent for name, spent in seconds.items() if spent}


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
        stages: where the time went.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedClip, ...]
    bad_frames: tuple[BadFrame, ...]
    frames: int
    images: int
    seconds: float
    stages: Stages = Stages()

    @property
    def images_per_second(self) -> float:
        """Crops through the network per second of the whole run."""
        return self.images / self.seconds if self.seconds else 0.0


def extract_clips(
    clips: Sequence[Crops],
    backbone: Backbone,
    store: Store,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    decode_threads: int | None = None,
    max_bad_share: float = 0.5,
    precision: Precision = "auto",
    compiled: bool = False,
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
        device: of torch; ``pipeline.device`` finds the one that is configured.
        batch_size: frames per pass of the network.
        decode_threads: None for one on the CPU, where the network is a hundred times slower than the
            decoder, and for as many as there are cores, 16 at most, on a GPU.
        max_bad_share: in [0, 1], of a clip's crops.
        precision: see ``inference.Network``.
        compiled: see ``inference.Network``.
        progress: called with step ``sources`` as clips are looked at, then ``features`` with the frames done.

    Returns:
        What was written, kept, failed and flagged.

    Raises:
        SpecMismatch: the store is of another backbone, weights or preprocessing; names both values.
        CorpusError: a clip has no frames.
        ConfigError: a batch size or thread count below 1, or a precision that the device
            does not have or in which the features come out otherwise.
        StoreError: the store cannot be written.
    """
    began = time.perf_counter()
    target = torch.device(device)
    if decode_threads is None:
        decode_threads = min(16, os.cpu_count() or 1) if target.type == "cuda" else 1
    if batch_size < 1 or decode_threads < 1:
        msg = f"batch_size {batch_size}, decode_threads {decode_threads}: expected at least 1 of each"
        raise ConfigError(msg)
    dtype = _check_spec(backbone, store).dtype

    pending, unchanged, failed = plan(clips, store, progress)
    total = sum(len(source.present) for _, source in pending)
    spent = Spent()
    # Compiled code, and kernels chosen by shape, want batches of one shape.
    static = compiled or target.type == "cuda"
    batches = feed(
        pending,
        image_size=backbone.image_size,
        interpolation=backbone.interpolation,
        batch_size=batch_size,
        threads=decode_threads,
        pad=batch_size if static else TAIL,
        pinned=target.type == "cuda",
        spent=spent,
    )
    if not pending:
        return Report((), tuple(unchanged), tuple(failed), (), 0, 0, time.perf_counter() - began)
    network = Network(backbone, target, precision, compiled=compiled)
    written: list[str] = []
    bad_frames: list[BadFrame] = []
    frames = images = done = 0
    rows: ClipRows | None = None
    taken = 0
    model_seconds = write_seconds = 0.0
    writing: deque[Future[float]] = deque()

    def stages() -> Stages:
        return Stages(
            read=spent.read / decode_threads,
            decode=spent.decode / decode_threads,
            model=model_seconds,
            write=write_seconds,
        )

    def take(batch: Batch, features: Pending) -> None:
        nonlocal rows, frames, images, done, taken, model_seconds, write_seconds
        if rows is None:
            empty = np.zeros((len(batch.source.present), backbone.dim), dtype)
            rows = ClipRows(batch.clip, batch.source, empty)
        values, seconds = features.result()
        model_seconds += seconds
        rows.put(batch, values)
        images += int(batch.source.present[batch.start : batch.start + batch.rows].sum())
        taken += 1
        if taken == ESTIMATE_BATCHES:
            _announce(pending, network, stages(), images)
        if not batch.last:
            progress("features", total, done + batch.start + batch.rows)
            return
        done += len(rows.features)
        bad_frames.extend(
            BadFrame(rows.clip.id, frame, reason) for frame, reason in sorted(rows.unreadable.items())
        )
        if reason := rows.finish(max_bad_share):
            failed.append(FailedClip(rows.clip.id, reason))
            logger.warning("clip %s is not written: %s", rows.clip.id, reason)
        else:
            if len(writing) == WRITES_AHEAD:
                write_seconds += writing.popleft().result()
            writing.append(executor.submit(rows.commit, store, network.compute))
            written.append(rows.clip.id)
            frames += len(rows.features)
        rows = None
        progress("features", total, done)

    progress("features", total, 0)
    # Whatever ends the loop, leaving the executor waits for the clips that were handed to it.
    with ThreadPoolExecutor(1, thread_name_prefix="commit") as executor, closing(batches):
        before: tuple[Batch, Pending] | None = None
        for batch in batches:
            # A GPU computes this batch while the features of the one before are looked at.
            features = network.start(batch.pixels, batch.rows)
            if before is not None:
                take(*before)
            before = batch, features
        if before is not None:
            take(*before)
        for future in writing:
            write_seconds += future.result()
    return Report(
        written=tuple(written),
        unchanged=tuple(unchanged),
        failed=tuple(failed),
        bad_frames=tuple(bad_frames),
        frames=frames,
        images=images,
        seconds=time.perf_counter() - began,
        stages=stages(),
    )


def _announce(pending: Sequence[tuple[Crops, Source]], network: Network, stages: Stages, images: int) -> None:
    """Logs how much is to be done and how long it will take, from what the first batches took."""
    crops = sum(int(source.present.sum()) for _, source in pending)
    feed, model = images / (stages.read + stages.decode), images / stages.model
    slower = min(feed, model)
    logger.info(
        "%d crops of %d clips to extract on %s: about %s, at %.0f crops/s of %s",
        crops,
        len(pending),
        network.compute["device"],
        duration(crops / slower),
        slower,
        "the model" if model < feed else "the decoder",
    )


def duration(seconds: float) -> str:
    """Returns a time as people say it: ``40 s``, ``12 min``, ``15.6 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
