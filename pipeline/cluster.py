"""Processes that run tasks: those of this machine, started for it, or those of a dask cluster that is there.

Not a maker of clusters over SSH, SLURM or Kubernetes: dask's own tools make those; here is their address. And
not aware of what a task is: see ``pipeline.stage1.extraction`` and ``pipeline.stage2.driver``.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stores.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

START_SECONDS = 60

Task = TypeVar("Task")
Result = TypeVar("Result")


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


def run_tasks(
    client: "Client",
    tasks: Sequence[Task],
    function: Callable[[Task], Result],
    finished: Callable[[Task, Result | None], None],
    parts: Callable[[Task], Mapping[str, Task]],
) -> None:
    """Runs ``function`` on each task, wherever a worker is free; relative paths mean there what they do here.

    A task may run twice, on two workers even, so ``function`` is idempotent. Where workers died as often as
    dask tolerates, the parts of the tasks that were there are tried alone, one after the other.

    Args:
        client: of the cluster.
        tasks: what travels to the workers; they begin in this order.
        function: what a worker does with one.
        finished: called here with a task, or a part, and what came of it; None if workers die on it.
        parts: what a task consists of, by what it is called in messages.

    Raises:
        Exception: whatever a task raises; the others are cancelled.
    """
    from distributed import KilledWorker, as_completed

    suspects: dict[str, Task] = {}
    there = functools.partial(_in_folder, Path.cwd(), function)

    def submit(task: Task) -> Any:
        # Not pure: an equal task of an earlier run may have failed.
        return client.submit(there, task, pure=False)

    running = {submit(task): task for task in tasks}
    try:
        for future in as_completed(list(running), loop=client.loop):  # type: ignore[no-untyped-call]
            task = running.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                suspects |= parts(task)
            else:
                finished(task, result)
        # Who waited on a worker that died is blamed like who killed it; who is alone there is not.
        for name, task in suspects.items():
            logger.warning("%s was on workers that died: it is tried alone", name)
            try:
                alone = submit(task).result()
            except KilledWorker:
                alone = None
            finished(task, alone)
    finally:
        client.cancel(list(running), force=True)  # type: ignore[no-untyped-call]


def _in_folder(folder: Path, function: Callable[[Task], Result], task: Task) -> Result:
    """Runs a task in the folder from which it was sent, if the worker's machine has it."""
    if folder.is_dir():
        os.chdir(folder)
    return function(task)


@contextmanager
def connected(cluster: Cluster, device: str) -> "Iterator[Client]":
    """Yields a client of the cluster; workers that were started for it end with it.

    Raises:
        ConfigError: no scheduler answers.
    """
    import dask
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
        # dask gives up a worker that died and is not back in 15 seconds. A busy machine may need longer to
        # start a process, and when no worker is left, tasks wait for ever.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),
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
                # Its own port and not dask's default one, which two clusters of a machine would fight for.
                "dashboard_address": cluster.dashboard or "127.0.0.1:0",
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
    """Returns the names of the GPUs that workers share out, none where they compute on the CPU.

    Raises:
        ConfigError: one GPU is asked for by its number, which means nothing to a worker that sees one.
    """
    import torch

    if ":" in device:
        msg = (
            f"device {device} and workers: each worker has a GPU of its own, and calls it cuda. Give the"
            " device cuda, and choose among GPUs by CUDA_VISIBLE_DEVICES"
        )
        raise ConfigError(msg)
    if device == "cpu" or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
