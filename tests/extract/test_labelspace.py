"""The label space: names decide, positions never, and whatever has no name there becomes unknown."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_corpora import make_clip, make_corpus

from extract.corpora.labelspace import (
    COMPOUNDS,
    SYNONYMS,
    canonical,
    check_names,
    check_rules,
    overruled,
    to_space,
)
from stores.editions import AU_8, AU_12, EXPR_7, EXPR_8
from stores.errors import ConfigError

AFFECTNET = (
    "Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt", "None", "Uncertain",
    "No-Face",
)  # fmt: skip


def classes(native, target, rules=None):
    """Where every class of ``native`` goes."""
    values = np.arange(-1, len(native), dtype=np.int8)
    clip = make_clip("c", frames=len(values), expression=values)
    mapped, report = to_space(make_corpus([clip], native), target, AU_12, rules or {})
    found = mapped.clips[0].labels.expression
    assert found[0] == -1
    return {n: None if i < 0 else target[i] for n, i in zip(native, found[1:], strict=True)}, report


def units(native, target, rows, rules=None):
    clip = make_clip("c", frames=len(rows), au=rows, aus=len(native))
    mapped, report = to_space(make_corpus([clip], (), native), EXPR_7, target, rules or {})
    assert mapped.au_names == tuple(target)
    return mapped.clips[0].labels.au, report


def test_the_classes_of_affectnet_go_by_name_and_those_without_one_become_unknown():
    found, report = classes(AFFECTNET, EXPR_7)
    assert found == {
        "Neutral": "Neutral", "Happy": "Happiness", "Sad": "Sadness", "Surprise": "Surprise", "Fear": "Fear",
        "Disgust": "Disgust", "Anger": "Anger", "Contempt": None, "None": None, "Uncertain": None,
        "No-Face": None,
    }  # fmt: skip
    reasons = {m.source: m.reason for m in report.expressions}
    assert (reasons["Anger"], reasons["Happy"]) == ("same name", "synonym")
    assert reasons["Contempt"] == "not in the list"


def test_contempt_becomes_other_only_by_a_rule():
    assert classes(AFFECTNET, EXPR_8)[0]["Contempt"] is None
    found, report = classes(AFFECTNET, EXPR_8, {"Contempt": "Other"})
    assert found["Contempt"] == "Other"
    assert {m.source: m.reason for m in report.expressions}["Contempt"] == "rule"


def test_a_rule_can_drop_a_class_that_has_a_name_in_the_list():
    assert classes(("Angry", "Happy"), EXPR_7, {"Anger": None})[0] == {"Angry": None, "Happy": "Happiness"}


@pytest.mark.parametrize("written", ["Happily Surprised", "Happily_Surprised", "Happily surprised"])
def test_compound_classes_of_every_corpus_are_one_name_and_never_a_basic_one(written):
    assert classes((written,), EXPR_8)[0] == {written: None}
    assert classes((written,), (*EXPR_8, "Happily Surprised"))[0] == {written: "Happily Surprised"}
    rule = {"Happily Surprised": "Surprise"}
    assert classes((written,), EXPR_8, rule)[0] == {written: "Surprise"}


def test_the_order_of_expw_is_not_that_of_aff_wild2():
    expw = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    values = np.arange(7, dtype=np.int8)
    clip = make_clip("c", frames=7, expression=values)
    mapped, _ = to_space(make_corpus([clip], expw), EXPR_7, AU_12, {})
    # facts of the seed that merges them: [angry, ..., neutral] -> [1, 2, 3, 4, 5, 6, 0]
    assert mapped.clips[0].labels.expression.tolist() == [1, 2, 3, 4, 5, 6, 0]


def test_an_action_unit_that_a_corpus_does_not_annotate_is_unknown_and_never_absent():
    found, report = units(("AU12", "AU01", "AU9"), AU_8, [[1, 0, 1], [0, -1, 1]])
    assert found[:, AU_8.index("AU12")].tolist() == [1, 0]
    assert found[:, AU_8.index("AU1")].tolist() == [0, -1]
    others = [i for i, name in enumerate(AU_8) if name not in ("AU1", "AU12")]
    assert (found[:, others] == -1).all()
    assert report.absent_aus == tuple(AU_8[i] for i in others)
    assert [(m.source, m.target, m.labels) for m in report.aus] == [
        ("AU12", "AU12", 2), ("AU01", "AU1", 1), ("AU9", None, 2),
    ]  # fmt: skip


def test_units_merged_by_a_rule_are_present_if_one_is_and_absent_only_if_all_are():
    rows = [[1, 0], [0, 0], [0, -1], [-1, 1], [-1, -1], [-1, 0]]
    found, _ = units(("AU26", "AU27"), ("AU26",), rows, {"AU27": "AU26"})
    assert found[:, 0].tolist() == [1, 0, -1, 1, -1, -1]


def test_valence_and_arousal_pass_unchanged():
    clip = make_clip("c")
    clip.labels.valence[:] = [0.5, np.nan, -1, 1]
    mapped, _ = to_space(make_corpus([clip]), EXPR_7, AU_12, {})
    np.testing.assert_array_equal(mapped.clips[0].labels.valence, clip.labels.valence)
    assert mapped.clips[0].labels.au.shape == (4, 12)


NAMES = st.lists(st.sampled_from([*EXPR_8, "Contempt", *SYNONYMS, *COMPOUNDS]), min_size=1, unique=True)


@settings(deadline=None, max_examples=60)
@given(NAMES, st.permutations(EXPR_8), st.data())
def test_no_label_leaks_across_names(native, target, data):
    rules = data.draw(
        st.dictionaries(st.sampled_from(native), st.none() | st.sampled_from(target), max_size=3).filter(
            lambda drawn: len(set(map(canonical, drawn))) == len(drawn)
        )
    )
    plain = {canonical(source): goal for source, goal in rules.items()}
    for source, found in classes(native, target, rules)[0].items():
        name = canonical(source)
        assert found == plain.get(name, name if name in target else None)


@pytest.mark.parametrize(
    ("expressions", "aus", "told"),
    [
        (("Happines",), AU_12, "unknown name 'Happines', did you mean 'Happiness'"),
        (("Happy", "Happiness"), AU_12, "'Happy' is listed twice"),
        (EXPR_7, ("AU1", "AU121"), "unknown name 'AU121', did you mean 'AU12'"),
        (EXPR_7, ("Anger",), "corpus.aus: unknown name 'Anger'"),
    ],
)
def test_unknown_names_are_errors_that_name_the_nearest(expressions, aus, told):
    with pytest.raises(ConfigError, match=told):
        check_names([make_corpus([], ("Happy",), ("AU12",))], expressions, aus)


def test_a_name_that_only_a_corpus_knows_may_be_listed():
    check_names([make_corpus([], ("Boredom",), ("AU43",))], ("Neutral", "Boredom"), ("AU43",))


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"Contemt": "Other"}, "no corpus annotates 'Contemt', did you mean 'Contempt'"),
        ({"Contempt": "Others!"}, "'Contempt' goes to 'Others!', which is not in the list, did you mean"),
        ({"Happy": None, "Happiness": "Other"}, "two rules for 'Happiness'"),
        ({"Happy": "AU12"}, "'Happiness' goes to 'AU12'"),
    ],
)  # fmt: skip
def test_rules_for_unknown_names_are_errors_that_name_the_nearest(rules, told):
    with pytest.raises(ConfigError, match=told):
        check_rules([make_corpus([], ("Happy", "Contempt"), ("AU12",))], EXPR_8, AU_12, rules)


def test_a_rule_of_a_part_outranks_that_of_the_mixture_in_any_spelling():
    assert overruled({"Happy": "Other", "Contempt": None}, {"Happiness": None}) == {
        "Happiness": None,
        "Contempt": None,
    }


def test_the_report_is_json_and_says_what_was_mapped_dropped_and_left_unknown():
    _, report = classes(("Happy", "Contempt"), EXPR_7)
    assert json.loads(json.dumps(report.to_json()))["expressions"][1] == {
        "source": "Contempt", "target": None, "reason": "not in the list", "labels": 1,
    }  # fmt: skip
    first, second = report.lines()
    assert "Happy -> Happiness" in first
    assert "made unknown Contempt (1 labels, not in the list)" in first
    assert "not annotated Neutral, Anger" in first
    assert second == "no action units"


def test_a_corpus_that_has_the_names_of_the_experiment_needs_no_word():
    corpus = make_corpus([], EXPR_7, AU_12)
    assert to_space(corpus, EXPR_7, AU_12, {})[1].lines() == []


def test_no_spelling_stands_for_two_names_and_none_is_a_name_itself():
    assert not SYNONYMS.keys() & set(SYNONYMS.values())
