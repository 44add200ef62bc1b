"""The plan of a sweep: which runs, under which ids, in which groups."""

from dataclasses import replace

import pytest
from fabricated_runs import planned
from hypothesis import given
from hypothesis import strategies as st
from random_stores import FAST, random_work

from pipeline.config import Training
from pipeline.configfile import load
from pipeline.data import open_data
from pipeline.folds import Division
from pipeline.plan import make_plan, own_settings, planned_run, read_plan, shared_settings
from pipeline.rows import SweepRow
from pipeline.stage2.groups import alike, evenly
from pipeline.workdir import work_dir
from stores.errors import ConfigError, StoreError

ANY = planned(load("demo"))[0]


def ids(settings=(), source="demo", **data):
    return {(run.name, run.seed): run.run_id for run in planned(load(source, settings), **data)}


def test_the_demo_plans_thirty_three_runs_rows_first():
    runs = planned(load("demo"))
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
        "streams.face.device=cpu",
        "streams.face.batch_size=1",
        "streams.face.backend=zarr",
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
    ["training.lr=0.001", "training.epochs=3", "training.causal=false", "training.data_seed=1"],
)
def test_an_id_depends_on_every_setting_that_all_runs_read(setting):
    assert not set(ids([setting]).values()) & set(ids().values())


@pytest.mark.parametrize("store", ["features", "labels"])
def test_an_id_depends_on_the_data(store):
    assert not set(ids(**{store: "0" * 64}).values()) & set(ids().values())


def test_the_rows_that_two_sweeps_share_are_the_same_runs():
    demo, subsets = ids(), ids(source="subsets")
    assert set(demo) <= set(subsets)
    assert all(subsets[key] == run_id for key, run_id in demo.items())


def test_the_id_of_the_same_settings_changes_with_the_version_of_identities_alone():
    training = Training().deciding()
    row = SweepRow("V+A+Attn", ("V", "A"), True, (), training, {})
    assert planned_run(row, 7, Division(None, "", {}), "e" * 64, {"face": "f" * 64}).run_id == "ec06827c836a"


LR = "sweep={product: {tasks: [[V], [A, AU]], training: {lr: [1e-3, 1e-4], window: [64, 96]}}, seeds: [0, 1]}"


def test_a_run_is_the_same_whether_its_settings_are_shared_or_its_rows_own():
    own = planned(load("demo", ["sweep={rows: [{tasks: [V], training: {lr: 1e-4, hop: 32}}]}"]))
    shared = planned(load("demo", ["training.lr=1e-4", "training.hop=32", "sweep={rows: [{tasks: [V]}]}"]))
    assert [run.run_id for run in own] == [run.run_id for run in shared]
    assert (own[0].name, shared[0].name) == ("V lr=0.0001 hop=32", "V")


def test_a_planned_run_carries_all_its_settings_resolved():
    config = load("demo", [LR])
    for run in planned(config):
        assert run.training == config.training.deciding() | run.settings
        assert not shared_settings(run).keys() & own_settings(run).keys()
        assert shared_settings(run) | own_settings(run) == run.training


def test_groups_have_their_shared_settings_in_common_and_keep_the_order_within():
    runs = planned(load("demo", [LR]))
    made = alike(runs, 4)
    assert [len(group) for group in made] == [4, 4, 4, 4]
    for group in made:
        assert all(shared_settings(run) == shared_settings(group[0]) for run in group)
        assert [runs.index(run) for run in group] == sorted(runs.index(run) for run in group)
    assert sorted(run.run_id for group in made for run in group) == sorted(run.run_id for run in runs)


@pytest.mark.parametrize(("losses", "groups"), [("{}", 1), ("{AU: balanced}", 2)])
def test_rows_of_other_streams_are_grouped_apart_only_if_a_loss_counts_labels(losses, groups):
    settings = [f"training.losses={losses}", "streams.sound={store: sound}"]
    rows = "sweep={rows: [{tasks: [AU], streams: [face]}, {tasks: [V]}, {tasks: [A], streams: [face]}]}"
    config = load("demo", [*settings, rows])
    runs = planned(config)
    made = alike(runs, len(runs))
    assert len(made) == groups
    assert all(len({run.streams for run in group}) == 3 - groups for group in made)


@given(count=st.integers(1, 100), size=st.integers(1, 40))
def test_groups_are_few_of_like_size_and_keep_the_order(count, size):
    runs = [replace(ANY, run_id=str(i)) for i in range(count)]
    made = alike(runs, size)
    assert [run for group in made for run in group] == runs
    assert len(made) == -(-count // size)
    lengths = [len(group) for group in made]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20), size=st.integers(12, 40))
def test_a_bracket_is_never_split_between_groups(sizes, size):
    runs = [replace(ANY, run_id=f"{b}.{i}", bracket=str(b)) for b, n in enumerate(sizes) for i in range(n)]
    made = evenly(runs, size)
    assert all(0 < len(group) <= size for group in made)
    homes = {run.bracket: set() for run in runs}
    for number, group in enumerate(made):
        for run in group:
            homes[run.bracket].add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())
    assert sum(map(len, made)) == len(runs)


def test_no_runs_make_no_groups():
    assert alike([], 4) == []


AXES = "{tasks: [[V], [A, AU]], training: {lr: [1e-3, 1e-4, 1e-5], %s}}"
HALVED = f"sweep={{product: {AXES}, halving: {{min_epochs: 4%s}}}}"


def test_a_bracket_is_all_seeds_and_settings_of_a_combination_in_one_stack():
    runs = planned(load("demo", [HALVED % ("window: [64, 96]", "")]))
    brackets = {run.bracket: [r for r in runs if r.bracket == run.bracket] for run in runs}
    assert len(brackets) == 4
    for members in brackets.values():
        assert len(members) == 9
        assert len({run.tasks for run in members}) == len({run.training["window"] for run in members}) == 1
    assert not any(run.bracket for run in planned(load("demo")))


def test_halving_does_not_change_the_id_of_a_run_and_other_rules_make_other_brackets():
    with_, other = (planned(load("demo", [HALVED % ("hop: [48]", rule)])) for rule in ("", ", eta: 2"))
    without = planned(load("demo", [(HALVED % ("hop: [48]", "")).replace(", halving: {min_epochs: 4}", "")]))
    assert [run.run_id for run in with_] == [run.run_id for run in without] == [run.run_id for run in other]
    assert not {run.bracket for run in with_} & {run.bracket for run in other}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "sweep={product: {tasks: [[V]], training: {hop: [32, 48]}}, halving: {min_epochs: 4}}",
            "it halves the axes lr, weight_decay, dropout, loss_weights",
        ),
        (
            HALVED % ("epochs: [4]", ""),
            "trains 4 epochs, so no rung comes before its end: lower min_epochs, now 4",
        ),
    ],
)
def test_halving_that_would_do_nothing_is_refused(setting, told):
    with pytest.raises(ConfigError, match=told):
        planned(load("demo", [setting]))


def test_a_bracket_that_fits_in_no_group_is_refused():
    runs = planned(load("demo", [HALVED % ("hop: [48]", "")]))
    with pytest.raises(
        ConfigError, match=r"9 runs of V .* only 8 may train together: raise training.max_replicas"
    ):
        alike(runs, 8)


@pytest.fixture
def written(tmp_path):
    """A plan that was written, its path and its configuration."""
    config = load("demo", [FAST])
    place = work_dir(config, random_work(tmp_path))
    plan = make_plan(config, open_data(place))
    plan.write(place.plan)
    return plan, place.plan, config


def test_a_plan_reads_as_it_was_written_and_is_not_written_again(written):
    plan, path, config = written
    assert read_plan(path, config) == plan
    at = path.stat().st_mtime_ns
    plan.write(path)
    assert path.stat().st_mtime_ns == at


def test_an_earlier_plan_of_the_same_labels_saves_reading_them(written, monkeypatch):
    plan, path, config = written
    data = open_data(work_dir(config, path.parent))
    monkeypatch.setattr(type(data.labels), "read", None)
    assert make_plan(config, data, plan) == plan
    with pytest.raises(TypeError):
        make_plan(config, data)


@pytest.mark.parametrize(
    ("setting", "section"),
    [
        ("training.lr=0.1", "training"),
        ("sweep.seeds=[7]", "sweep"),
        ("streams.face.image_size=64", "streams"),
        ("corpus.expressions=[Neutral]", "corpus"),
    ],
)
def test_a_plan_of_other_settings_is_refused_by_section_and_left_alone(written, setting, section):
    plan, path, config = written
    with pytest.raises(ConfigError, match=f"plan.json .* {section}: run facets sweep"):
        read_plan(path, load("demo", [FAST, setting]))
    assert read_plan(path, config) == plan


@pytest.mark.parametrize("setting", ["training.device=cpu", "training.max_replicas=3", "table.rules=ignore"])
def test_settings_that_decide_no_plan_may_differ(written, setting):
    plan, path, _ = written
    assert read_plan(path, load("demo", [FAST, setting])) == plan


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": "facets-plan", "version": 0}'], ids=str)
def test_no_plan_or_a_damaged_one_says_to_run_the_sweep(written, content):
    _, path, config = written
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(StoreError, match=r"plan\.json.*run facets sweep"):
        read_plan(path, config)
