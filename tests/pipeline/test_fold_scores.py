"""Scores of a sweep with folds: of all predictions together, per seed; mean over folds; missing folds."""

import csv
import io

import numpy as np
import pytest
from fabricated_runs import plan, table_of, write_result

from pipeline import ledger
from pipeline.report import as_markdown
from pipeline.report.html import as_html
from pipeline.report.latex import as_latex
from pipeline.report.spreadsheet import as_long_csv, as_wide_csv
from pipeline.scores import Column
from stores.editions import edition
from temporal.metrics import pooled, scores_of, unit_sums

RULES = edition("abaw2")
V, EXPR = Column("V", "ccc"), Column("EXPR", "total")
FOLDS, SEEDS, CLIPS = 3, 2, 4
RUNS = plan(("V", "V+EXPR"), range(SEEDS), folds=range(FOLDS))


def outputs(run):
    """Labels and predictions of the clips that are scored in the fold of ``run``, some of them short."""
    truth = np.random.default_rng([7, run.fold])
    offsets = np.r_[0, np.cumsum(truth.integers(3, 30 * (run.fold + 1), CLIPS))]
    labels = {"V": truth.uniform(-1, 1, offsets[-1]), "EXPR": truth.integers(0, 7, offsets[-1])}
    noise = np.random.default_rng([run.seed, run.fold, len(run.tasks)])
    predictions = {
        "V": labels["V"] + noise.normal(0, 0.5, offsets[-1]),
        "EXPR": np.eye(7)[labels["EXPR"]] + noise.uniform(0, 1.5, (offsets[-1], 7)),
    }
    return labels, {task: predictions[task] for task in run.tasks}, offsets


@pytest.fixture
def folder(tmp_path):
    for run in RUNS:
        labels, predictions, offsets = outputs(run)
        clips = [f"fold{run.fold}_{i}" for i in range(CLIPS)]
        units = unit_sums(labels, predictions, clips, offsets, RULES)
        write_result(tmp_path, run, 0.5, metrics=scores_of(pooled(units.values()), RULES))
        ledger.write_units(tmp_path / run.run_id, units)
    return tmp_path


def test_a_score_is_that_of_all_predictions_together_per_seed(folder):
    table = table_of(folder, RUNS, None)
    for row in table.rows:
        expected = []
        for seed in range(SEEDS):
            parts = [outputs(run) for run in RUNS if (run.name, run.seed) == (row.name, seed)]
            labels, predictions = (
                {task: np.concatenate([part[k][task] for part in parts]) for task in row.tasks}
                for k in (0, 1)
            )
            frames = len(labels["V"])
            whole = unit_sums(labels, predictions, ["all"], [0, frames], RULES)["all"]
            expected.append(scores_of(whole, RULES))
        for column in (V, EXPR):
            if column.task in row.tasks:
                values = [scores[column.task][column.metric] for scores in expected]
                cell = row.cells[column]
                assert cell.n == SEEDS
                assert (cell.mean, cell.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    single, joint = table.rows
    assert joint.cells[V].delta == pytest.approx(joint.cells[V].mean - single.cells[V].mean)


def test_the_mean_over_folds_is_that_of_the_runs_averaged_over_seeds(folder):
    table = table_of(folder, RUNS, None)
    value = {
        (run.name, run.fold, run.seed): ledger.read(folder / run.run_id, run).metrics["V"]["ccc"]
        for run in RUNS
    }
    for row in table.rows:
        means = [np.mean([value[row.name, fold, seed] for seed in range(SEEDS)]) for fold in range(FOLDS)]
        cell = row.folds[V]
        assert cell.n == FOLDS
        assert (cell.mean, cell.sd) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
        assert row.cells[V].mean != pytest.approx(cell.mean, abs=1e-4)


def test_every_form_has_both_and_says_which_is_which(folder):
    table = table_of(folder, RUNS, None)
    row = table.rows[0]
    both = [f"{cell.mean:.3f}" for cell in (row.cells[V], row.folds[V])]
    for form in (as_markdown, as_html, as_latex):
        text = form(table)
        assert "Mean over 3 folds" in text
        assert "did not train on" in text
        assert all(score in text for score in both)
    wide = next(csv.DictReader(io.StringIO(as_wide_csv(table))))
    assert [float(wide[f"V.ccc {part}"]) for part in ("mean", "fold mean")] == [
        row.cells[V].mean,
        row.folds[V].mean,
    ]
    long = [r for r in csv.DictReader(io.StringIO(as_long_csv(table))) if (r["row"], r["label"]) == ("V", "")]
    assert [r["fold"] for r in long] == ["0", "1", "2"] * SEEDS + ["pooled"] * SEEDS
    assert np.mean([float(r["value"]) for r in long if r["fold"] == "pooled"]) == pytest.approx(
        row.cells[V].mean
    )


def test_a_seed_with_a_missing_fold_has_no_score_and_the_fold_is_named(folder):
    lost = next(run for run in RUNS if (run.name, run.seed, run.fold) == ("V", 1, 2))
    (folder / lost.run_id / "result.json").unlink()
    table = table_of(folder, RUNS, None)
    row = table.rows[0]
    assert (row.counts, row.cells[V].n, row.folds[V].n) == ({"done": 5, "missing": 1}, 1, FOLDS)
    text = as_markdown(table)
    assert "missing (1/6)" in text
    assert "V, seed 1, fold 2." in text
