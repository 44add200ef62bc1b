import logging
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import temporal
from temporal.settings import Run, Training
from temporal.train import fit, memory
from temporal.train.fused import Stack
from temporal.train.memory import CPU_REPLICAS, features_on, footprint, replicas_that_fit

SIZES = {"V": 1, "A": 1, "AU": 12, "EXPR": 7}
CPU = torch.device("cpu")
RUNS = [Run(("V",), seed=seed, lr=1e-2) for seed in range(6)]

CHILD = r"""
import re
from pathlib import Path
import torch
from conftest import make_split
from stores.testing import label_spec
from temporal.data.bank import gather, identity
from temporal.train.memory import footprint
from temporal.train.fused import Stack
from temporal.train.targets import gather_targets, objective
from temporal.settings import Run, Training
from temporal.data.windows import cut

torch.set_num_threads(1)
SIZES = {"V": 1, "A": 1, "AU": 12, "EXPR": 7}
training = Training(window=100, hop=100, batch_size=8, channels=48, levels=2, projection=64)
split = make_split([800, 50], 1, dim=512)
windows = cut(split.offsets, 100, 100)
batch = gather(split, windows, windows.start[1:].argsort() + 1, identity(512))
targets = gather_targets(split, batch.rows, batch.usable, SIZES)
target = objective(split, label_spec(), training)

def peak_of(replicas):
    runs = [Run(tuple(SIZES), attention=True, seed=seed) for seed in range(replicas)]
    stack = Stack(512, SIZES, runs, training, torch.device("cpu"))
    stack.step(batch.features, batch.mask, targets, target, torch.ones(replicas, dtype=torch.bool), 1.0)
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

few = peak_of(2)
measured = (peak_of(8) - few) / 6
print(measured, footprint([Run(tuple(SIZES), attention=True)], training, 512, SIZES, 0).total)
"""


def test_the_memory_of_a_replica_is_estimated_within_a_third():
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        check=True,
        capture_output=True,
        text=True,
        cwd=os.path.dirname(__file__),  # noqa: PTH120
        # With the threshold fixed, freed arrays are given back: what is counted is what was in use.
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    measured, estimated = map(float, done.stdout.split())
    assert measured / 1.34 < estimated < measured * 1.34


def test_a_footprint_grows_with_what_it_is_made_of():
    base = Training(window=50, hop=50, batch_size=4, channels=16, levels=2, kernel_size=3)
    run = Run(("V", "AU"))
    plain = footprint([run], base, 32, SIZES, 1000)
    weights = Stack(32, SIZES, [run], base, CPU).parameters
    assert plain.parameters == weights.nbytes
    assert plain.predictions == 2 * 4 * 1000 * 21
    longer = footprint([run], replace(base, window=100), 32, SIZES, 1000)
    assert longer.activations == pytest.approx(2 * plain.activations, rel=0.1)
    heavier = footprint([run, Run(("V", "AU"), attention=True)], base, 32, SIZES, 1000)
    assert heavier.activations > plain.activations
    assert heavier.parameters > plain.parameters


@pytest.mark.parametrize(("free", "expected"), [(0, 1), (10, 8), (1000, 32)])
def test_as_many_replicas_train_as_fit(monkeypatch, caplog, free, expected):
    caplog.set_level(logging.INFO)
    training = Training(window=50, hop=50, channels=16)
    each = footprint(RUNS, training, 32, SIZES, 100).total
    monkeypatch.setattr(memory, "free_memory", lambda device: free * each)
    assert replicas_that_fit(RUNS * 20, training, 32, SIZES, 100, CPU) == min(expected, CPU_REPLICAS)
    assert f"{min(expected, CPU_REPLICAS)} replicas at a time" in caplog.text
    assert replicas_that_fit(RUNS[:2], training, 32, SIZES, 100, CPU) <= 2


def test_features_that_are_still_to_come_take_memory_from_replicas(monkeypatch):
    training = Training(window=50, hop=50, channels=16)
    each = footprint(RUNS, training, 32, SIZES, 100).total
    monkeypatch.setattr(memory, "free_memory", lambda device: 25 * each)
    counts = [
        replicas_that_fit(RUNS * 20, training, 32, SIZES, 100, CPU, features=taken * each)
        for taken in (0, 5, 15, 30)
    ]
    assert counts == [20, 16, 8, 1]


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        *[("auto", device, 700) for device in ("cpu", "cuda")],
        *[("device", device, 700) for device in ("cpu", "cuda")],
        ("host", "cpu", 700), ("host", "cuda", 0), ("store", "cpu", 0), ("store", "cuda", 0),
    ],
)  # fmt: skip
def test_features_lie_on_the_device_where_the_bank_will_be(monkeypatch, asked, device, expected):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    assert features_on(torch.device(device), asked, 700) == expected
    assert features_on(torch.device(device), "auto", 701) == 0


class Scarce(fit.StackTraining):
    """Memory for so many replicas; more of them fail in the first validation, like a real shortage late."""

    room = 2
    tried: list[int] = []  # noqa: RUF012  (cleared by the fixture)

    def _validate(self, epoch, losses):
        if epoch == 1:
            Scarce.tried.append(len(self.stack))
        if len(self.stack) > self.room:
            message = "CUDA out of memory. Tried to allocate 2 GiB\nand more"
            raise torch.OutOfMemoryError(message)
        super()._validate(epoch, losses)


@pytest.fixture
def scarce(monkeypatch):
    Scarce.tried.clear()
    monkeypatch.setattr(fit, "StackTraining", Scarce)
    monkeypatch.setattr(Scarce, "room", 2)
    return Scarce


def test_where_memory_runs_out_half_as_many_replicas_go_on(bank, tiny, scarce, caplog):
    tiny = replace(tiny, epochs=2)
    results = temporal.fit(bank, RUNS, tiny, replicas=6)
    assert scarce.tried == [6, 3, 1, 1, 1, 1, 1, 1]
    assert [result.run for result in results] == RUNS
    assert {result.status for result in results} == {"done"}
    assert (
        "no memory for 6 replicas (CUDA out of memory. Tried to allocate 2 GiB): from now on 3" in caplog.text
    )


def test_runs_after_a_shortage_equal_runs_in_small_groups_from_the_start(bank, tiny, scarce, monkeypatch):
    tiny = replace(tiny, epochs=2)
    short = temporal.fit(bank, RUNS[:4], tiny, replicas=4)
    monkeypatch.undo()
    small = temporal.fit(bank, RUNS[:4], tiny, replicas=2)
    for a, b in zip(short, small, strict=True):
        assert a.history == b.history


def test_a_run_that_fits_nowhere_fails_alone(bank, tiny, scarce, monkeypatch):
    monkeypatch.setattr(scarce, "room", 0)
    results = temporal.fit(bank, RUNS[:2], replace(tiny, epochs=1), replicas=2)
    assert [result.status for result in results] == ["failed", "failed"]
    assert "no memory for even one replica (CUDA out of memory" in results[0].reason
    assert math.isnan(results[0].score)


def test_other_errors_are_not_taken_for_a_shortage(bank, tiny, monkeypatch):
    def broken(*arguments):
        message = "shape mismatch"
        raise RuntimeError(message)

    monkeypatch.setattr(fit.StackTraining, "_validate", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        temporal.fit(bank, RUNS[:2], replace(tiny, epochs=1))
