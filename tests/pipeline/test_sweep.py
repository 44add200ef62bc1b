"""Sweeps in one process and on workers: the same results, failures told apart, nothing done twice."""

import importlib.metadata
import json
import logging
import platform
import shutil
from contextlib import contextmanager
from dataclasses import replace

import fabricated_experiment
import pytest
import torch
from click.testing import CliRunner

from pipeline import ledger
from pipeline.cli import facets
from pipeline.cluster import Cluster
from pipeline.commands.options import DONE, PARTLY
from pipeline.configfile import load
from pipeline.data import open_data
from pipeline.plan import make_plan, read_plan
from pipeline.stage1.axes import make_reduced
from pipeline.stage2 import driver
from pipeline.stage2.groups import Group
from pipeline.workdir import work_dir
from stores.errors import ConfigError, StoreError
from temporal.train.fused import Stack

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("threads_of_a_worker"),
]


@pytest.fixture(scope="module")
def stores_only(tmp_path_factory):
    work = tmp_path_factory.mktemp("stores")
    fabricated_experiment.write_stores(work)
    return work


@pytest.fixture
def work(tmp_path, stores_only):
    shutil.copytree(stores_only, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def alone(tmp_path_factory, stores_only):
    """The results of an uninterrupted sweep in one process."""
    work = tmp_path_factory.mktemp("alone") / "work"
    shutil.copytree(stores_only, work)
    assert train(work).return_value == DONE
    return results(work)


def experiment(work, **training):
    config = load(str(fabricated_experiment.write_config(work.parent, work, **training)))
    return config, work_dir(config, work)


def train(work, *options, **training):
    config = fabricated_experiment.write_config(work.parent, work, **training)
    return CliRunner().invoke(
        facets, ["sweep", "-c", str(config), "--work", str(work), *options], standalone_mode=False
    )


def results(work):
    """All files of all runs; of ``result.json`` all but the time that the run took."""
    content = {}
    for path in sorted((work / "runs").rglob("*")):
        if path.is_file():
            content[str(path.relative_to(work))] = (
                path.read_bytes() if path.name != "result.json" else timeless(path)
            )
    return content


def timeless(path):
    result = json.loads(path.read_text())
    assert result.pop("seconds") > 0
    return result


def test_a_sweep_leaves_results_and_nothing_else(alone):
    files = {name.split("/", 2)[2] for name in alone}
    assert files == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "predictions.h5",
        "result.json",
        "units.npz",
    }
    assert len(alone) == 8 * 6


def test_a_result_says_what_computed_it(alone):
    for name, result in alone.items():
        if name.endswith("result.json"):
            assert result["device"] == "cpu"
            assert result["device_name"] == result["cpu"] != ""
            assert result["threads"] == torch.get_num_threads()
            assert result["replicas"] == 4
            assert result["versions"] == {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in ("facets", "torch", "numpy")},
            }


@pytest.mark.parametrize("stop", [5, 45, 70])
def test_a_sweep_stopped_anywhere_goes_on_to_the_same_bytes_and_writes_no_result_twice(
    work, alone, monkeypatch, stop
):
    monkeypatch.setattr("temporal.train.resume.SHARE", float("inf"))
    config, place = experiment(work)

    def progress(step, total, completed):
        if completed >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run_sweep(config, place, progress)
    before = {p: p.stat().st_mtime_ns for p in place.runs.glob("[!.]*/*")}
    assert len(list(place.runs.glob("*/result.json"))) < 8
    assert list(place.runs.glob(".groups/*/*.json"))
    assert driver.run_sweep(config, place) == {}
    assert results(work) == alone
    assert before.items() <= {p: p.stat().st_mtime_ns for p in place.runs.glob("[!.]*/*")}.items()


def test_a_run_whose_result_was_removed_after_it_left_its_group_is_trained_again(work, monkeypatch):
    monkeypatch.setattr("temporal.train.resume.SHARE", float("inf"))
    config, place = experiment(work, max_replicas=8)

    def progress(step, total, completed):
        if completed >= 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run_sweep(config, place, progress)
    (finished, *_) = place.runs.glob("*/result.json")
    finished.unlink()
    assert driver.run_sweep(config, place) == {}
    assert json.loads(finished.read_text())["replicas"] == 1
    assert len(list(place.runs.glob("*/result.json"))) == 8


def test_a_group_that_raises_is_recorded_the_others_go_on_and_the_next_sweep_goes_on_from_its_state(
    work, alone, monkeypatch, caplog
):
    monkeypatch.setattr("temporal.train.resume.SHARE", float("inf"))
    step, calls = Stack.step, iter(range(10))

    def lost(self, *arguments):
        if next(calls, None) == 9:
            message = "CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"
            raise torch.AcceleratorError(message)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", lost)
        assert train(work).return_value == PARTLY
    errors = [json.loads(path.read_text()) for path in work.glob("runs/*/error.json")]
    assert {error["type"] for error in errors} == {"AcceleratorError"}
    assert {error["error"] for error in errors} == {
        "CUDA error: unspecified launch failure Compile with TORCH_USE_CUDA_DSA;"
        " in epoch 4 of 12, 4 runs together"
    }
    assert len(errors) == 4
    assert len(list(work.glob("runs/*/result.json"))) == 4
    caplog.set_level(logging.INFO)
    assert train(work).return_value == DONE
    assert "going on after epoch 3 with 4 runs" in caplog.text
    assert results(work) == alone


def test_a_run_that_diverges_says_where_and_is_tried_again(work):
    for _ in range(2):
        assert train(work, lr=1e38, clip_norm=0.0).return_value == PARTLY
        errors = [json.loads(path.read_text()) for path in work.glob("runs/*/error.json")]
        assert len(errors) == 8
        assert {(e["type"], e["epoch"], e["step"]) for e in errors} == {("FloatingPointError", 1, 2)}
        assert not list(work.glob("runs/.groups"))


def test_one_run_is_trained_alone(work, alone):
    ids = sorted({name.split("/")[1] for name in alone})
    assert train(work, "--only", ids[3], "--only", ids[5]).return_value == DONE
    assert sorted(path.parent.name for path in work.glob("runs/*/result.json")) == [ids[3], ids[5]]
    assert isinstance(train(work, "--only", "abcdef012345").exception, ConfigError)


def test_a_worker_refuses_data_that_are_not_those_of_the_driver(work):
    config, place = experiment(work)
    plan = replace(make_plan(config, open_data(place)), labels="0" * 64)
    with pytest.raises(StoreError, match="hold other clips on this worker"):
        driver.train_task(Group(plan.runs[:1], {}, place.runs), driver.Work(config, place, plan))


def test_runs_on_which_workers_die_fail_with_that_reason(work, monkeypatch):
    class Client:
        def nthreads(self):
            return {}

        def run(self, *_, **__):
            pass

    @contextmanager
    def connected(*_):
        yield Client()

    monkeypatch.setattr(driver, "connected", connected)
    monkeypatch.setattr(
        driver, "run_tasks", lambda client, tasks, function, end, parts: [end(task, None) for task in tasks]
    )
    failures = driver.run_sweep(*experiment(work), cluster=Cluster(workers=2))
    assert len(failures) == 8
    assert set(failures.values()) == {driver.DEADLY}
    assert len(list(work.glob("runs/*/error.json"))) == 8


def test_workers_of_a_running_scheduler_give_the_bytes_of_one_process(work, alone, running):
    assert train(work, "--scheduler", running.scheduler_address).return_value == DONE
    assert results(work) == alone


def test_the_runs_of_all_folds_train_in_one_sweep_and_score_every_clip_once(work, tmp_path):
    clips = [clip for part in fabricated_experiment.CLIPS.values() for clip in part]
    folds = tmp_path / "folds.csv"
    folds.write_text("clip,fold\n" + "".join(f"{clip},{i % 2}\n" for i, clip in enumerate(clips)))
    path = fabricated_experiment.write_config(tmp_path, work, epochs=2)
    settings = [f"sweep.folds={{file: {folds}}}", "sweep.seeds=[0]", "sweep.rows=[{tasks: [V]}]"]
    config = load(path, settings)
    place = work_dir(config, work)
    assert driver.run_sweep(config, place) == {}
    plan = read_plan(place.plan, config)
    assert [(run.seed, run.fold) for run in plan.runs] == [(0, 0), (0, 1)]
    scored = [set(ledger.units(place.runs / run.run_id)) for run in plan.runs]
    assert scored == [set(clips[0::2]), set(clips[1::2])]
    assert plan.provenance.clips == len(clips)
    official = load(path, settings[1:])
    assert driver.run_sweep(official, place) == {}
    assert not {run.run_id for run in read_plan(place.plan, official).runs} & {r.run_id for r in plan.runs}


@pytest.mark.parametrize("workers", [None, 1])
def test_the_runs_of_every_reduction_and_fold_read_what_stage_1_has_made(work, tmp_path, workers):
    clips = [clip for part in fabricated_experiment.CLIPS.values() for clip in part]
    folds = tmp_path / "folds.csv"
    folds.write_text("clip,fold\n" + "".join(f"{clip},{i % 2}\n" for i, clip in enumerate(clips)))
    axis = "sweep={product: {tasks: [[V]], training: {pca: [0, 2, 3]}}, seeds: [0]}"
    path = fabricated_experiment.write_config(tmp_path, work, epochs=2)
    config = load(path, [axis, f"sweep.folds={{file: {folds}}}"])
    place, cluster = work_dir(config, work), workers and Cluster(workers=workers)
    with pytest.raises(StoreError, match=r"not reduced by pca: 2.*run facets features"):
        driver.run_sweep(config, place, cluster=cluster)
    assert not list(place.runs.glob("*/result.json"))
    make_reduced(config, place, open_data(place))
    made = {path: path.stat().st_mtime_ns for path in place.reductions.rglob("*")}
    assert [len(list(place.reductions.glob(f"*.{kind}-*"))) for kind in ("axes", "pca2", "pca3")] == [2] * 3
    assert driver.run_sweep(config, place, cluster=cluster) == {}
    assert len(list(place.runs.glob("*/result.json"))) == 6
    make_reduced(config, place, open_data(place))
    assert {path: path.stat().st_mtime_ns for path in place.reductions.rglob("*")} == made
