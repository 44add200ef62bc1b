"""Extraction by workers: the same stores as one process makes, whoever dies on the way."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import dask
import distributed  # noqa: F401 (before dask.config.set: it brings its own defaults)
import numpy as np
import pytest
from click.testing import CliRunner
from deadly_tasks import fatal_for
from store_specs import feature_spec

import stores
from extract.corpora import Crops
from extract.fingerprint import Source
from extract.worklist import Worklist
from pipeline import cluster
from pipeline.cli import facets
from pipeline.cluster import Cluster
from pipeline.configfile import load
from pipeline.device import resolve_device
from pipeline.stage1 import extraction
from pipeline.stage1.extraction import Work, extract_on, shards
from stores.errors import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("threads_of_a_worker"),
]

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
    found = stores.verify(path)  # a worker that was killed may have left a temporary: that is foreign
    assert (found.damaged, found.missing) == ((), ())
    return {clip: store.record(clip).arrays for clip in store.clips()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A work directory whose corpus is drawn and extracted by one process, with the threads of a worker."""
    work = tmp_path_factory.mktemp("alone")
    features(work)
    return work


@pytest.fixture(scope="module")
def alone(drawn):
    """What one process extracts."""
    return features(drawn)


@pytest.fixture
def work(drawn, tmp_path):
    """A work directory with that corpus, and nothing else."""
    shutil.copytree(drawn / "corpus", tmp_path / "work" / "corpus")
    return tmp_path / "work"


def test_a_clip_that_fails_is_said_to_keep_the_features_of_its_earlier_crops(drawn, tmp_path):
    place = shutil.copytree(drawn, tmp_path / "work")
    folder = min((place / "corpus" / "cropped_aligned").iterdir())
    for crop in folder.iterdir():
        crop.write_bytes(b"")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    result = CliRunner().invoke(facets, ["features", "-c", "smoke", "--work", str(place), *settings])
    assert f"clip {folder.name}: not extracted: " in result.stderr
    (store,) = (place / "features").iterdir()
    assert f"a sweep would train on them: delete {store}/clips/{folder.name}.*" in result.stderr
    assert folder.name in stores.open(store).clips()


def test_workers_of_a_running_scheduler_are_used_and_outlive_the_run(work, alone, running, caplog):
    caplog.set_level(logging.INFO)
    assert features(work, "--scheduler", running.scheduler_address) == alone
    assert caplog.text.count(" to extract by 1 worker: about ") == 1
    assert len(running.scheduler_info["workers"]) == 1


def test_two_workers_of_which_two_are_killed_write_the_features_of_one_process_and_the_next_run_starts_none(
    work, alone, monkeypatch
):
    connected, kills = cluster.connected, []

    def with_a_murderer(*arguments):
        manager = connected(*arguments)

        class Guarded:
            def __enter__(self):
                client = manager.__enter__()
                thread = threading.Thread(target=kill_twice, args=(client, work, kills))
                thread.start()
                self.thread = thread
                return client

            def __exit__(self, *error):
                self.thread.join()
                return manager.__exit__(*error)

        return Guarded()

    monkeypatch.setattr(extraction, "connected", with_a_murderer)
    monkeypatch.setattr(extraction, "FRAMES_PER_TASK", 1)
    assert features(work, "--workers", "2") == alone
    assert len(kills) == 2
    monkeypatch.setattr(extraction, "connected", None)
    assert features(work, "--workers", "2") == alone


def kill_twice(client, work, kills):
    """Kills a worker when it has begun, and one when the first clips are committed."""
    for committed in (0, 1):
        while len(list(work.glob("features/*/clips/*.json"))) < committed:
            time.sleep(0.02)
        pids = []
        while not pids:  # a worker that is going or coming may not answer
            answers = client.run(os.getpid, on_error="ignore").values()
            pids = [pid for pid in answers if isinstance(pid, int)]
        kills.append(pids[0])
        os.kill(pids[0], signal.SIGKILL)


def test_a_clip_that_kills_every_worker_fails_alone(tmp_path, monkeypatch):
    # One worker, and the fatal clip last: a worker imports torch for its first report.
    crops = [Crops(f"clip{number}", [None] * 10) for number in range(4)]
    store = stores.create(tmp_path / "store", feature_spec(4))
    todo = Worklist(tuple((clip, Source("", np.ones(10, bool))) for clip in crops), (), ())
    monkeypatch.setattr(extraction, "extract_task", partial(fatal_for, "clip3"))
    work = Work(load("smoke").streams["face"], store.path, 1)
    calls = []
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        report = extract_on(Cluster(workers=1), todo, work, lambda *call: calls.append(call))
    assert sorted(report.written) == ["clip0", "clip1", "clip2"]
    assert [clip.clip for clip in report.failed] == ["clip3"]
    assert "the workers that extract it die" in report.failed[0].reason
    assert calls[-1] == ("features", 40, 40)


def test_tasks_hold_every_clip_once_the_longest_first_and_short_ones_together():
    crops = [Crops(f"clip{number}", [None] * (number * 700)) for number in range(1, 10)]
    tasks = shards(crops)
    assert sorted(clip.id for task in tasks for clip in task) == [clip.id for clip in crops]
    assert [len(task) for task in tasks] == [1, 1, 1, 1, 1, 1, 2, 1]
    lengths = [sum(len(clip.frames) for clip in task) for task in tasks]
    assert lengths == [6300, 5600, 4900, 4200, 3500, 2800, 3500, 700]
    assert all(lengths[i] <= extraction.FRAMES_PER_TASK for i, task in enumerate(tasks) if len(task) > 1)


def test_an_unchanged_corpus_asks_no_heavy_library(drawn):
    arguments = ["facets", "features", "-c", "smoke", "--work", str(drawn)]
    arguments += [part for setting in SMALL for part in ("--set", setting)]
    heavy = {"torch", "torchvision", "torchcodec", "timm", "dask", "distributed", "h5py", "pandas", "sklearn"}
    code = (
        f"import sys; sys.argv = {arguments}\n"
        "from pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(*sorted(sys.modules.keys() & {heavy | {'rich', 'PIL', 'cv2'}}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "0 clips written" in run.stderr
    assert (run.returncode, run.stdout.strip()) == (0, "")


def test_devices_that_are_not_there_are_refused():
    assert resolve_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "mps", "cuda:99"):
        with pytest.raises(ConfigError, match=name):
            resolve_device(name)
