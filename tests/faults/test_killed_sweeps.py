"""Sweeps killed at random times, and their workers: the results are those of an uninterrupted sweep."""

import os
import random
import signal
from concurrent.futures import wait
from functools import partial

import fabricated_experiment
import fault_clusters
import fault_sweeps
import pytest

from pipeline import cluster, configfile
from pipeline.cluster import Cluster
from pipeline.stage2 import driver
from pipeline.workdir import work_dir

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_sweeps_killed_at_random_times_end_in_the_bytes_of_an_uninterrupted_one(pool, size, scratch):
    kills = size.of(2, 25)
    futures = [
        pool.submit(fault_sweeps.kill_sweeps, kills, seed, scratch, every_epoch=not seed)
        for seed in range(size.of(1, 2))
    ]
    ends = [future.result() for future in wait(futures).done]
    faults = [fault for end in ends for fault in end.faults]
    assert not faults, f"{len(faults)} faults, the first:\n" + "\n".join(faults[:5])
    assert sum(end.kills for end in ends) >= kills * len(ends)
    assert all(end.finished for end in ends)
    assert not size.full or sum(end.resumed for end in ends) >= 10


def test_workers_killed_while_they_train_give_the_bytes_of_one_process(size, tmp_path, monkeypatch):
    import torch

    for module in (cluster, driver):
        monkeypatch.setattr(module, "threads_of", lambda workers: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reference, _ = _sweep(tmp_path / "alone", None)
    finally:
        torch.set_num_threads(threads)
    workers, wanted = size.of(1, 2), size.of(1, 12)
    kills, chance = [], random.Random(0)
    for number in range(20):
        folder = tmp_path / f"run{number}"
        deed = partial(murder, folder=folder, kills=kills, chance=chance, most=min(wanted, 3))
        with monkeypatch.context() as patch:
            patch.setattr(driver, "connected", fault_clusters.beside(cluster.connected, deed))
            found, failures = _sweep(folder, Cluster(workers=workers))
        assert failures == {}
        assert found == reference
        if len(kills) >= wanted:
            break
    assert len(kills) >= wanted


def murder(client, stop, folder, kills, chance, most):
    """Kills a worker some time after a group has a state, until the sweep ends; ``most`` times."""
    for _ in range(most):
        while not list(folder.glob("work/runs/.groups/*/*.safetensors")):
            if stop.wait(0.01):
                return
        if stop.wait(chance.uniform(0, 0.5)):
            return
        pids = [pid for pid in client.run(os.getpid, on_error="ignore").values() if isinstance(pid, int)]
        if not pids or stop.is_set():
            return
        pid = chance.choice(pids)
        os.kill(pid, signal.SIGKILL)
        kills.append(pid)


def _sweep(folder, on):
    """Returns what a sweep leaves, and what it lists as failed."""
    work = folder / "work"
    work.mkdir(parents=True)
    fabricated_experiment.write_stores(work)
    config = configfile.load(str(fabricated_experiment.write_config(folder, work, epochs=40, patience=0)))
    failures = driver.run_sweep(config, work_dir(config, work), cluster=on)
    return fault_sweeps.prints(work), failures
