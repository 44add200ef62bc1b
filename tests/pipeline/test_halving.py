"""Successive halving: who goes on, that decisions are pure, and that a survivor is not touched by it."""

import json
import shutil
from dataclasses import replace

import pytest
from fabricated_runs import planned, write_result
from hypothesis import given
from hypothesis import strategies as st
from random_stores import FAST, random_work

from pipeline import ledger
from pipeline.config import Halving
from pipeline.configfile import load
from pipeline.plan import read_plan
from pipeline.stage2.driver import run_sweep
from pipeline.stage2.halving import losers, rungs, stop_rule, survivors
from pipeline.workdir import work_dir
from stores.errors import FacetsError
from stores.progress import silent

SWEEP = "sweep={product: {tasks: [[V]], training: {lr: %s}}, seeds: %s, halving: {eta: 3, min_epochs: 2}}"


def bracket(settings=9, seeds=(0,), epochs=20):
    rates = [round(1e-3 * (i + 1), 6) for i in range(settings)]
    return planned(load("demo", [SWEEP % (rates, list(seeds)), f"training.epochs={epochs}"]))


HALVING = Halving(eta=3, min_epochs=2)


@given(
    settings=st.integers(2, 60), eta=st.integers(2, 5), first=st.integers(1, 9), epochs=st.integers(2, 100)
)
def test_at_every_rung_one_of_eta_goes_on_and_at_least_one_to_the_end(settings, eta, first, epochs):
    halving = Halving(eta=eta, min_epochs=first)
    at = rungs(halving, epochs)
    assert at == [first * eta**k for k in range(len(at))]
    assert all(rung < epochs for rung in at)
    assert not at or at[-1] * eta >= epochs
    assert survivors(halving, settings, epochs) == [
        max(1, settings // eta ** (k + 1)) for k in range(len(at))
    ]


def test_the_best_third_goes_on_at_each_rung():
    runs = bracket()
    scores = {run.run_id: [0.1 * i] * 2 for i, run in enumerate(runs)}
    assert losers(runs, HALVING, 2, scores) == {run.run_id for run in runs[:6]}
    scores |= {run.run_id: [0.1 * i] * 2 + [0.9 - 0.1 * i] * 4 for i, run in enumerate(runs) if i >= 6}
    assert losers(runs, HALVING, 6, scores) == {run.run_id for run in runs[6:8]}  # 0.6, 0.7, 0.8 so far
    assert losers(runs, HALVING, 18, scores) == set()


def test_a_setting_goes_on_with_all_its_seeds_by_their_mean():
    runs = bracket(3, seeds=(0, 1))
    means = {runs[0].name: (0.9, 0.1), runs[2].name: (0.5, 0.6), runs[4].name: (0.5, 0.5)}
    scores = {run.run_id: [means[run.name][run.seed]] * 2 for run in runs}
    assert losers(runs, HALVING, 2, scores) == {run.run_id for run in runs if run.name != runs[2].name}


def test_the_best_score_so_far_counts_and_a_later_one_does_not():
    runs = bracket(2)
    scores = {runs[0].run_id: [0.9, 0.1], runs[1].run_id: [0.5, 0.5, 1.0]}
    assert losers(runs, HALVING, 2, scores) == {runs[1].run_id}


@pytest.mark.parametrize("scores", [(), (float("nan"),) * 2], ids=["failed", "nan"])
def test_a_run_without_a_score_ranks_last(scores):
    runs = bracket(3)
    known = {run.run_id: [-0.5, -0.5] for run in runs} | {runs[0].run_id: scores}
    assert runs[0].run_id in losers(runs, HALVING, 2, known)
    assert runs[1].run_id not in losers(runs, HALVING, 2, known)


def test_of_equals_the_first_of_the_plan_goes_on():
    runs = bracket(4)
    assert losers(runs, HALVING, 2, {run.run_id: [0.5, 0.5] for run in runs}) == {
        run.run_id for run in runs[1:]
    }


def test_the_rule_stops_nobody_between_rungs_and_only_runs_that_train(tmp_path):
    runs = bracket(3)
    rule = stop_rule(runs, HALVING, tmp_path)
    scores = {run.run_id: [0.1 * i, 0.1 * i] for i, run in enumerate(runs)}
    assert rule(1, {run_id: values[:1] for run_id, values in scores.items()}) == set()
    assert rule(2, scores) == {run.run_id for run in runs[:2]}


@pytest.fixture
def trained(tmp_path):
    def trained(run, scores):
        write_result(tmp_path, run, 0.5)
        lines = "".join(json.dumps({"score": s}) + "\n" for s in scores)
        (tmp_path / run.run_id / "metrics.jsonl").write_text(lines)

    return trained


def test_an_interrupted_bracket_decides_as_if_it_had_not_been_interrupted(tmp_path, trained):
    runs = bracket(4)
    scores = {run.run_id: [0.1 * i, 0.2 * i] for i, run in enumerate(runs)}
    whole = stop_rule(runs, HALVING, tmp_path)(2, scores)
    trained(runs[3], [*scores[runs[3].run_id], 0.9])
    ledger.commit_stopped(tmp_path / runs[0].run_id, runs[0], scores[runs[0].run_id], 2)
    ledger.commit_error(tmp_path / runs[1].run_id, runs[1], "loss not finite", "RuntimeError")
    rest = {runs[2].run_id: scores[runs[2].run_id]}
    assert stop_rule(runs, HALVING, tmp_path)(2, rest) == whole & set(rest) == set(rest)


def test_a_run_of_the_bracket_that_nobody_trained_is_an_error(tmp_path):
    runs = bracket(3)
    with pytest.raises(FacetsError, match="train its bracket in one group"):
        stop_rule(runs, HALVING, tmp_path)(2, {runs[0].run_id: [0.1, 0.1]})


def test_a_stopped_run_is_settled_for_its_own_bracket_alone(tmp_path):
    run = bracket(3)[0]
    folder = tmp_path / run.run_id
    ledger.commit_error(folder, run, "broken", "RuntimeError")
    ledger.commit_stopped(folder, run, [0.1, 0.2], 2)
    assert ledger.status(folder, run.bracket) == "stopped"
    assert ledger.unfinished([run], tmp_path) == []
    for other in (replace(run, bracket=""), replace(run, bracket="another")):
        assert ledger.status(folder, other.bracket) == "missing"
        assert ledger.unfinished([other], tmp_path) == [other]
    ledger.commit_error(folder, run, "broken again", "RuntimeError")
    assert ledger.status(folder, run.bracket) == "failed"


RATES = "sweep={product: {tasks: [[V], [A, AU]], training: {lr: [1e-5, 1e-4, 1e-3, 1e-2]}}, seeds: [0, 1]%s}"
HALVED = RATES % ", halving: {eta: 2, min_epochs: 1}"


@pytest.fixture
def sweep(tmp_path):
    """Sweeps random stores; returns the planned runs by state."""
    random_work(tmp_path)

    def sweep(setting, progress=silent):
        config = load("demo", [FAST, "training.patience=0", setting])
        place = work_dir(config, tmp_path)
        assert run_sweep(config, place, progress) == {}
        states = {"done": [], "stopped": [], "missing": []}
        for run in read_plan(place.plan, config).runs:
            states[ledger.status(place.runs / run.run_id, run.bracket)].append(run)
        return states

    return sweep


def bytes_of(folder):
    """Every file of the runs but what tells time."""
    found = {}
    for path in sorted(folder.rglob("*.*")):
        content = path.read_bytes()
        if path.name == "result.json":
            content = {key: value for key, value in json.loads(content).items() if key != "seconds"}
        found[path.relative_to(folder)] = content
    return found


def test_a_halved_sweep_finishes_one_setting_of_each_combination_with_all_its_seeds(sweep, tmp_path):
    states = sweep(HALVED)
    assert (len(states["done"]), len(states["stopped"])) == (4, 12)
    for tasks in (("V",), ("A", "AU")):
        kept = [run for run in states["done"] if run.tasks == tasks]
        assert len(kept) == 2
        assert len({run.name for run in kept}) == 1
    epochs = {
        len(json.loads((tmp_path / "runs" / r.run_id / "stopped.json").read_bytes())["scores"])
        for r in states["stopped"]
    }
    assert epochs == {1, 2}
    before = bytes_of(tmp_path / "runs")
    sweep(HALVED)
    assert bytes_of(tmp_path / "runs") == before


def test_a_survivor_has_the_result_that_it_has_in_the_full_sweep(sweep, tmp_path):
    results = [tmp_path / "runs" / run.run_id / "result.json" for run in sweep(HALVED)["done"]]
    halved = [json.loads(path.read_bytes()) for path in results]
    for path in results:
        path.unlink()
    assert len(sweep(RATES % "")["done"]) == 16
    assert not list((tmp_path / "runs").rglob("stopped.json"))
    for path, before in zip(results, halved, strict=True):
        full = json.loads(path.read_bytes())
        assert full["score"] == pytest.approx(before["score"], abs=1e-4)
        assert (full["best_epoch"], full["epochs"]) == (before["best_epoch"], before["epochs"])


def test_a_halved_sweep_that_is_interrupted_keeps_the_same_settings(sweep, tmp_path):
    names = {run.name for run in sweep(HALVED)["done"]}
    shutil.rmtree(tmp_path / "runs")
    seen = []

    def interrupt(step, total, completed):
        seen.append(completed)
        if len(seen) == 2:  # after the second rung
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(HALVED, interrupt)
    assert list((tmp_path / "runs").rglob("stopped.json"))
    assert {run.name for run in sweep(HALVED)["done"]} == names
