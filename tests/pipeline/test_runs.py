"""The ledger of runs: a result is all there or not there, and a failure is tried again."""

import json
import math

import h5py
import numpy as np
import pytest

from pipeline.configfile import load
from pipeline.ledger import commit, commit_error, status, unfinished
from pipeline.plan import plan
from pipeline.report.scores import columns_of, read_run
from stores.editions import edition

DATA = {"features": "f" * 64, "labels": "e" * 64}
NAMES = {
    "run_id": "0",
    "split": "validation",
    "edition": "abaw2",
    "au_names": ["AU1"],
    "expression_names": ["x"],
}
PREDICTIONS = {"one": {"V": np.linspace(-1, 1, 5)}, "two_left": {"V": np.zeros(3)}}
HISTORY = [{"epoch": 1, "score": 0.25}, {"epoch": 2, "score": math.nan}]


@pytest.fixture
def run():
    return plan(load("demo"), DATA)[0]


def result(run, ccc=0.5):
    return {
        "run_id": run.run_id,
        "name": run.name,
        "tasks": list(run.tasks),
        "seed": run.seed,
        "best_epoch": 1,
        "epochs": 2,
        "metrics": {"V": {"ccc": ccc, "frames": 8}},
    }


def write(folder, run, save=lambda folder: (folder / "model.safetensors").write_bytes(b"weights"), **changes):
    commit(folder / run.run_id, result(run, **changes), HISTORY, PREDICTIONS, NAMES, save)


def test_a_committed_run_is_finished_and_readable_by_the_table(tmp_path, run):
    write(tmp_path, run)
    assert status(tmp_path / run.run_id) == "finished"
    headline, details = columns_of(edition("abaw2"))
    found = read_run(tmp_path, run, headline + details)
    assert (found.status, found.best_epoch, found.epochs) == ("done", 1, 2)
    assert list(found.scores.values()) == [0.5]


def test_predictions_are_plain_hdf5_with_one_group_per_clip(tmp_path, run):
    write(tmp_path, run)
    with h5py.File(tmp_path / run.run_id / "predictions.h5") as file:
        assert file.attrs["format"] == "facets-predictions"
        assert file.attrs["split"] == "validation"
        assert list(file.attrs["au_names"]) == ["AU1"]
        assert sorted(file) == ["one", "two_left"]
        assert file["one/V"].dtype == np.float32
        np.testing.assert_allclose(file["one/V"][:], PREDICTIONS["one"]["V"], rtol=1e-6)


def test_what_json_cannot_say_is_null(tmp_path, run):
    write(tmp_path, run, ccc=math.nan)
    lines = (tmp_path / run.run_id / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [0.25, None]
    assert json.loads((tmp_path / run.run_id / "result.json").read_text())["metrics"]["V"]["ccc"] is None


@pytest.mark.parametrize("step", ["save", "metrics.jsonl", "predictions.h5", "result.json"])
def test_a_run_interrupted_at_any_step_is_unfinished_and_can_be_committed_again(
    tmp_path, run, step, monkeypatch
):
    import pipeline.ledger as ledger

    replace = ledger.replace

    def interrupted(path, content):
        if path.name == step:
            raise KeyboardInterrupt
        replace(path, content)

    def save(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        if step == "save":
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, run, save)
    assert status(tmp_path / run.run_id) == "missing"
    assert unfinished([run], tmp_path) == [run]
    monkeypatch.undo()
    write(tmp_path, run)
    assert status(tmp_path / run.run_id) == "finished"
    assert not list((tmp_path / run.run_id).glob(".*"))


def test_a_failed_run_says_why_in_one_line_and_is_tried_again(tmp_path, run):
    commit_error(tmp_path / run.run_id, run, "loss is not\nfinite", "FloatingPointError", 3, 14)
    assert json.loads((tmp_path / run.run_id / "error.json").read_text()) == {
        "error": "loss is not finite",
        "type": "FloatingPointError",
        "epoch": 3,
        "step": 14,
        "run_id": run.run_id,
        "name": run.name,
        "seed": run.seed,
    }
    assert status(tmp_path / run.run_id) == "failed"
    assert unfinished([run], tmp_path) == [run]
    assert read_run(tmp_path, run, ()).error == "loss is not finite"
    write(tmp_path, run)
    assert status(tmp_path / run.run_id) == "finished"
    assert not (tmp_path / run.run_id / "error.json").exists()
