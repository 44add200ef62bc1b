"""Extraction by workers: the same stores as one process makes, whoever dies on the way."""

import os
import signal
import threading
import time
from functools import partial

import dask
import distributed  # noqa: F401 (before dask.config.set: it brings its own defaults)
import pytest
import torch
from click.testing import CliRunner

import stores
from extract.corpora import Crops
from extract.engine import Report
from pipeline import cluster
from pipeline.cli import facets
from pipeline.cluster import Cluster, shards
from stores.errors import ConfigError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FRAMES = 60
SMALL = [
    f"corpus.render.{key}={value}"
    for key, value in {
        "train_people": 2,
        "validation_people": 1,
        "test_people": 0,
        "min_frames": 30,
        "max_frames": FRAMES,
    }.items()
]


def features(work, *options):
    """Runs ``facets features`` on a small drawn corpus and returns clip -> digests."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    result = CliRunner().invoke(facets, ["features", "-c", "smoke", "--work", str(work), *settings, *options])
    assert result.exit_code == 0, result.output
    (path,) = (work / "features").iterdir()
    store = stores.open(path)
    assert stores.verify(path).ok
    return {clip: store.record(clip).arrays for clip in store.clips()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process extracts, with as many threads as each of two workers has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(cluster.threads_of(2))
    try:
        return features(tmp_path_factory.mktemp("alone"))
    finally:
        torch.set_num_threads(threads)


def test_workers_write_the_same_features_as_one_process_and_the_next_run_starts_none(
    tmp_path, alone, monkeypatch
):
    assert features(tmp_path, "--workers", "2") == alone
    monkeypatch.setattr(cluster, "connected", None)
    assert features(tmp_path, "--workers", "2") == alone


def test_workers_of_a_running_scheduler_are_used_and_outlive_the_run(tmp_path, alone):
    with cluster.connected(Cluster(workers=1), "cpu") as client:
        client.run(torch_threads, cluster.threads_of(2))
        assert features(tmp_path, "--scheduler", client.scheduler.address) == alone
        assert len(client.scheduler_info()["workers"]) == 1


def torch_threads(count):
    import torch

    torch.set_num_threads(count)


def test_workers_killed_at_random_change_nothing_in_the_result(tmp_path, alone, monkeypatch):
    connected, kills = cluster.connected, []

    def with_a_murderer(*arguments):
        manager = connected(*arguments)

        class Guarded:
            def __enter__(self):
                client = manager.__enter__()
                thread = threading.Thread(target=kill_twice, args=(client, tmp_path, kills))
                thread.start()
                self.thread = thread
                return client

            def __exit__(self, *error):
                self.thread.join()
                return manager.__exit__(*error)

        return Guarded()

    monkeypatch.setattr(cluster, "connected", with_a_murderer)
    monkeypatch.setattr(cluster, "FRAMES_PER_TASK", 1)
    assert features(tmp_path, "--workers", "2") == alone
    assert len(kills) == 2


def kill_twice(client, work, kills):
    """Kills a worker when it has begun, and one when the first clips are committed."""
    for committed in (0, 1):
        while len(list(work.glob("features/*/clips/*.json"))) < committed:
            time.sleep(0.02)
        pids = list(client.run(os.getpid).values())
        kills.append(pids[0])
        os.kill(pids[0], signal.SIGKILL)


def fatal_for(clip, crops):
    """A task on which the worker dies when it meets one clip."""
    if any(one.id == clip for one in crops):
        os._exit(1)
    return Report(tuple(one.id for one in crops), (), (), (), len(crops), 0, 0.0)


def failing(crops):
    """A task that fails as an extraction does on a full disk."""
    error = StoreError(f"clip {crops[0].id!r} was not written: the disk is full")
    error.add_note("make room")
    raise error


def clips(count, frames=10):
    return [Crops(f"clip{number}", [None] * frames) for number in range(count)]


def test_a_clip_that_kills_every_worker_fails_alone():
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster.connected(Cluster(workers=2), "cpu") as client,
    ):
        reports, failed = cluster.run_tasks(client, [clips(3), clips(4)[3:]], partial(fatal_for, "clip1"))
    assert sorted(clip for report in reports for clip in report.written) == ["clip0", "clip2", "clip3"]
    assert [clip.clip for clip in failed] == ["clip1"]
    assert "the workers that extract it die" in failed[0].reason


def test_what_ends_an_extraction_on_a_worker_ends_the_run_with_its_message():
    with (
        cluster.connected(Cluster(workers=1), "cpu") as client,
        pytest.raises(StoreError, match="'clip0' was not written: the disk is full") as caught,
    ):
        cluster.run_tasks(client, [clips(1)], failing)
    assert caught.value.__notes__ == ["make room"]


def test_tasks_hold_every_clip_once_the_longest_first_and_short_ones_together():
    crops = [Crops(f"clip{number}", [None] * (number * 700)) for number in range(1, 10)]
    tasks = shards(crops)
    assert sorted(clip.id for task in tasks for clip in task) == [clip.id for clip in crops]
    assert [len(task) for task in tasks] == [1, 1, 1, 1, 1, 1, 2, 1]
    lengths = [sum(len(clip.frames) for clip in task) for task in tasks]
    assert lengths == [6300, 5600, 4900, 4200, 3500, 2800, 3500, 700]
    assert all(lengths[i] <= cluster.FRAMES_PER_TASK for i, task in enumerate(tasks) if len(task) > 1)


def test_a_scheduler_that_does_not_answer_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(cluster, "START_SECONDS", 1)
    with (
        pytest.raises(ConfigError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster.connected(Cluster(scheduler="tcp://127.0.0.1:9"), "cpu"),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2", "--scheduler", "tcp://h:1"], "has its own workers"),
        (["--dashboard", "127.0.0.1:0"], "give both"),
        (["--workers", "0"], "0 is not in the range"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(options, message):
    result = CliRunner().invoke(facets, ["features", *options])
    assert result.exit_code == 2
    assert message in result.output


def test_a_cluster_is_either_started_or_named():
    for arguments in ({}, {"workers": 1, "scheduler": "tcp://h:1"}, {"workers": 0}):
        with pytest.raises(ConfigError):
            Cluster(**arguments)
