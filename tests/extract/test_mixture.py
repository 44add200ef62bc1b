"""Mixtures: unique clip ids, weights, which splits train and which are scored, people in two parts."""

from dataclasses import replace

import pytest
from made_corpora import make_clip, make_corpus

import stores
from extract.corpora.mixture import Part, mix
from extract.corpora.splits import check
from extract.labels import write_labels
from stores.errors import ConfigError, CorpusError

NAMES = (("Neutral", "Anger"), ("AU1",))


def corpus(name, *splits, **changes):
    clips = [make_clip(f"c{i}", split, aus=1, **changes) for i, split in enumerate(splits)]
    return make_corpus(clips, *NAMES, name=name)


def test_clips_of_all_parts_have_unique_ids_their_weight_and_their_corpus():
    mixed = mix(
        {
            "a": Part(corpus("disfa", "train", "train"), weight=0.5),
            "b": Part(corpus("affwild2", "train", "validation", "test")),
        },
        ["b"],
        "abaw2",
    )
    assert mixed.name == "disfa+affwild2"
    assert [(c.id, c.split, c.weight, c.corpus, c.subject) for c in mixed.clips] == [
        ("a.c0", "train", 0.5, "disfa", "disfa.c0"),
        ("a.c1", "train", 0.5, "disfa", "disfa.c1"),
        ("b.c0", "train", 1.0, "affwild2", "affwild2.c0"),
        ("b.c1", "validation", 1.0, "affwild2", "affwild2.c1"),
        ("b.c2", "test", 1.0, "affwild2", "affwild2.c2"),
    ]


def test_parts_that_are_not_scored_give_only_the_splits_that_they_train():
    whole = corpus("expw", "train", "validation", "test")
    scored = Part(corpus("affwild2", "train", "validation"))
    assert [c.id for c in mix({"e": Part(whole), "w": scored}, ["w"], "abaw2").clips] == [
        "e.c0",
        "w.c0",
        "w.c1",
    ]
    more = Part(whole, training_splits=("train", "validation"))
    mixed = mix({"e": more, "w": scored}, ["w"], "abaw2")
    assert [(c.id, c.split) for c in mixed.clips][:2] == [("e.c0", "train"), ("e.c1", "train")]
    assert "part e (expw, weight 1): 1 left out, 2 train clips" in mixed.notes


def test_a_part_that_trains_nothing_can_be_scored():
    parts = {
        "a": Part(corpus("a", "train")),
        "b": Part(corpus("b", "train", "validation"), training_splits=()),
    }
    assert [c.id for c in mix(parts, ["b"], "abaw2").clips] == ["a.c0", "b.c1"]


def test_a_part_is_not_trained_on_what_it_is_scored_on():
    part = Part(corpus("a", "train", "validation"), training_splits=("train", "validation"))
    with pytest.raises(ConfigError, match="part a is scored on its validation split"):
        mix({"a": part}, ["a"], "abaw2")


def test_parts_with_other_names_are_refused():
    other = replace(corpus("b", "train", "validation"), au_names=("AU2",))
    with pytest.raises(ConfigError, match="part b: its labels have other names"):
        mix({"a": Part(corpus("a", "train")), "b": Part(other)}, ["b"], "abaw2")


def test_a_mixture_without_anything_to_train_on_or_an_unknown_part_to_score_is_refused():
    with pytest.raises(CorpusError, match="no clip of the mixture is trained on"):
        mix({"a": Part(corpus("a", "train"), training_splits=())}, ["a"], "abaw2")
    with pytest.raises(ConfigError, match="no part 'c'"):
        mix({"a": Part(corpus("a", "train"))}, ["c"], "abaw2")


@pytest.mark.parametrize("other", ["disfa", "disfaplus"])
def test_one_person_in_two_parts_of_one_corpus_is_a_leak(other):
    parts = {
        "one": Part(corpus(other, "train", subject="SN001")),
        "two": Part(corpus("disfa", "validation", subject="SN001")),
    }
    with pytest.raises(CorpusError, match=r"disfa\.SN001 in train \(one\.c0\) and validation \(two\.c0\)"):
        check(mix(parts, ["two"], "abaw2"))


def test_people_of_different_corpora_with_one_name_are_different_people():
    parts = {
        "one": Part(corpus("bp4d", "train", subject="F001")),
        "two": Part(corpus("ck", "validation", subject="F001")),
    }
    check(mix(parts, ["two"], "abaw2"))


def test_weights_static_clips_and_corpora_reach_the_label_store(tmp_path):
    parts = {
        "a": Part(corpus("expw", "train", static=True), weight=0.25),
        "b": Part(corpus("affwild2", "train", "validation")),
    }
    mixed = mix(parts, ["b"], "abaw2")
    write_labels(mixed, tmp_path / "labels")
    store = stores.open(tmp_path / "labels")
    attrs = store.record("a.c0").attrs
    assert (attrs["static"], attrs["weight"], attrs["corpus"]) == (True, 0.25, "expw")
    assert (attrs["video"], attrs["scored"]) == ("a.c0", False)
    other = store.record("b.c0").attrs
    assert other.keys() == {"corpus", "fps", "split", "subject", "video"}
    assert other["video"] == "affwild2.c0"
    heavier = replace(mixed, clips=(replace(mixed.clips[0], weight=0.5), *mixed.clips[1:]))
    assert write_labels(heavier, tmp_path / "labels").written == ("a.c0",)


def test_a_shard_has_a_bounded_number_of_images_and_weights_are_positive():
    with pytest.raises(ValueError, match="4097 images, at most 4096"):
        make_clip("s", frames=4097, static=True)
    with pytest.raises(ValueError, match="weight 0"):
        make_clip("s", weight=0.0)
