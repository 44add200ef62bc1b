"""The ledger of runs: a result is all there or not there, damage is told, and a failure is tried again."""

import json
import math

import h5py
import numpy as np
import pytest
from fabricated_runs import planned

from pipeline import ledger
from pipeline.configfile import load
from stores.errors import FacetsError

NAMES = {
    "run_id": "0",
    "split": "validation",
    "edition": "abaw2",
    "au_names": ["AU1"],
    "expression_names": ["x"],
}
PREDICTIONS = {"one": {"V": np.linspace(-1, 1, 5)}, "two_left": {"V": np.zeros(3)}}
UNITS = {"one": {"V": np.arange(6.0)}, "two_left": {"V": np.ones(6)}}
HISTORY = [{"epoch": 1, "score": 0.25}, {"epoch": 2, "score": math.nan}]


@pytest.fixture
def run():
    return planned(load("demo"))[0]


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
    ledger.commit(folder / run.run_id, result(run, **changes), HISTORY, PREDICTIONS, UNITS, NAMES, save)
    return folder / run.run_id


def test_a_committed_run_is_done_and_readable(tmp_path, run):
    folder = write(tmp_path, run)
    assert ledger.status(folder) == "done"
    assert ledger.unfinished([run], tmp_path) == []
    assert ledger.read(folder, run) == ledger.RunRecord("done", "", 1, 2, {"V": {"ccc": 0.5, "frames": 8}})
    assert ledger.predicted_clips(folder) == {"one", "two_left"}
    np.testing.assert_array_equal(ledger.predictions(folder, "two_left", ["V"])["V"], np.zeros(3))
    found = ledger.units(folder)
    assert list(found) == ["one", "two_left"]
    np.testing.assert_array_equal(found["one"]["V"], UNITS["one"]["V"])
    np.testing.assert_array_equal(ledger.epoch_scores(folder, run), [0.25, math.nan])


def test_predictions_are_plain_hdf5_with_one_group_per_clip(tmp_path, run):
    with h5py.File(write(tmp_path, run) / "predictions.h5") as file:
        assert file.attrs["format"] == "facets-predictions"
        assert file.attrs["split"] == "validation"
        assert list(file.attrs["au_names"]) == ["AU1"]
        assert sorted(file) == ["one", "two_left"]
        assert file["one/V"].dtype == np.float32
        np.testing.assert_allclose(file["one/V"][:], PREDICTIONS["one"]["V"], rtol=1e-6)


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path, run):
    folder = write(tmp_path, run, ccc=math.nan)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [0.25, None]
    assert ledger.read(folder, run).metrics["V"]["ccc"] is None


@pytest.mark.parametrize("step", ["save", "metrics.jsonl", "predictions.h5", "units.npz", "result.json"])
def test_a_run_interrupted_at_any_step_is_unfinished_and_can_be_committed_again(
    tmp_path, run, step, monkeypatch
):
    replace = ledger.replace_file

    def interrupted(path, content):
        if path.name == step:
            raise KeyboardInterrupt
        replace(path, content)

    def save(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        if step == "save":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "replace_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, run, save)
    assert ledger.status(tmp_path / run.run_id) == "missing"
    assert ledger.unfinished([run], tmp_path) == [run]
    folder = write(tmp_path, run)
    assert ledger.status(folder) == "done"
    assert not list(folder.glob(".*"))


def test_a_failed_run_says_why_in_one_line_and_is_tried_again(tmp_path, run):
    folder = tmp_path / run.run_id
    ledger.commit_error(folder, run, "loss is not\nfinite", "FloatingPointError", 3, 14)
    assert json.loads((folder / "error.json").read_text()) == {
        "error": "loss is not finite",
        "type": "FloatingPointError",
        "epoch": 3,
        "step": 14,
        "run_id": run.run_id,
        "name": run.name,
        "seed": run.seed,
    }
    assert ledger.read(folder, run) == ledger.RunRecord("failed", "loss is not finite")
    assert ledger.unfinished([run], tmp_path) == [run]
    write(tmp_path, run)
    assert ledger.status(folder) == "done"
    assert not (folder / "error.json").exists()


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "predictions.h5", "units.npz"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"], ids=repr)
def test_a_damaged_file_of_a_run_is_named_with_the_remedy(tmp_path, run, name, content):
    folder = write(tmp_path, run)
    (folder / name).write_bytes(content)
    readers = {
        "result.json": lambda: ledger.unfinished([run], tmp_path),
        "metrics.jsonl": lambda: ledger.epoch_scores(folder, run),
        "predictions.h5": lambda: ledger.predicted_clips(folder),
        "units.npz": lambda: ledger.units(folder),
    }
    if (name, content) == ("metrics.jsonl", b""):
        assert ledger.epoch_scores(folder, run) == []
        return
    with pytest.raises(FacetsError, match=f"{name} .*Delete the folder {folder}"):
        readers[name]()


@pytest.mark.parametrize(
    ("key", "value"),
    [("run_id", "0"), ("seed", 7), ("tasks", ["A"]), ("metrics", {}), ("epochs", -1), ("epochs", None)],
    ids=str,
)
def test_the_result_of_another_run_or_of_impossible_values_is_refused(tmp_path, run, key, value):
    folder = write(tmp_path, run)
    (folder / "result.json").write_text(json.dumps(result(run) | {key: value}))
    with pytest.raises(FacetsError, match=r"result\.json"):
        ledger.read(folder, run)
