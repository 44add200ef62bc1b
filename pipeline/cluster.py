"""Extraction by many processes: clips go to the workers of a dask cluster, results stay on disk.

Not a maker of clusters over SSH, SLURM or Kubernetes: dask's own tools make those; here is their address.
"""

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Features
from stores.errors import ConfigError
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from distributed import Client

    from extract.backbones.backbone import Backbone
    from extract.corpora import Crops
    from extract.engine import FailedClip, Report
    from stores import Store

logger = logging.getLogger(__name__)

FRAMES_PER_TASK = 4096
"""At least so many frames, or one clip: beside seconds of work the millisecond that dask takes is nothing."""
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where tasks run.

    Attributes:
        workers: processes to start on this machine, or None to use ``scheduler``.
        scheduler: address of a running scheduler, such as ``tcp://10.0.0.5:8786``, or None.
        dashboard: address for dask's dashboard of local workers, such as ``127.0.0.1:8787``; None for none.
    """

    workers: int | None = None
    scheduler: str | None = None
    dashboard: str | None = None

    def __post_init__(self) -> None:
        if (self.workers is None) == (self.scheduler is None):
            msg = "give either a number of workers or the address of a scheduler"
            raise ConfigError(msg)
        if self.workers is not None and self.workers < 1:
            msg = f"{self.workers} workers: expected at least 1"
            raise ConfigError(msg)


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


def extract_on(
    cluster: Cluster,
    crops: "Sequence[Crops]",
    work: Work,
    progress: Progress = silent,
) -> "Report":
    """Extracts every clip that the store does not hold yet, or holds from other crops, on a cluster.

    A task is some clips; it may run twice, on two workers even, and the result is the same. Workers that die
    are replaced and their clips done by others. A clip on which workers die again and again fails alone.

    Args:
        cluster: where.
        crops: the clips.
        work: how.
        progress: called with the frames done.

    Returns:
        As ``extract.engine.extract_clips``.

    Raises:
        ConfigError: the cluster cannot be reached, or has no such device.
        FacetsError: whatever ends an extraction, on whichever worker.
    """
    import stores
    from extract.engine import Report, Stages, plan

    began = time.perf_counter()
    store = stores.open(work.store)
    pending, unchanged, failed = plan(crops, store, progress)
    reports: list[Report] = []
    if pending:
        tasks = shards([clip for clip, _ in pending])
        with connected(cluster, work.settings.device) as client:
            reports, dead = run_tasks(client, tasks, functools.partial(extract_task, work=work), progress)
        failed += dead
    return Report(
        written=tuple(clip for report in reports for clip in report.written),
        unchanged=(*unchanged, *(clip for report in reports for clip in report.unchanged)),
        failed=(*failed, *(clip for report in reports for clip in report.failed)),
        bad_frames=tuple(bad for report in reports for bad in report.bad_frames),
        frames=sum(report.frames for report in reports),
        images=sum(report.images for report in reports),
        seconds=time.perf_counter() - began,
        stages=reduce(add, (report.stages for report in reports), Stages()),
    )


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
        device=settings.device,
        batch_size=settings.batch_size,
        precision=settings.precision,
        compiled=settings.compile,
        progress=progress,
    )


@functools.lru_cache(maxsize=1)  # a worker has many tasks of one kind
def load_backbone(settings: Features) -> "Backbone":
    """Returns the backbone that the configuration names.

    Raises:
        ConfigError: there is none, or its weights cannot be had.
    """
    from extract.backbones import registry

    backbone = registry.load(settings.backbone, settings.weights, settings.image_size)
    return backbone.flip_averaged() if settings.flip_average else backbone


def run_tasks(
    client: "Client",
    tasks: "list[list[Crops]]",
    function: "Callable[[list[Crops]], Report]",
    progress: Progress = silent,
) -> "tuple[list[Report], list[FailedClip]]":
    """Runs ``function`` on each task, wherever a worker is free.

    Returns:
        What the tasks returned, and the clips on which workers died as often as dask tolerates.

    Raises:
        Exception: whatever a task raises; the others are cancelled.
    """
    from distributed import KilledWorker, as_completed

    from extract.engine import FailedClip

    total = sum(len(clip.frames) for task in tasks for clip in task)
    done = 0
    reports: list[Report] = []
    failed: list[FailedClip] = []
    suspects: list[Crops] = []

    def submit(task: "list[Crops]") -> Any:
        # Not pure: an equal task of an earlier run may have failed.
        return client.submit(function, task, pure=False)

    def advance(task: "list[Crops]") -> None:
        nonlocal done
        done += sum(len(clip.frames) for clip in task)
        progress("features", total, done)

    advance([])
    running = {submit(task): task for task in tasks}
    try:
        for future in as_completed(list(running), loop=client.loop):  # type: ignore[no-untyped-call]
            task = running.pop(future)
            try:
                reports.append(future.result())
            except KilledWorker:
                suspects += task
            else:
                advance(task)
        # Who waited on a worker that died is blamed like who killed it; who is alone there is not.
        for clip in suspects:
            logger.warning("clip %s was on workers that died: it is tried alone", clip.id)
            try:
                reports.append(submit([clip]).result())
            except KilledWorker:
                reason = "the workers that extract it die: look at its crops, and at the workers' memory"
                failed.append(FailedClip(clip.id, reason))
            advance([clip])
    finally:
        client.cancel(list(running), force=True)  # type: ignore[no-untyped-call]
    return reports, failed


@contextmanager
def connected(cluster: Cluster, device: str) -> "Iterator[Client]":
    """Yields a client of the cluster; workers that were started for it end with it.

    Raises:
        ConfigError: no scheduler answers.
    """
    from distributed import Client

    # Importing distributed makes it tell every connection that opens or closes.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if cluster.scheduler is not None:
        try:
            client = Client(cluster.scheduler, timeout=START_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            msg = f"no dask scheduler answers at {cluster.scheduler}: {error}"
            raise ConfigError(msg) from error
        with client:
            yield client
        return
    with (
        _local_cluster(cluster, device) as local,
        Client(local, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        client.wait_for_workers(cluster.workers or 1, timeout=START_SECONDS)
        yield client


def _local_cluster(cluster: Cluster, device: str) -> Any:
    """One process per worker, each with a share of the cores, or with a GPU of its own."""
    from distributed import Nanny, Scheduler, SpecCluster

    workers = cluster.workers or 1
    gpus = _gpus(device)
    threads = str(threads_of(workers))
    options = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": 0,  # torch keeps memory that dask would take for a leak
        "dashboard": False,
        "silence_logs": logging.ERROR,
    }
    return SpecCluster(  # type: ignore[no-untyped-call]
        scheduler={
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "dashboard": cluster.dashboard is not None,
                "dashboard_address": cluster.dashboard,
            },
        },
        workers={
            number: {
                "cls": Nanny,
                "options": {
                    **options,
                    "env": {
                        "OMP_NUM_THREADS": threads,
                        "MKL_NUM_THREADS": threads,
                        **({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}),
                    },
                },
            }
            for number in range(workers)
        },
        silence_logs=logging.ERROR,
    )


def threads_of(workers: int) -> int:
    """Returns how many cores each of ``workers`` processes on this machine may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _gpus(device: str) -> list[str]:
    """Returns the names of the GPUs that workers share out, none where they compute on the CPU."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
