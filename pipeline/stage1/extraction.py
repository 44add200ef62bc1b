"""Extraction in this process, or by many: clips go to the workers of a cluster, results stay on disk."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cluster import Cluster, connected, run_tasks, threads_of
from pipeline.config import Features
from pipeline.device import resolve_device
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from extract.backbones.backbone import Backbone, Named
    from extract.corpora import Crops
    from extract.extracted import Report
    from extract.worklist import Worklist
    from stores import Store

logger = logging.getLogger(__name__)

FRAMES_PER_TASK = 4096
"""At least so many frames, or one clip: beside seconds of work the millisecond that dask takes is nothing."""

DEADLY = "the workers that extract it die: look at its crops, and at the workers' memory"


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker must know beside its clips; paths must mean the same on every machine.

    Attributes:
        settings: the backbone and how it computes.
        store: the feature store.
        threads: of torch on the CPU, or None for what the worker's environment says.
    """

    settings: Features
    store: Path
    threads: int | None


def extract(
    settings: Features,
    todo: "Worklist",
    store: "Store",
    cluster: Cluster | None = None,
    progress: Progress = silent,
) -> "Report":
    """Extracts the pending clips in this process, or on a cluster if there is one.

    Raises:
        FacetsError: whatever ends an extraction.
    """
    from extract.extracted import Report

    if cluster is not None:
        threads = None if cluster.workers is None else threads_of(cluster.workers)
        return extract_on(cluster, todo, Work(settings, store.path, threads), progress)
    began = time.perf_counter()
    pending = [clip for clip, _ in todo.pending]
    here = extract_here(pending, load_backbone(settings), store, settings, progress)
    return Report.together([todo.report(), here], time.perf_counter() - began)


def extract_on(
    cluster: Cluster,
    todo: "Worklist",
    work: Work,
    progress: Progress = silent,
) -> "Report":
    """Extracts the pending clips on a cluster.

    A task is some clips; it may run twice, on two workers even, and the result is the same. Workers that die
    are replaced and their clips done by others. A clip on which workers die again and again fails alone.

    Args:
        cluster: where.
        todo: the clips, at least one of which is pending.
        work: how.
        progress: called with the frames done.

    Returns:
        As ``extract.engine.extract_clips``.

    Raises:
        ConfigError: the cluster cannot be reached, or has no such device.
        FacetsError: whatever ends an extraction, on whichever worker.
    """
    from extract.extracted import FailedClip, Report, duration

    began = time.perf_counter()
    tasks = shards([clip for clip, _ in todo.pending])
    reports = [todo.report()]
    progress("features", todo.frames, 0)

    def finished(task: "Sequence[Crops]", report: Report | None) -> None:
        if report is None:
            report = replace(
                Report.together([], 0), failed=tuple(FailedClip(clip.id, DEADLY) for clip in task)
            )
        if report.images and not any(earlier.images for earlier in reports):
            announce(report)
        reports.append(report)
        done.append(frames_of(task))
        progress("features", todo.frames, sum(done))

    def announce(first: Report) -> None:
        """Says how long all will take, from what one worker did in the first task."""
        workers = min(len(client.nthreads()), len(tasks))  # type: ignore[no-untyped-call]
        rate = workers * first.images_per_second
        logger.info(
            "%d crops of %d clips to extract by %d worker%s: about %s, at %.0f crops/s",
            todo.images,
            len(todo.pending),
            workers,
            "s" * (workers > 1),
            duration(todo.images / rate),
            rate,
        )

    done: list[int] = []
    with connected(cluster, work.settings.device) as client:
        run_tasks(client, tasks, functools.partial(extract_task, work=work), finished, clips_of)
    return Report.together(reports, time.perf_counter() - began)


def shards(crops: "Sequence[Crops]") -> "list[list[Crops]]":
    """Groups clips into tasks of ``FRAMES_PER_TASK`` frames or one clip, the longest first."""
    tasks: list[list[Crops]] = []
    frames = 0
    for clip in sorted(crops, key=lambda clip: (-len(clip.frames), clip.id)):
        if not tasks or frames + len(clip.frames) > FRAMES_PER_TASK:
            tasks.append([])
            frames = 0
        tasks[-1].append(clip)
        frames += len(clip.frames)
    return tasks


def frames_of(crops: "Sequence[Crops]") -> int:
    """Returns how many frames the clips of a task have together."""
    return sum(len(clip.frames) for clip in crops)


def clips_of(crops: "Sequence[Crops]") -> "dict[str, list[Crops]]":
    """Returns the clips of a task as tasks of their own, by what they are called in messages."""
    return {f"clip {clip.id}": [clip] for clip in crops}


def extract_task(crops: "Sequence[Crops]", work: Work) -> "Report":
    """Extracts the clips of one task; runs on a worker, where nothing but paths and ids arrives."""
    import torch

    import stores

    if work.threads is not None:
        torch.set_num_threads(work.threads)
    return extract_here(crops, load_backbone(work.settings), stores.open(work.store), work.settings)


def extract_here(
    crops: "Sequence[Crops]",
    backbone: "Backbone",
    store: "Store",
    settings: Features,
    progress: Progress = silent,
) -> "Report":
    """Extracts clips in this process, as the configuration says."""
    from extract.engine import extract_clips

    return extract_clips(
        crops,
        backbone,
        store,
        device=resolve_device(settings.device),
        batch_size=settings.batch_size,
        precision=settings.precision,
        compiled=settings.compile,
        progress=progress,
    )


@functools.lru_cache(maxsize=4)  # a worker has many tasks of one kind
def load_backbone(settings: Features) -> "Backbone":
    """Returns the backbone that the configuration names.

    Raises:
        ConfigError: there is none, or its weights cannot be had.
    """
    from extract.backbones import registry

    backbone = registry.load(settings.backbone, settings.weights, settings.image_size)
    return backbone.flip_averaged() if settings.flip_average else backbone


def name_backbone(settings: Features) -> "Named":
    """Returns the backbone that the configuration names, without its network and without torch.

    Raises:
        ConfigError: there is none, or its weights cannot be had.
    """
    from extract.backbones import registry

    named = registry.named(settings.backbone, settings.weights, settings.image_size)
    return named.flip_averaged() if settings.flip_average else named
