"""Extraction: every clip of a corpus through a backbone, committed clip by clip to a feature store.

One process and one device; ``pipeline.stage1.extraction`` divides a corpus by clips among several.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from extract.assembly import ClipRows
from extract.backbones.backbone import Backbone
from extract.corpora import Crops
from extract.extracted import BadFrame, FailedClip, Report, Stages, duration
from extract.feed import TAIL, Batch, Spent, feed
from extract.forward import Network, Pending, Precision
from extract.worklist import Worklist, look
from stores import FeatureSpec, Store, differences
from stores.errors import ConfigError, SpecMismatch
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)

ESTIMATE_BATCHES = 2
"""Batches after which a run says how long it will take; in the first one kernels are prepared."""
WRITES_AHEAD = 2
"""Clips that may wait for the disk before the network waits for them."""


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
    spec = _check_spec(backbone, store)
    work = look(clips, store, progress)
    if not work.pending:
        return work.report(time.perf_counter() - began)
    spent = Spent()
    # Compiled code, and kernels chosen by shape, want batches of one shape.
    static = compiled or target.type == "cuda"
    batches = feed(
        work.pending,
        image_size=backbone.image_size,
        interpolation=backbone.interpolation,
        batch_size=batch_size,
        threads=decode_threads,
        pad=batch_size if static else TAIL,
        pinned=target.type == "cuda",
        spent=spent,
    )
    network = Network(backbone, target, precision, compiled=compiled)
    # Whatever ends the loop, leaving the executor waits for the clips that were handed to it.
    with ThreadPoolExecutor(1, thread_name_prefix="commit") as executor, closing(batches):
        under_way = _Extraction(
            work, network, store, spec, max_bad_share, progress, executor, spent, decode_threads
        )
        for batch, features in _computed(network, batches):
            under_way.take(batch, features.result())
        under_way.wait()
    return under_way.report(time.perf_counter() - began)


def _computed(network: Network, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Pending]]:
    """Each batch with its features; a GPU computes the next one while those of this one are looked at."""
    before: tuple[Batch, Pending] | None = None
    for batch in batches:
        features = network.start(batch.pixels, batch.rows)
        if before is not None:
            yield before
        before = batch, features
    if before is not None:
        yield before


@dataclass(slots=True, eq=False)
class _Extraction:
    """An extraction under way: the clip that is coming in, clips on their way to disk, and the counts so far.

    Attributes:
        work: what there is to do.
        network: that computes.
        store: where clips go.
        spec: of the store.
        max_bad_share: of unreadable crops in a clip.
        progress: of frames.
        executor: of the one thread that commits clips.
        spent: seconds of the decoding threads.
        threads: how many these are.
        rows: features of the clip that is coming in.
        writing: clips on their way to disk, the oldest first.
        batches, images, frames, done: batches and crops looked at, rows committed, frames finished.
        model, write: seconds of the network and of the committing thread.
    """

    work: Worklist
    network: Network
    store: Store
    spec: FeatureSpec
    max_bad_share: float
    progress: Progress
    executor: Executor
    spent: Spent
    threads: int
    written: list[str] = field(default_factory=list)
    failed: list[FailedClip] = field(default_factory=list)
    bad_frames: list[BadFrame] = field(default_factory=list)
    rows: ClipRows | None = None
    writing: deque[Future[float]] = field(default_factory=deque)
    batches: int = 0
    images: int = 0
    frames: int = 0
    done: int = 0
    model: float = 0.0
    write: float = 0.0

    def __post_init__(self) -> None:
        self._tell()

    def _tell(self, within: int = 0) -> None:
        self.progress("features", self.work.frames, self.done + within)

    def take(self, batch: Batch, computed: tuple[NDArray[np.float32], float]) -> None:
        """Takes a batch with its features; the last one of a clip sends the clip on its way to disk."""
        values, seconds = computed
        if self.rows is None:
            empty = np.zeros((len(batch.source.present), self.spec.dim), self.spec.dtype)
            self.rows = ClipRows(batch.clip, batch.source, empty)
        self.rows.put(batch, values)
        self.model += seconds
        self.images += int(batch.source.present[batch.start : batch.start + batch.rows].sum())
        self.batches += 1
        if self.batches == ESTIMATE_BATCHES:
            self._announce()
        if batch.last:
            self._finish(self.rows)
            self.rows = None
            self._tell()
        else:
            self._tell(batch.start + batch.rows)

    def _finish(self, rows: ClipRows) -> None:
        clip = rows.clip.id
        self.done += len(rows.features)
        self.bad_frames += [BadFrame(clip, *bad) for bad in sorted(rows.unreadable.items())]
        if reason := rows.finish(self.max_bad_share):
            self.failed.append(FailedClip(clip, reason))
            logger.warning("clip %s is not written: %s", clip, reason)
            return
        if len(self.writing) == WRITES_AHEAD:
            self.write += self.writing.popleft().result()
        self.writing.append(self.executor.submit(rows.commit, self.store, self.network.compute))
        self.written.append(clip)
        self.frames += len(rows.features)

    def wait(self) -> None:
        """Waits until every clip is on disk.

        Raises:
            StoreError: the store cannot be written.
        """
        while self.writing:
            self.write += self.writing.popleft().result()

    def stages(self) -> Stages:
        """Seconds of each stage so far."""
        spent = self.spent
        return Stages(spent.read / self.threads, spent.decode / self.threads, self.model, self.write)

    def report(self, seconds: float) -> Report:
        """What was done."""
        return Report(
            written=tuple(self.written),
            unchanged=self.work.unchanged,
            failed=(*self.work.failed, *self.failed),
            bad_frames=tuple(self.bad_frames),
            frames=self.frames,
            images=self.images,
            seconds=seconds,
            stages=self.stages(),
        )

    def _announce(self) -> None:
        """Logs how much is to be done and how long it will take, from what the first batches took."""
        stages, crops = self.stages(), self.work.images
        feed, model = self.images / (stages.read + stages.decode), self.images / stages.model
        slower = min(feed, model)
        logger.info(
            "%d crops of %d clips to extract on %s: about %s, at %.0f crops/s of %s",
            crops,
            len(self.work.pending),
            self.network.compute["device"],
            duration(crops / slower),
            slower,
            "the model" if model < feed else "the decoder",
        )


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
