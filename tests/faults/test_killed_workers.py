"""Workers of a cluster that die in the middle of an extraction, in three ways: the stores are the same."""

import importlib
import os
import random
import signal
from functools import partial

import fault_clusters
import pytest

import stores
from pipeline import configfile
from pipeline.cluster import Cluster
from pipeline.stage1 import extraction
from pipeline.stage1.extraction import Work, extract_here, extract_on, load_backbone

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)


def digests(store):
    found = stores.verify(store.path)  # a worker that was killed may have left a temporary: that is foreign
    assert (found.damaged, found.missing) == ((), ())
    return {clip: store.record(clip).arrays for clip in store.clips()}


def test_killed_terminated_and_crashed_workers_change_nothing_in_the_features(
    size, corpus, tmp_path, monkeypatch
):
    if not size.full:
        pytest.skip("tests/pipeline/test_extraction.py kills two workers; the campaign kills thirty")
    import torch

    torch.set_num_threads(1)
    config = configfile.load("smoke", [f"corpus.root={corpus}"])
    backbone = load_backbone(config.streams["face"])
    corpora = importlib.import_module("extract.corpora")
    worklist = importlib.import_module("extract.worklist")
    crops = [clip.crops for clip in corpora.load("rendered", corpus, "abaw2").clips]
    alone = stores.create(tmp_path / "alone", backbone.feature_spec())
    extract_here(crops, backbone, alone, config.streams["face"])
    monkeypatch.setattr(extraction, "FRAMES_PER_TASK", 1)
    kills, chance = [], random.Random(0)
    for run in range(30):
        path = tmp_path / f"run{run}"
        store = stores.create(path, backbone.feature_spec())
        deed = partial(murder, kills=kills, chance=chance)
        with monkeypatch.context() as patch:
            patch.setattr(extraction, "connected", fault_clusters.beside(extraction.connected, deed))
            report = extract_on(
                Cluster(workers=2), worklist.look(crops, store), Work(config.streams["face"], path, 1)
            )
        assert report.failed == ()
        assert digests(store) == digests(alone)
        if len(kills) >= 30:
            break
    assert len(kills) >= 30
    assert set(kills) == set(SIGNALS)


def murder(client, stop, kills, chance):
    """Kills a worker every second or so, in one of three ways, until the run ends; three per run at most."""
    for _ in range(3):
        if stop.wait(chance.uniform(0.5, 3.0)):
            return
        pids = [pid for pid in client.run(os.getpid, on_error="ignore").values() if isinstance(pid, int)]
        if not pids or stop.is_set():
            return
        kind = SIGNALS[len(kills) % len(SIGNALS)]
        os.kill(chance.choice(pids), kind)
        kills.append(kind)
