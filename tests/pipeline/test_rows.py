"""The rows of a sweep: how settings are resolved and named, and which runs are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import TASKS, Row, Training
from pipeline.configfile import load
from pipeline.rows import relevant, resolve, sweep_rows, text_of
from stores.errors import ConfigError

SHARED = Training()


def row(tasks, attention=False, shared=SHARED, **own):
    return resolve(Row(tasks=tasks, attention=attention, training=own), shared, "here", ["face"])


def names(*settings):
    return [found.name for found in sweep_rows(load("demo", settings))]


def test_a_name_is_the_combination_alone_where_nothing_differs():
    assert row(("AU", "A")).name == "A+AU"
    assert row(("AU", "A"), True, lr=1e-3, loss_weights={"AU": 1, "EXPR": 3}).name == "A+AU+Attn"


def test_a_name_tells_what_differs_in_the_order_of_the_configuration():
    assert (
        row(("A", "AU"), True, loss_weights={"AU": 0.1}, lr=3e-4).name
        == "A+AU+Attn lr=0.0003 loss_weights=AU:0.1"
    )
    assert row(("A",), causal=False, epochs=5).name == "A epochs=5 causal=false"


def test_rows_are_named_as_the_temporal_stage_names_combinations():
    from temporal import combination_name

    for found in sweep_rows(load("subsets")):
        assert found.name == combination_name(found.tasks, attention=found.attention)


def test_a_name_tells_a_weight_that_is_taken_back_to_one():
    shared = Training(loss_weights={"AU": 0.1})
    assert row(("A", "AU"), shared=shared).name == "A+AU"
    assert row(("A", "AU"), shared=shared, loss_weights={}).name == "A+AU loss_weights=AU:1"
    shared = Training(losses={"AU": "focal"})
    assert row(("A", "AU"), shared=shared, losses={}).name == "A+AU losses=AU:bce"


@given(value=st.floats(1e-12, 1e12))
def test_the_text_of_a_number_gives_it_back(value):
    assert float(text_of(value)) == value


IRRELEVANT = [
    (("A",), {"loss_weights": {"AU": 0.1}}),
    (("A",), {"loss_weights": {"A": 1.0}}),
    (("A", "EXPR"), {"losses": {"AU": "focal"}}),
    (("AU",), {"losses": {"AU": {"name": "bce"}}}),
    (("A", "AU"), {"losses": {"EXPR": "balanced"}}),
]
RELEVANT = [
    (("A",), {"loss_weights": {"A": 0.5}}),
    (("A", "AU"), {"loss_weights": {"AU": 0.1}}),
    (("A", "AU"), {"losses": {"AU": "focal"}}),
    (("A", "AU"), {"losses": {"AU": {"name": "focal", "gamma": 2}}}),
    (("EXPR",), {"losses": {"EXPR": "balanced"}}),
    *((("A", "EXPR"), {key: value}) for key, value in {
        "window": 301, "hop": 199, "batch_size": 7, "epochs": 39, "patience": 9, "lr": 2e-3,
        "weight_decay": 0.0, "warmup": 0.0, "clip_norm": 0.5, "dropout": 0.0, "causal": False, "channels": 64,
        "levels": 3,
        "kernel_size": 3, "projection": 8, "standardise": False, "data_seed": 1,
    }.items()),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "own"), IRRELEVANT)
def test_a_setting_that_cannot_matter_makes_no_other_run_and_no_other_name(tasks, own):
    default, changed = row(tasks), row(tasks, **own)
    assert changed.name == default.name
    assert relevant(tasks, changed.training, attention=False) == relevant(
        tasks, default.training, attention=False
    )


@pytest.mark.parametrize(("tasks", "own"), RELEVANT)
def test_a_setting_that_can_matter_makes_another_run_and_another_name(tasks, own):
    default, changed = row(tasks), row(tasks, **own)
    assert changed.name != default.name
    assert relevant(tasks, changed.training, attention=False) != relevant(
        tasks, default.training, attention=False
    )


def test_a_name_tells_the_parameters_of_a_loss_that_are_not_its_defaults():
    assert row(("A", "AU"), losses={"AU": {"name": "focal", "gamma": 1}}).name == "A+AU losses=AU:focal"
    told = row(("AU", "EXPR"), losses={"AU": {"name": "focal", "gamma": 2}, "EXPR": "balanced"}).name
    assert told == "AU+EXPR losses=AU:focal(gamma=2),EXPR:balanced"


def test_a_name_tells_the_kind_of_attention_unless_it_is_the_plain_one():
    rows = "[{tasks: [V, A], attention: true}, {tasks: [V, A], attention: vector}, {tasks: [V, A]}]"
    assert names(f"sweep={{rows: {rows}}}") == ["V+A+Attn", "V+A+Attn(vector)", "V+A"]
    with pytest.raises(ConfigError, match=r"rows.1: the row V\+A\+Attn is given twice"):
        names(f"sweep={{rows: {rows.replace('vector', 'scalar')}}}")


READERS = [
    ("attention", {"attention": "vector"}, True, True),
    ("attention", {"attention": "vector"}, False, False),
    ("attention_heads", {"attention": "cross_task"}, True, True),
    ("attention_heads", {"attention": "cross_task"}, False, False),
    ("attention_heads", {"attention": "scalar"}, True, False),
    ("attention_heads", {"model": "transformer"}, False, True),
    ("attention_heads", {"attention": "theirs"}, True, True),
    ("kernel_size", {"model": "bigru"}, False, False),
    ("kernel_size", {"model": "multiscale_tcn"}, False, True),
    ("kernel_size", {"model": "theirs"}, False, True),
]


@pytest.mark.parametrize(("key", "chosen", "attention", "read"), READERS)
def test_what_only_some_models_or_kinds_of_attention_read_matters_only_there(key, chosen, attention, read):
    choices = {"model": "tcn", "attention": "scalar", "attention_heads": 4}
    training = SHARED.deciding() | choices | chosen
    assert (key in relevant(("A", "AU"), training, attention=attention)) == read


@st.composite
def settings(draw):
    """Settings of a row, from few values, so that rows are often the same."""
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "lr": st.sampled_from([1e-3, 1e-4]),
                "losses": st.fixed_dictionaries(
                    {},
                    optional={
                        "AU": st.sampled_from(["bce", "focal", {"name": "focal", "gamma": 2}]),
                        "EXPR": st.sampled_from(["cross_entropy", "balanced"]),
                    },
                ),
                "loss_weights": st.dictionaries(
                    st.sampled_from([*TASKS]), st.sampled_from([1.0, 0.1]), max_size=2
                ),
            },
        )
    )


@given(
    own=settings(),
    other=settings(),
    shared=settings(),
    tasks=st.sets(st.sampled_from([*TASKS]), min_size=1),
)
def test_rows_have_the_same_name_exactly_if_their_runs_are_the_same(own, other, shared, tasks):
    base = Training(**shared)
    a, b = row(tuple(tasks), shared=base, **own), row(tuple(tasks), shared=base, **other)
    same = relevant(a.tasks, a.training, attention=False) == relevant(b.tasks, b.training, attention=False)
    assert (a.name == b.name) == same


def test_a_product_gives_every_run_once():
    axes = "loss_weights: [{}, {AU: 0.1}], lr: [1e-3, 2e-3]"
    axes = f"sweep={{product: {{tasks: [[A], [A, AU]], training: {{{axes}}}}}}}"
    assert names(axes) == [
        "A lr=0.001", "A", "A+AU lr=0.001", "A+AU",
        "A+AU lr=0.001 loss_weights=AU:0.1", "A+AU loss_weights=AU:0.1",
    ]  # fmt: skip


def test_rows_that_are_spelt_out_and_the_same_run_are_refused():
    with pytest.raises(ConfigError, match=r"sweep.rows.1: the row A is given twice: sweep.rows.0"):
        load("demo", ["sweep={rows: [{tasks: [A]}, {tasks: [A], training: {loss_weights: {AU: 0.1}}}]}"])
