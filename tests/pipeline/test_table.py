"""Claims about the results table: what is aggregated, marked, shown as failed, and refused."""

import statistics

import numpy as np
import pytest
from fabricated_runs import (
    FRAMES,
    SEED_ROWS,
    metrics,
    plan,
    provenance,
    scattered,
    write_failure,
    write_result,
    write_stopped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.scores import Column
from pipeline.report.table import build_table
from stores.errors import ConfigError, FacetsError
from temporal.metrics import track_totals

AU, EXPR = Column("AU", "total"), Column("EXPR", "total")
V, A = Column("V", "ccc"), Column("A", "ccc")


def full(runs_dir, runs):
    for run in runs:
        write_result(runs_dir, run, scattered(run))
    return build_table(runs_dir, runs, provenance())


def test_rows_stand_in_the_order_of_the_plan_and_columns_in_the_seeds_order(tmp_path):
    table = full(tmp_path, plan())
    assert [row.name for row in table.rows] == list(SEED_ROWS)
    assert [column.header for column in table.columns] == ["Total (AU)", "Total (EXPR)", "CCC (V)", "CCC (A)"]


def test_later_editions_are_scored_by_f1(tmp_path):
    runs = plan(names=("AU", "EXPR"), seeds=(0,))
    for run in runs:
        write_result(tmp_path, run, 0.5, edition_name="abaw5")
    table = build_table(tmp_path, runs, provenance(edition="abaw5"))
    assert [column.header for column in table.columns] == ["F1 (AU)", "F1 (EXPR)", "CCC (V)", "CCC (A)"]


@pytest.mark.parametrize(
    ("name", "combined"), [("abaw2", ["P (VA)"]), ("abaw3", ["P (VA)", "P (MTL)"]), ("abaw7", ["P (MTL)"])]
)
def test_a_row_with_all_tasks_of_a_track_has_the_score_of_the_track(tmp_path, name, combined):
    runs = plan(names=("V", "V+A", "V+A+AU+EXPR+Attn"))
    for run in runs:
        write_result(tmp_path, run, scattered(run), edition_name=name)
    table = build_table(tmp_path, runs, provenance(edition=name))
    assert [column.header for column in table.columns[4:]] == combined
    values = {
        (row.name, run.seed): track_totals(metrics(row.tasks, scattered(planned), name), name)
        for row in table.rows
        for run, planned in zip(row.runs, [p for p in runs if p.name == row.name], strict=True)
    }
    for column in table.columns[4:]:
        single, both, everything = table.rows
        assert column not in single.cells
        assert (column in both.cells) == (column.task == "VA")
        expected = [values[everything.name, seed][column.task] for seed in range(3)]
        assert everything.cells[column].mean == pytest.approx(statistics.mean(expected), abs=1e-12)
        assert everything.cells[column].sd == pytest.approx(statistics.stdev(expected), abs=1e-12)
        assert everything.cells[column].delta is None
        assert table.chance(column) == track_totals(provenance().chance, name)[column.task]


def test_a_track_that_no_row_answers_or_that_is_over_other_names_has_no_column(tmp_path):
    headers = ["F1 (AU)", "F1 (EXPR)", "CCC (V)", "CCC (A)"]
    runs = plan(names=("V", "A+AU"), seeds=(0,))
    table = build_table(tmp_path, runs, provenance(edition="abaw3"))
    assert [column.header for column in table.columns] == headers
    runs = plan(names=("V+A+AU+EXPR",), seeds=(0,))
    table = build_table(tmp_path, runs, provenance(edition="abaw3", aus=("AU1", "AU2")))
    assert [column.header for column in table.columns] == [*headers, "P (VA)"]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_mean_and_sample_deviation_over_seeds_equal_numpy(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("runs")
    runs = plan(names=("V",), seeds=range(len(values)))
    for run, value in zip(runs, values, strict=True):
        write_result(folder, run, value)
    cell = build_table(folder, runs, provenance()).rows[0].cells[V]
    assert cell.n == len(values)
    assert cell.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert (
        cell.sd is None if len(values) == 1 else cell.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    )


def test_exactly_the_highest_mean_of_each_column_is_best(tmp_path):
    table = full(tmp_path, plan())
    for column in table.columns:
        cells = [row.cells[column] for row in table.rows if column in row.cells]
        highest = max(cell.mean for cell in cells)
        assert [cell.best for cell in cells] == [cell.mean == highest for cell in cells]


def test_of_rows_that_are_all_alike_none_is_best(tmp_path):
    runs = plan()
    for run in runs:
        write_result(tmp_path, run, 0.0)
    table = build_table(tmp_path, runs, provenance())
    shared = [column for column in table.columns if sum(column in row.cells for row in table.rows) > 1]
    assert shared
    assert not any(row.cells[column].best for column in shared for row in table.rows if column in row.cells)


def test_a_row_has_cells_for_the_tasks_it_trains_and_no_others(tmp_path):
    for row in full(tmp_path, plan()).rows:
        assert {column.task for column in row.cells} == set(row.tasks)


def test_delta_is_the_mean_paired_difference_to_the_single_task_row(tmp_path):
    runs = plan(names=("V", "V+AU+Attn"))
    for run in runs:
        write_result(tmp_path, run, 0.5 + 0.1 * run.seed + (0.05 if run.attention else 0.0))
    single, joint = build_table(tmp_path, runs, provenance()).rows
    assert single.cells[V].delta is None
    assert joint.cells[V].delta == pytest.approx(0.05)


def test_failed_and_missing_runs_are_counted_and_never_dropped(tmp_path):
    runs = plan(names=("V", "A"))
    write_result(tmp_path, runs[0], 0.5)
    write_failure(tmp_path, runs[1])
    table = build_table(tmp_path, runs, provenance())
    v, a = table.rows
    assert (v.count("done"), v.count("failed"), v.count("missing")) == (1, 1, 1)
    assert v.cells[V].n == 1
    assert a.count("missing") == 3
    assert a.cells == {}
    assert a.epochs is None


def test_epochs_are_medians_over_finished_runs(tmp_path):
    runs = plan(names=("V",))
    for run, best, trained in zip(runs, (3, 9, 5), (10, 20, 15), strict=True):
        write_result(tmp_path, run, 0.5, best_epoch=best, epochs=trained)
    assert build_table(tmp_path, runs, provenance()).rows[0].epochs == (
        statistics.median([3, 9, 5]),
        statistics.median([10, 20, 15]),
    )


def test_runs_that_are_not_planned_are_left_out(tmp_path):
    runs = plan(names=("V", "A"))
    both = full(tmp_path, runs)
    alone = build_table(tmp_path, runs[:3], provenance())
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
    with pytest.raises(FacetsError) as caught:
        build_table(tmp_path, runs, provenance())
    assert str(path) in str(caught.value)
    assert "run the sweep again" in str(caught.value)


@pytest.mark.parametrize("value", [1.5, -0.5])
def test_a_score_out_of_its_range_is_refused(tmp_path, value):
    runs = plan(names=("AU",), seeds=(0,))
    write_result(tmp_path, runs[0], value)
    with pytest.raises(FacetsError, match=r"result\.json"):
        build_table(tmp_path, runs, provenance())


def test_runs_scored_on_different_frames_do_not_share_a_column(tmp_path):
    runs = plan(names=("V",), seeds=(0, 1))
    write_result(tmp_path, runs[0], 0.5)
    changed = write_result(tmp_path, runs[1], 0.5)["metrics"] | {"V": {"ccc": 0.5, "frames": FRAMES["V"] + 1}}
    write_result(tmp_path, runs[1], 0.5, metrics=changed)
    with pytest.raises(FacetsError, match="frames"):
        build_table(tmp_path, runs, provenance())


def test_an_empty_plan_and_a_metric_without_chance_level_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="plans no runs"):
        build_table(tmp_path, [], provenance())
    with pytest.raises(ConfigError, match="chance level"):
        build_table(tmp_path, plan(names=("AU",)), provenance(chance={"V": {"ccc": 0.0}}))


OWN = {
    "V lr=0.0003": {"lr": 0.0003},
    "V+AU lr=0.0003": {"lr": 0.0003},
    "V+AU loss_weights=AU:0.1": {"loss_weights": {"AU": 0.1}},
}


def test_a_row_is_compared_with_the_single_task_row_of_the_same_settings(tmp_path):
    names = ("V", "V lr=0.0003", "V+AU", "V+AU lr=0.0003", "V+AU loss_weights=AU:0.1")
    runs = plan(names=names, own=OWN)
    values = dict(zip(names, (0.5, 0.3, 0.6, 0.7, 0.8), strict=True))
    for run in runs:
        write_result(tmp_path, run, values[run.name])
    table = build_table(tmp_path, runs, provenance())
    deltas = {row.name: row.cells[V].delta for row in table.rows}
    assert deltas["V"] is deltas["V lr=0.0003"] is None
    assert deltas["V+AU"] == pytest.approx(0.1)
    assert deltas["V+AU lr=0.0003"] == pytest.approx(0.4)
    assert deltas["V+AU loss_weights=AU:0.1"] == pytest.approx(0.3)  # what AU weighs is nothing to V alone
    assert all(row.cells[AU].delta is None for row in table.rows if "AU" in row.tasks)  # there is no row AU


def test_a_row_tells_every_varied_setting_that_can_matter_to_it(tmp_path):
    table = full(tmp_path, plan(names=("V", "V+AU", *OWN), own=OWN))
    settings = {row.name: dict(row.settings) for row in table.rows}
    assert settings["V"] == {"lr": "0.001", "loss_weights": "V:1"}
    assert settings["V+AU loss_weights=AU:0.1"] == {"lr": "0.001", "loss_weights": "V:1,AU:0.1"}
    assert full(tmp_path, plan()).rows[0].settings == {}


def test_a_stopped_run_is_counted_and_never_enters_a_mean_or_a_mark(tmp_path):
    runs = plan(names=("V", "V lr=0.0003"), own=OWN, bracket="b")
    for run in runs[:3]:
        write_result(tmp_path, run, 0.2)
    for run in runs[3:]:
        write_stopped(tmp_path, run, scores=(0.8, 0.9))
    kept, stopped = build_table(tmp_path, runs, provenance()).rows
    assert stopped.count("stopped") == 3
    assert stopped.cells == {}
    assert [run.epochs for run in stopped.runs] == [2, 2, 2]
    assert kept.cells[V].best
    assert kept.cells[V].mean == pytest.approx(0.2)


def test_a_run_that_another_bracket_stopped_is_missing(tmp_path):
    (run,) = plan(names=("V",), seeds=(0,), bracket="b")
    write_stopped(tmp_path, run)
    (elsewhere,) = plan(names=("V",), seeds=(0,))
    assert build_table(tmp_path, [elsewhere], provenance()).rows[0].count("missing") == 1


def test_a_result_may_bear_the_name_that_another_sweep_gave_the_same_run(tmp_path):
    runs = plan(names=("V",), seeds=(0,))
    write_result(tmp_path, runs[0], 0.5, name="V lr=0.001")
    assert build_table(tmp_path, runs, provenance()).rows[0].count("done") == 1
