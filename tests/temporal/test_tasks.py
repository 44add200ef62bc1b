import pytest
from store_specs import label_spec

from stores.errors import ConfigError
from temporal.tasks import TASKS, combination_name, parse_combination


@pytest.mark.parametrize(
    ("name", "tasks", "attention"),
    [
        ("V", ("V",), False),
        ("A+AU+Attn", ("A", "AU"), True),
        ("V+A+AU+EXPR", ("V", "A", "AU", "EXPR"), False),
    ],
)
def test_a_combination_name_reads_back(name, tasks, attention):
    assert parse_combination(name) == (tasks, attention)
    assert combination_name(tasks, attention=attention) == name


def test_combinations_are_written_in_canonical_order():
    assert combination_name(("EXPR", "A", "AU"), attention=True) == "A+AU+EXPR+Attn"
    assert parse_combination("EXPR+V") == (("V", "EXPR"), False)


@pytest.mark.parametrize("name", ["", "Attn", "VA", "V+V", "Attn+V", "A+"])
def test_a_combination_that_is_none_is_refused_by_name(name):
    with pytest.raises(ConfigError) as caught:
        parse_combination(name)
    assert repr(name) in caught.value.__notes__[0]


def test_output_sizes_follow_the_label_names():
    assert {name: task.size(label_spec()) for name, task in TASKS.items()} == {
        "V": 1,
        "A": 1,
        "AU": 12,
        "EXPR": 7,
    }
