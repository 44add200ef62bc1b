"""Clusters: every task is done once or more, whoever dies on the way, and what a task raises arrives."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import dask
import distributed  # before dask.config.set: it brings its own defaults
import pytest
from click.testing import CliRunner

from pipeline import cluster
from pipeline.cli import facets
from pipeline.cluster import Cluster
from stores.errors import ConfigError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def fatal_for(number, task):
    """A task on which the worker dies when it meets one number."""
    if number in task:
        os._exit(1)
    return sum(task)


def failing(task):
    """A task that fails as one does on a full disk."""
    error = StoreError(f"{task[0]} was not written: the disk is full")
    error.add_note("make room")
    raise error


def die_first(path):
    """A task on which the first worker dies."""
    if not path.exists():
        path.touch()
        os._exit(1)
    return "done"


def one_by_one(task):
    return {f"number {number}": [number] for number in task}


def test_a_part_of_a_task_that_kills_every_worker_fails_alone():
    ended = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster.connected(Cluster(workers=2), "cpu") as client,
    ):
        cluster.run_tasks(
            client, [[1, 2, 3], [4]], partial(fatal_for, 2), lambda *end: ended.append(end), one_by_one
        )
    results = {number: result for task, result in ended for number in task}
    assert results == {1: 1, 2: None, 3: 3, 4: 4}


def test_a_worker_that_takes_long_to_come_back_is_waited_for(tmp_path):
    ended = []
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}),
        cluster.connected(Cluster(workers=1), "cpu") as client,
    ):
        cluster.run_tasks(client, [tmp_path / "died"], die_first, lambda *end: ended.append(end), one_by_one)
    assert ended == [(tmp_path / "died", "done")]


def test_relative_paths_mean_to_a_worker_that_was_started_elsewhere_what_they_mean_here(tmp_path):
    ended = []
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as running:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", running.scheduler_address]
        code = Path(cluster.__file__).parents[1]
        worker = subprocess.Popen(
            [*command, "--nthreads", "1", "--no-nanny", "--no-dashboard"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(code)},
        )
        try:
            with cluster.connected(Cluster(scheduler=running.scheduler_address), "cpu") as client:
                cluster.run_tasks(
                    client, ["work/demo"], os.path.abspath, lambda *end: ended.append(end), one_by_one
                )
        finally:
            worker.terminate()
            worker.wait()
    assert ended == [("work/demo", str(Path.cwd() / "work/demo"))]


def test_what_a_task_raises_ends_the_run_with_its_message():
    with (
        cluster.connected(Cluster(workers=1), "cpu") as client,
        pytest.raises(StoreError, match="1 was not written: the disk is full") as caught,
    ):
        cluster.run_tasks(client, [[1]], failing, print, one_by_one)
    assert caught.value.__notes__ == ["make room"]


def test_a_scheduler_that_does_not_answer_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(cluster, "START_SECONDS", 1)
    with (
        pytest.raises(ConfigError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster.connected(Cluster(scheduler="tcp://127.0.0.1:9"), "cpu"),
    ):
        pass


@pytest.mark.parametrize("command", ["features", "sweep"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2", "--scheduler", "tcp://h:1"], "has its own workers"),
        (["--dashboard", "127.0.0.1:0"], "give both"),
        (["--workers", "0"], "0 is not in the range"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(command, options, message):
    result = CliRunner().invoke(facets, [command, *options])
    assert result.exit_code == 2
    assert message in result.output


def test_a_cluster_is_either_started_or_named():
    for arguments in ({}, {"workers": 1, "scheduler": "tcp://h:1"}, {"workers": 0}):
        with pytest.raises(ConfigError):
            Cluster(**arguments)


def test_workers_share_the_gpus_that_are_visible_and_none_is_asked_for_by_its_number(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster._gpus("auto") == cluster._gpus("cuda") == ["0", "1"]
    assert cluster._gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7")
    assert cluster._gpus("cuda") == ["3", "GPU-7"]
    with pytest.raises(ConfigError, match=r"device cuda:1 and workers: .* Give the device cuda"):
        cluster._gpus("cuda:1")
