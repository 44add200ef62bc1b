"""The plan of a sweep: which runs, under which ids, in which groups."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Row
from pipeline.configfile import load
from pipeline.plan import groups, plan, planned_run, row_name

DATA = {"features": "f" * 64, "labels": "e" * 64}


def ids(settings=(), data=DATA, source="demo"):
    return {(run.name, run.seed): run.run_id for run in plan(load(source, settings), data)}


def test_the_demo_plans_thirty_three_runs_rows_first():
    runs = plan(load("demo"), DATA)
    assert len(runs) == 33
    assert [(run.name, run.seed) for run in runs[:4]] == [("V", 0), ("V", 1), ("V", 2), ("A", 0)]


def test_ids_are_twelve_hex_digits_and_differ_between_runs():
    found = list(ids(source="subsets").values())
    assert len(found) == len(set(found)) == 78
    assert all(len(run_id) == 12 and set(run_id) <= set("0123456789abcdef") for run_id in found)


@pytest.mark.parametrize(
    "setting",
    [
        "training.device=cpu",
        "training.max_replicas=1",
        "features.device=cpu",
        "features.batch_size=1",
        "features.backend=zarr",
        "table.formats=[md]",
        "name=other",
        "sweep.rows=[{tasks: [V]}]",
        "sweep.seeds=[0]",
        "training.lr=0.002",
    ],
)
def test_an_id_does_not_depend_on_what_cannot_change_the_result(setting):
    assert ids([setting])["V", 0] == ids()["V", 0]


@pytest.mark.parametrize(
    "setting",
    ["training.lr=0.001", "training.epochs=3", "training.causal=false", "training.loss_weights={V: 2}"],
)
def test_an_id_depends_on_every_setting_of_the_training(setting):
    assert not set(ids([setting]).values()) & set(ids().values())


@pytest.mark.parametrize("store", ["features", "labels"])
def test_an_id_depends_on_the_data(store):
    assert not set(ids(data=DATA | {store: "0" * 64}).values()) & set(ids().values())


def test_the_rows_that_two_sweeps_share_are_the_same_runs():
    demo, subsets = ids(), ids(source="subsets")
    assert set(demo) <= set(subsets)
    assert all(subsets[key] == run_id for key, run_id in demo.items())


def test_the_id_of_the_same_settings_never_changes():
    run = planned_run(Row(tasks=("A", "V"), attention=True), 7, {"lr": 1e-3, "causal": True}, DATA)
    assert run.run_id == "9f6e1509a39a"


def test_rows_are_named_as_the_temporal_stage_names_combinations():
    from temporal import combination_name

    for row in load("subsets").sweep.all_rows():
        assert row_name(row) == combination_name(row.tasks, attention=row.attention)


@given(count=st.integers(0, 100), size=st.integers(1, 40))
def test_groups_are_few_of_like_size_and_keep_the_order(count, size):
    made = groups(range(count), size)
    assert [run for group in made for run in group] == list(range(count))
    assert len(made) == -(-count // size)
    lengths = [len(group) for group in made]
    assert max(lengths, default=0) <= size
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
