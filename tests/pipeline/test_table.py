"""Claims about the results table: what is read, aggregated, marked, shown as failed, and refused."""

import statistics

import numpy as np
import pytest
from fabricated_runs import (
    CHANCE,
    FRAMES,
    SEED_ROWS,
    metrics,
    plan,
    scattered,
    table_of,
    write_failure,
    write_result,
    write_stopped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scores import Column
from stores.errors import FacetsError
from temporal.metrics import track_totals

AU, V = Column("AU", "total"), Column("V", "ccc")


def headers(table):
    return [column.header for column in table.columns]


def test_rows_stand_in_the_order_of_the_plan_and_columns_in_the_seeds_order(tmp_path):
    table = table_of(tmp_path, plan())
    assert [row.name for row in table.rows] == list(SEED_ROWS)
    assert headers(table) == ["Total (AU)", "Total (EXPR)", "CCC (V)", "CCC (A)"]
    for row in table.rows:
        assert {column.task for column in row.cells} == set(row.tasks)


@pytest.mark.parametrize(
    ("name", "combined"),
    [("abaw5", ["P (VA)"]), ("abaw3", ["P (VA)", "P (MTL)"]), ("abaw7", ["P (MTL)"])],
)
def test_later_editions_are_scored_by_f1_and_a_row_with_all_tasks_of_a_track_by_the_track(
    tmp_path, name, combined
):
    runs = plan(names=("V", "V+A", "V+A+AU+EXPR+Attn"))
    table = table_of(tmp_path, runs, edition_name=name)
    assert headers(table) == ["F1 (AU)", "F1 (EXPR)", "CCC (V)", "CCC (A)", *combined]
    single, both, everything = table.rows
    expected = [
        track_totals(metrics(run.tasks, scattered(run), name), name)
        for run in runs
        if run.name == everything.name
    ]
    for column in table.columns[4:]:
        assert column not in single.cells
        assert (column in both.cells) == (column.task == "VA")
        values = [scores[column.task] for scores in expected]
        cell = everything.cells[column]
        assert (cell.mean, cell.sd) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
        assert cell.delta is None
        assert table.chance(column) == track_totals(CHANCE, name)[column.task]


def test_a_track_that_no_row_answers_or_that_is_over_other_names_has_no_column(tmp_path):
    expected = ["F1 (AU)", "F1 (EXPR)", "CCC (V)", "CCC (A)"]
    runs = plan(names=("V", "A+AU"), seeds=(0,))
    assert headers(table_of(tmp_path, runs, None, edition_name="abaw3")) == expected
    runs = plan(names=("V+A+AU+EXPR",), seeds=(0,))
    table = table_of(tmp_path, runs, None, edition_name="abaw3", aus=("AU1", "AU2"))
    assert headers(table) == [*expected, "P (VA)"]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_mean_and_sample_deviation_over_seeds_equal_numpy(tmp_path_factory, values):
    runs = plan(names=("V",), seeds=range(len(values)))
    table = table_of(tmp_path_factory.mktemp("runs"), runs, lambda run: values[run.seed])
    cell = table.rows[0].cells[V]
    assert cell.n == len(values)
    assert cell.mean == pytest.approx(np.mean(values), abs=1e-12)
    deviation = None if len(values) == 1 else pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert cell.sd == deviation


def test_exactly_the_highest_mean_of_each_column_is_best(tmp_path):
    table = table_of(tmp_path, plan())
    for column in table.columns:
        cells = [row.cells[column] for row in table.rows if column in row.cells]
        highest = max(cell.mean for cell in cells)
        assert [cell.best for cell in cells] == [cell.mean == highest for cell in cells]


def test_of_rows_that_are_all_alike_none_is_best(tmp_path):
    table = table_of(tmp_path, plan(), 0.0)
    for column in table.columns:
        cells = [row.cells[column] for row in table.rows if column in row.cells]
        assert len(cells) > 1
        assert not any(cell.best for cell in cells)


def test_failed_and_missing_runs_are_counted_and_never_dropped(tmp_path):
    runs = plan(names=("V", "A"))
    write_failure(tmp_path, runs[1])
    v, a = table_of(tmp_path, runs, lambda run: 0.5 if run is runs[0] else None).rows
    assert v.counts == {"done": 1, "failed": 1, "missing": 1}
    assert (v.cells[V].n, v.planned) == (1, 3)
    assert (a.counts, a.cells, a.epochs) == ({"missing": 3}, {}, None)


def test_epochs_are_medians_over_finished_runs(tmp_path):
    runs = plan(names=("V",))
    for run, best, trained in zip(runs, (3, 9, 5), (10, 20, 15), strict=True):
        write_result(tmp_path, run, 0.5, best_epoch=best, epochs=trained)
    assert table_of(tmp_path, runs, None).rows[0].epochs == (5, 15)


def test_runs_that_are_not_planned_are_left_out(tmp_path):
    runs = plan(names=("V", "A"))
    both, alone = table_of(tmp_path, runs), table_of(tmp_path, runs[:3])
    assert [row.name for row in alone.rows] == ["V"]
    assert alone.rows[0].cells[V] == both.rows[0].cells[V]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"run_id": "other"}', '{"metrics": {}}'],
    ids=["empty", "cut", "list", "other", "bare"],
)
def test_a_damaged_result_names_its_file_and_what_to_do(tmp_path, content):
    runs = plan(names=("V",), seeds=(0,))
    write_result(tmp_path, runs[0], 0.5)
    path = tmp_path / runs[0].run_id / "result.json"
    path.write_text(content)
    with pytest.raises(FacetsError, match="run the sweep again") as caught:
        table_of(tmp_path, runs, None)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [1.5, -0.5, "high", True])
def test_a_score_that_cannot_be_is_refused(tmp_path, value):
    with pytest.raises(FacetsError, match=r"result\.json"):
        table_of(tmp_path, plan(names=("AU",), seeds=(0,)), value)


def test_a_score_that_is_not_finite_is_a_failed_run(tmp_path):
    runs = plan(names=("V", "V+A+AU+EXPR"), seeds=(0,))
    table_of(tmp_path, runs, 0.5, edition_name="abaw3")
    write_result(tmp_path, runs[0], None)  # JSON has no NaN
    table = table_of(tmp_path, runs, None, edition_name="abaw3")
    assert [row.counts for row in table.rows] == [{"failed": 1}, {"done": 1}]
    assert "not finite" in table.runs.error[0]


def test_runs_scored_on_different_frames_do_not_share_a_column(tmp_path):
    runs = plan(names=("V",), seeds=(0, 1))
    write_result(tmp_path, runs[0], 0.5)
    write_result(tmp_path, runs[1], 0.5, metrics={"V": {"ccc": 0.5, "frames": FRAMES["V"] + 1}})
    with pytest.raises(FacetsError, match=r"1201 frames, but on 1200"):
        table_of(tmp_path, runs, None)


OWN = {
    "V lr=0.0003": {"lr": 0.0003},
    "V+AU lr=0.0003": {"lr": 0.0003},
    "V+AU loss_weights=AU:0.1": {"loss_weights": {"AU": 0.1}},
}


def test_a_row_is_compared_with_the_single_task_row_of_the_same_settings_and_seed(tmp_path):
    names = ("V", "V lr=0.0003", "V+AU", "V+AU lr=0.0003", "V+AU loss_weights=AU:0.1")
    values = dict(zip(names, (0.5, 0.3, 0.6, 0.7, 0.8), strict=True))
    table = table_of(tmp_path, plan(names, own=OWN), lambda run: values[run.name] + 0.05 * run.seed)
    deltas = {row.name: row.cells[V].delta for row in table.rows}
    assert deltas["V"] is deltas["V lr=0.0003"] is None
    assert deltas["V+AU"] == pytest.approx(0.1)
    assert deltas["V+AU lr=0.0003"] == pytest.approx(0.4)
    assert deltas["V+AU loss_weights=AU:0.1"] == pytest.approx(0.3)  # the weight of AU is nothing to V alone
    assert all(row.cells[AU].delta is None for row in table.rows if "AU" in row.tasks)  # there is no row AU


def test_a_run_tells_every_varied_setting_that_can_matter_to_it(tmp_path):
    table = table_of(tmp_path, plan(names=("V", "V+AU", *OWN), own=OWN))
    settings = table.runs.groupby("row")[["training.lr", "training.loss_weights"]].first()
    assert tuple(settings.loc["V"]) == ("0.001", "V:1")
    assert tuple(settings.loc["V+AU loss_weights=AU:0.1"]) == ("0.001", "V:1,AU:0.1")
    assert not any(name.startswith("training.") for name in table_of(tmp_path, plan()).runs)


def test_a_stopped_run_is_counted_and_never_enters_a_mean_or_a_mark(tmp_path):
    runs = plan(names=("V", "V lr=0.0003"), own=OWN, bracket="b")
    for run in runs[3:]:
        write_stopped(tmp_path, run, scores=(0.8, 0.9))
    table = table_of(tmp_path, runs, lambda run: None if run.settings else 0.2)
    kept, stopped = table.rows
    assert (stopped.counts, stopped.cells) == ({"stopped": 3}, {})
    assert table.each_run[table.each_run.status == "stopped"].epochs.tolist() == [2, 2, 2]
    assert kept.cells[V].best
    assert kept.cells[V].mean == pytest.approx(0.2)


def test_a_run_that_another_bracket_stopped_is_missing(tmp_path):
    (run,) = plan(names=("V",), seeds=(0,), bracket="b")
    write_stopped(tmp_path, run)
    assert table_of(tmp_path, plan(names=("V",), seeds=(0,)), None).rows[0].counts == {"missing": 1}


def test_a_result_may_bear_the_name_that_another_sweep_gave_the_same_run(tmp_path):
    runs = plan(names=("V",), seeds=(0,))
    write_result(tmp_path, runs[0], 0.5, name="V lr=0.001")
    assert table_of(tmp_path, runs, None).rows[0].counts == {"done": 1}
