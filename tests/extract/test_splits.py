"""Splits: leaks that are refused, and a test split that validates."""

import pytest
from made_corpora import make_clip, make_corpus

from extract.corpora.clip import video_of
from extract.corpora.splits import check, divided, validate_on_test
from stores.errors import ConfigError, CorpusError


@pytest.mark.parametrize("name", ["video45_1", "122-60-1920x1080-5", "6-30-1920x1080", "left_hand"])
def test_only_left_and_right_at_the_end_are_sides_of_a_video(name):
    assert video_of(name) == name
    assert video_of(f"{name}_left") == name


def test_a_subject_in_two_splits_is_refused():
    corpus = make_corpus([make_clip("a", subject="p"), make_clip("b", "validation", subject="p")])
    with pytest.raises(
        CorpusError, match=r"1 subjects are in two splits, such as p in train \(a\) and valid"
    ):
        check(corpus)


def test_two_people_of_one_video_in_two_splits_are_refused_where_subjects_are_unknown():
    clips = [make_clip("v_left", subject=""), make_clip("v_right", "validation", subject="")]
    with pytest.raises(CorpusError, match="v in train"):
        check(make_corpus(clips))


def test_a_test_clip_without_labels_leaks_nothing_and_one_with_labels_does():
    clips = [make_clip("a", subject="p"), make_clip("b", "test", subject="p")]
    assert not divided(clips)
    assert divided([clips[0], make_clip("b", "test", subject="p", expression=1)])


def test_the_official_test_split_validates_where_there_is_no_other_and_that_is_noted():
    clips = [make_clip("a"), make_clip("b", "test", expression=1), make_clip("c", "test")]
    taken = validate_on_test(make_corpus(clips))
    assert [clip.split for clip in taken.clips] == ["train", "validation", "validation"]
    assert "scores are optimistic, for the best epoch is chosen on it" in taken.notes[-1]
    check(taken)


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (("train", "validation", "test"), "made has a validation split: leave out"),
        (("train", "train", "train"), r"no labelled test split \(0 test clips\)"),
        (("train", "train", "unlabelled"), r"no labelled test split \(1 test clips\)"),
    ],
)
def test_a_test_split_is_not_taken_where_it_is_not_needed_or_not_labelled(splits, told):
    clips = [
        make_clip(f"c{k}", "test") if split == "unlabelled" else make_clip(f"c{k}", split, expression=1)
        for k, split in enumerate(splits)
    ]
    with pytest.raises(ConfigError, match=told):
        validate_on_test(make_corpus(clips))
