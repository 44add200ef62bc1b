"""Splits: folds that stay where they are, people that are never divided, leaks that are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_corpora import make_clip, make_corpus

from extract.corpora.clip import video_of
from extract.corpora.splits import Folds, check, divided, kfold, validate_on_test
from stores.errors import ConfigError, CorpusError

SUBJECTS = [f"SN{i:03d}" for i in range(1, 28)]


def people(subjects, takes=2):
    return [make_clip(f"{s}_{take}", subject=s) for s in subjects for take in range(takes)]


def assignment(clips, **folds):
    return {
        c.id: c.split for c in kfold(make_corpus(clips), Folds(**({"kfold": 3, "fold": 0} | folds))).clips
    }


def test_every_subject_is_scored_in_exactly_one_fold():
    clips = people(SUBJECTS)
    scored = [
        {c for c, split in assignment(clips, fold=fold).items() if split == "validation"} for fold in range(3)
    ]
    assert set().union(*scored) == {clip.id for clip in clips}
    assert sum(map(len, scored)) == len(clips)
    for fold in range(3):
        check(kfold(make_corpus(clips), Folds(3, fold)))


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from(SUBJECTS), min_size=12), st.integers(0, 5))
def test_folds_do_not_move_when_clips_are_added_or_reordered(some, seed):
    try:
        few = assignment(people(sorted(some)), seed=seed)
    except ConfigError:
        return  # an empty fold
    everyone = assignment(people(SUBJECTS)[::-1], seed=seed)
    assert few.items() <= everyone.items()


def test_another_seed_makes_other_folds():
    assert assignment(people(SUBJECTS), seed=0) != assignment(people(SUBJECTS), seed=1)


def test_left_and_right_of_one_video_stay_together():
    ids = [f"video{i}{side}" for i in range(40) for side in ("_left", "_right", "")]
    clips = [make_clip(i, subject="") for i in ids]
    found = assignment(clips, by="video", kfold=5)
    assert {video_of(i) for i in ids} == {f"video{i}" for i in range(40)}
    for i in range(40):
        assert len({found[f"video{i}{side}"] for side in ("_left", "_right", "")}) == 1
    assert set(found.values()) == {"train", "validation"}


@pytest.mark.parametrize("name", ["video45_1", "122-60-1920x1080-5", "6-30-1920x1080", "left_hand"])
def test_only_left_and_right_at_the_end_are_sides_of_a_video(name):
    assert video_of(name) == name
    assert video_of(f"{name}_left") == name


def test_the_test_split_is_not_divided():
    clips = [*people(SUBJECTS), make_clip("t", "test", subject="SN001")]
    assert assignment(clips)["t"] == "test"


def test_an_empty_fold_is_refused_with_the_sizes():
    with pytest.raises(ConfigError, match=r"2 folds by subject have (1, 0|0, 1) subjects, one is empty"):
        assignment(people(["SN001"]), kfold=2)


def test_folds_by_subject_need_subjects():
    with pytest.raises(ConfigError, match="clip a: its subject is not known"):
        assignment([make_clip("a", subject="")])


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
