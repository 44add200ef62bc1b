"""A training that is killed goes on from its last state with the same bytes, or begins anew."""

import logging
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import temporal
from stores.errors import ConfigError
from temporal.settings import Run, Training
from temporal.train import resume
from temporal.train.fused import Stack
from temporal.train.resume import StateFile

RUNS = [
    Run(("V",), seed=0, lr=1e-2),
    Run(("A", "AU"), attention=True, seed=1, lr=1e-2, dropout=0.3),
    Run(("A",), seed=3, lr=1e-12, dropout=0.0),  # hardly moves, so it stops early
    Run(("EXPR",), seed=0, lr=1e30),  # diverges in the first epoch
    Run(("V", "A", "AU", "EXPR"), attention=True, seed=2, lr=1e-2),
]
IDENTITY = {"data": "d" * 64}


TRAINING = Training(
    window=16, hop=16, batch_size=4, epochs=7, patience=3, channels=4, levels=1, kernel_size=3, projection=4
)


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(resume, "SHARE", float("inf"))


@pytest.fixture(scope="module")
def whole(bank):
    """What comes out of a training that nothing stops; each run ends in its own way."""
    results = temporal.fit(bank, RUNS, TRAINING)
    assert [r.status for r in results] == ["done", "done", "done", "failed", "done"]
    assert results[3].epochs == 1
    assert 1 < results[2].epochs < max(r.epochs for r in results) == TRAINING.epochs
    return [content(result) for result in results]


class Killed(BaseException):
    pass


def content(result):
    """Everything in a result but the time that it took, in its order, which files have too."""
    weights = {} if result.model is None else result.model.network.state_dict()
    return (
        result.run,
        result.status,
        result.reason,
        list(result.metrics.items()),
        result.best_epoch,
        result.epochs,
        result.history,
        [(c, t, a.tobytes()) for c, tasks in result.predictions.items() for t, a in tasks.items()],
        {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
    )


def train(bank, path, killed_at=None, runs=RUNS, training=TRAINING, identity=IDENTITY):
    """Trains with a state until ``killed_at`` epochs of single runs are done; returns what was delivered."""
    delivered = {}

    def progress(step, total, completed):
        if killed_at is not None and completed >= killed_at:
            raise Killed

    try:
        temporal.fit(
            bank,
            runs,
            training,
            progress=progress,
            on_result=lambda result: delivered.update({result.run: content(result)}),
            state=StateFile(path, identity),
        )
    except Killed:
        assert killed_at is not None
    return delivered


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


@pytest.mark.parametrize("stops", [[1], [12], [20], [34], [12, 16, 20, 28, 31]], ids=str)
def test_a_resumed_training_gives_the_same_bytes_as_one_that_was_never_stopped(
    bank, whole, path, stops, caplog
):
    caplog.set_level(logging.INFO)
    results = {}
    for killed_at in (*stops, None):
        results |= train(bank, path, killed_at)
    assert caplog.text.count("going on after epoch") == sum(stop > 11 for stop in stops)
    assert [results[run] for run in RUNS] == whole
    assert not list(path.parent.iterdir())


def test_runs_that_had_left_before_the_state_was_written_are_not_trained_again(bank, path):
    before = train(bank, path, 20)
    after = train(bank, path)
    assert RUNS[3] in before
    assert RUNS[3] not in after
    assert before.keys() | after.keys() == set(RUNS)


def test_a_kill_in_the_middle_of_an_epoch_loses_that_epoch_alone(bank, whole, path, monkeypatch, caplog):
    step, steps = Stack.step, iter(range(2 * 3 - 1))  # the second epoch lacks a step

    def deadly(self, *arguments):
        if next(steps, None) is None:
            raise Killed
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", deadly)
        results = train(bank, path, 1000)
    caplog.set_level(logging.INFO)
    results |= train(bank, path)
    assert "going on after epoch 1 with 4 runs" in caplog.text
    assert [results[run] for run in RUNS] == whole


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def flip_a_bit_of_the_facts(path):
    data = bytearray(path.read_bytes())
    place = data.index(b"seconds") + 12  # a digit of a number that nothing else checks
    data[place] ^= 1
    path.write_bytes(data)


def other_version(path):
    with safe_open(path, "pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, header | {"version": "0"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip_a_bit, "is damaged"),
        (flip_a_bit_of_the_facts, "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (other_version, "not a state of this version"),
    ],
)
def test_a_state_that_is_damaged_is_ignored_with_a_line_in_the_log(bank, whole, path, change, reason, caplog):
    results = train(bank, path, 20)
    change(path)
    results |= train(bank, path)
    assert f"{reason}" in caplog.text
    assert "training begins anew" in caplog.text
    assert [results[run] for run in RUNS] == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": RUNS[:4]},
        {"runs": [*RUNS[1:], RUNS[0]]},
        {"training": replace(TRAINING, data_seed=1)},
        {"identity": {"data": "e" * 64}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_state_of_anything_else_is_ignored(bank, path, changes, caplog):
    train(bank, path, 12)
    caplog.set_level(logging.INFO)
    results = train(bank, path, 12, **changes)
    assert "is of other runs, data, versions, threads or devices: training begins anew" in caplog.text
    assert "going on" not in caplog.text
    assert Run(("EXPR",), seed=0, lr=1e30) in results


def test_a_state_made_with_another_number_of_threads_is_ignored(bank, path, monkeypatch, caplog):
    train(bank, path, 12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    train(bank, path, 12)
    assert "is of other runs, data, versions, threads or devices" in caplog.text


def test_a_disk_that_refuses_the_state_costs_the_state_alone(bank, whole, path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "save_file", full)
    results = train(bank, path)
    assert "cannot be kept ([Errno 28] No space left on device)" in caplog.text
    assert [results[run] for run in RUNS] == whole
    assert not list(path.parent.iterdir())


def test_states_take_a_fiftieth_of_the_time_at_most(path, monkeypatch):
    monkeypatch.undo()
    now = [100.0]
    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])

    def slow(*_):
        now[0] += 2.0

    monkeypatch.setattr(resume, "save_file", slow)
    state = StateFile(path, {})
    assert state.due()
    state.write({"x": torch.zeros(1)}, {})
    now[0] += 99
    assert not state.due()
    now[0] += 1
    assert state.due()


def test_one_state_is_of_one_stack(bank, path):
    with pytest.raises(ConfigError, match=r"2 runs .*1 replicas at a time: one state"):
        temporal.fit(bank, RUNS[:2], TRAINING, replicas=1, state=StateFile(path, {}))
