"""The rules of the editions: one test for each, on what training labels and weights say of themselves."""

import pytest

from pipeline.rules import breaches, refuse, sentences
from stores.errors import ConfigError

EVERYTHING = {"V": 9, "A": 9, "AU": 9, "EXPR": 9}
NOTHING = dict.fromkeys(EVERYTHING, 0)
CLEAN = ("ImageNet-1k",)
ONE, TWO, ALL = ("AU",), ("V", "AU"), ("V", "A", "AU", "EXPR")


def found(edition, tasks, trained, weights=CLEAN):
    return [(breach.forbidden, breach.reason) for breach in breaches(edition, [tasks], trained, weights)]


@pytest.mark.parametrize("edition", ["abaw5", "abaw6", "abaw8", "abaw10"])
def test_a_uni_task_track_admits_only_the_labels_of_its_task(edition):
    aff = {"affwild2": EVERYTHING}
    assert not found(edition, ONE, aff)
    assert not found(edition, ("V", "A"), aff)
    assert [forbidden for forbidden, _ in found(edition, TWO, aff)] == [True, True]
    assert "VA track admits no Aff-Wild2 labels of AU" in found(edition, TWO, aff)[0][1]


def test_a_uni_task_track_admits_labels_of_other_tasks_from_other_corpora():
    trained = {"affwild2": {**NOTHING, "V": 9}, "disfa": {**NOTHING, "AU": 9}}
    # An entry to the VA track is fine; one to the AU track would have learned from valence.
    assert found("abaw5", TWO, trained) == [
        (True, "whose AU track admits no Aff-Wild2 labels of VA"),
    ]
    assert not found("abaw5", TWO, {"disfa": EVERYTHING})


def test_of_weights_that_saw_aff_wild2_a_uni_task_track_cannot_tell_the_labels():
    assert [f for f, _ in found("abaw5", ONE, {}, ("ImageNet-1k", "Aff-Wild2"))] == [False]


@pytest.mark.parametrize("edition", ["abaw3", "abaw4", "abaw7", "abaw11"])
def test_a_multi_task_track_admits_no_videos_of_aff_wild2_in_training(edition):
    assert found(edition, ALL, {"affwild2": EVERYTHING})[0][0]
    assert not found(edition, ALL, {"affwild2_mtl": EVERYTHING, "affectnet": EVERYTHING})


@pytest.mark.parametrize("edition", ["abaw3", "abaw4", "abaw7", "abaw11"])
def test_a_multi_task_track_admits_no_weights_that_saw_aff_wild2(edition):
    trained = {"affwild2_mtl": EVERYTHING}
    assert found(edition, ALL, trained, ("MS-Celeb-1M", "Aff-Wild2"))[0][0]
    assert not found(edition, ALL, trained, ("s-Aff-Wild2",))
    assert not found(edition, ALL, trained, ("AffectNet",))


def test_single_tasks_of_abaw3_are_entries_to_its_uni_task_tracks():
    assert not found("abaw3", ONE, {"affwild2": EVERYTHING})
    assert found("abaw4", ONE, {"affwild2": EVERYTHING})


@pytest.mark.parametrize("edition", ["abaw5", "abaw7"])
@pytest.mark.parametrize("weights", [(), ("unknown",), ("AffectNet", "unknown")])
def test_unknown_training_data_is_flagged_and_not_refused(edition, weights):
    told = breaches(edition, [ONE], {}, weights)
    assert [breach.forbidden for breach in told] == [False]
    refuse(edition, told)
    assert sentences(edition, told) == [
        f"AU: not known to be admitted to {edition}, as nobody tells what the weights were trained on."
    ]


@pytest.mark.parametrize("edition", ["abaw1", "abaw2"])
def test_editions_without_known_rules_admit_everything(edition):
    assert not found(edition, ALL, {"affwild2": EVERYTHING}, ("Aff-Wild2",))


def test_the_embedded_corpus_is_not_aff_wild2():
    assert not found("abaw5", ALL, {"rendered": EVERYTHING})


def test_a_refusal_names_every_combination_and_the_way_out():
    told = breaches("abaw7", [ONE, ALL], {"affwild2": EVERYTHING}, CLEAN)
    with pytest.raises(ConfigError, match=r"forbid AU: .*; V\+A\+AU\+EXPR: .*table\.rules: flag"):
        refuse("abaw7", told)
    assert sentences("abaw7", told) == [
        "AU, V+A+AU+EXPR: not admitted to abaw7, whose multi-task track admits no A/V Aff-Wild2 in training."
    ]
