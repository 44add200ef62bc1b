import logging
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from store_specs import feature_spec, label_spec

import temporal
from temporal.settings import Run, Training
from temporal.train import fit, memory
from temporal.train.fused import Stack
from temporal.train.memory import CPU_REPLICAS, Shapes, features_on, footprint, replicas_that_fit

CPU = torch.device("cpu")
RUNS = [Run(("V",), seed=seed, lr=1e-2) for seed in range(6)]

TRAINING = Training(window=50, hop=50, batch_size=4, channels=16, levels=2, kernel_size=3)


def shapes_of(dim=32, validation=(1000,), **static):
    return Shapes([100, 50], validation, {"face": feature_spec(dim, "float16")}, label_spec(), **static)


def test_the_memory_of_a_replica_is_estimated_within_a_quarter_of_a_process_that_gives_back_what_it_frees():
    code = "import benchmarks.memory as m; print(m.peak('test', 2), m.peak('test', 8))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        # With the threshold fixed, freed arrays are given back: what is counted is what was in use.
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    few, many = map(int, done.stdout.split())
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks.memory import predicted

    in_use = predicted("test", 8).replica / memory.HEAP
    assert (many - few) / 6 / 1.25 < in_use < (many - few) / 6 * 1.25


def test_a_stack_takes_the_bank_and_its_minibatch_once_and_a_replica_for_each_run():
    run = Run(("V", "AU"))
    plain = footprint([run], TRAINING, shapes_of())
    assert plain.of(7) == plain.bank + plain.shared + 7 * plain.replica
    assert plain.bank == 1150 * (2 * 32 + 4 + 4 + 1 + 12 + 1)
    assert plain.shared == 4 * 50 * 32 * (2 + 3 * 4)
    assert footprint([run] * 9, TRAINING, shapes_of()) == plain
    assert footprint([run], TRAINING, shapes_of(), place="store").bank == 1150 * 22
    weights = Stack({"face": 32}, {"V": 1, "AU": 12}, [run], TRAINING, CPU).parameters
    assert plain.replica > memory.HEAP * memory.STATE * weights.nbytes
    longer = footprint([run], replace(TRAINING, window=100), shapes_of())
    assert longer.shared == 2 * plain.shared
    assert plain.replica < longer.replica < 2 * plain.replica
    assert footprint([run, Run(("V", "AU"), attention=True)], TRAINING, shapes_of()).replica > plain.replica
    assert footprint([run], TRAINING, shapes_of(validation=(100_000,))).replica > plain.replica
    assert footprint([run], TRAINING, shapes_of(dim=64)).replica > plain.replica
    reduced = footprint([run], replace(TRAINING, pca=6), shapes_of())
    assert reduced.bank == plain.bank + 1150 * 4 * 6
    assert reduced.shared == 4 * 50 * 6 * (4 + 3 * 4)
    assert reduced.replica < plain.replica


@pytest.mark.parametrize(("free", "expected"), [(0, 1), (10, 7), (1000, 32)])
def test_as_many_replicas_train_as_fit(monkeypatch, caplog, free, expected):
    caplog.set_level(logging.INFO)
    taken = footprint(RUNS, TRAINING, shapes_of())
    monkeypatch.setattr(memory, "free_memory", lambda device: free * taken.replica + taken.bank)
    assert replicas_that_fit(RUNS * 20, TRAINING, shapes_of(), CPU, "device") == min(expected, CPU_REPLICAS)
    assert f"{min(expected, CPU_REPLICAS)} replicas at a time" in caplog.text
    assert replicas_that_fit(RUNS[:2], TRAINING, shapes_of(), CPU, "device") <= 2


def test_features_that_are_still_to_come_take_memory_from_replicas(monkeypatch):
    taken = footprint(RUNS, TRAINING, shapes_of(dim=2048))
    monkeypatch.setattr(memory, "free_memory", lambda device: 25 * taken.replica + taken.bank)
    counts = [
        replicas_that_fit(RUNS * 20, TRAINING, shapes_of(dim=2048), CPU, p) for p in ("device", "store")
    ]
    assert counts[0] < counts[1]


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
