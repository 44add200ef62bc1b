"""Folds of a sweep: nobody is on both sides, everybody is scored once, and bad files are named by line."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.folding import Folds
from pipeline.folds import divisions
from stores.errors import ConfigError


@dataclass
class Clip:
    attrs: dict


@dataclass
class Labels:
    """As much of a label store as folds are made from."""

    people: dict  # clip -> person
    videos: dict = field(default_factory=dict)
    splits: dict = field(default_factory=dict)
    unscored: tuple = ()
    expression: dict = field(default_factory=dict)

    def clips(self):
        return list(self.people)

    def record(self, clip):
        attrs = {"split": self.splits.get(clip, "train"), "subject": self.people[clip]}
        attrs["video"] = self.videos.get(clip, clip)
        return Clip(attrs | ({"scored": False} if clip in self.unscored else {}))

    def read(self, clip, array):
        return np.full(3, self.expression.get(clip, -1), np.int8)


def people_of(division, labels, split):
    return {labels.people[clip] for clip, found in division.splits.items() if found == split}


@settings(deadline=None)  # the first call imports scikit-learn
@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=60), st.integers(2, 8), st.integers(0, 3), st.booleans()
)
def test_folds_share_nobody_score_everybody_once_and_differ_by_one_person(owners, count, seed, stratified):
    labels = Labels({f"c{i}": f"p{owner}" for i, owner in enumerate(owners)}, expression={"c0": 2})
    people = set(labels.people.values())
    folds = Folds(count=count, seed=seed, stratify="EXPR" if stratified else None)
    if len(people) < count:
        with pytest.raises(ConfigError, match=f"{count} folds of {len(people)} persons"):
            divisions(folds, labels)
        return
    try:
        found = divisions(folds, labels)
    except ConfigError as error:
        assert stratified
        assert "stratify" in str(error)  # noqa: PT017
        return
    scored = [people_of(division, labels, "validation") for division in found]
    assert Counter(person for fold in scored for person in fold) == Counter(people)
    assert max(map(len, scored)) - min(map(len, scored)) <= 1
    for division in found:
        assert not people_of(division, labels, "train") & people_of(division, labels, "validation")
        assert set(division.splits) == set(labels.people)
    assert divisions(folds, labels) == found


def test_one_person_out_has_a_fold_for_each_person():
    labels = Labels({"a1": "ann", "b1": "bob", "a2": "ann", "c1": "cy"})
    found = divisions(Folds(leave_out="person"), labels)
    assert [division.name for division in found] == ["ann", "bob", "cy"]
    assert [people_of(division, labels, "validation") for division in found] == [{"ann"}, {"bob"}, {"cy"}]


def test_stratified_folds_have_like_shares_of_each_expression():
    expression = {f"c{i}": i % 2 for i in range(20)}
    labels = Labels({clip: clip for clip in expression}, expression=expression)
    for division in divisions(Folds(count=5, stratify="EXPR"), labels):
        classes = Counter(
            expression[clip] for clip, split in division.splits.items() if split == "validation"
        )
        assert classes == {0: 2, 1: 2}


def test_test_clips_are_in_no_fold_and_unscored_parts_train_in_all():
    labels = Labels(
        {clip: clip for clip in "abcdef"}, splits={"e": "test", "b": "validation"}, unscored=("f",)
    )
    for division in divisions(Folds(count=2), labels):
        assert "e" not in division.splits
        assert division.splits["f"] == "train"


def test_two_people_of_one_video_stay_together_by_video():
    labels = Labels({"v_left": "", "v_right": "", "w": ""}, videos={"v_left": "v", "v_right": "v", "w": "w"})
    for division in divisions(Folds(count=2, by="video"), labels):
        assert division.splits["v_left"] == division.splits["v_right"] != division.splits["w"]


def write(tmp_path, text):
    path = tmp_path / "folds.csv"
    path.write_text(text)
    return Folds(file=path)


def test_a_file_gives_the_folds_of_a_published_protocol(tmp_path):
    folds = write(tmp_path, "clip,fold,note\na,10,\nb,2,x\nc,10,\n")
    found = divisions(folds, Labels({clip: clip for clip in "abc"}))
    assert [(d.fold, d.name) for d in found] == [(0, "2"), (1, "10")]
    assert found[1].splits == {"a": "validation", "b": "train", "c": "validation"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,fold\na,0\nzz,1\n", ("folds.csv:3", "zz")),
        ("clip,fold\na,0\nb,1\na,1\n", ("folds.csv:4", "line 2")),
        ("clip,fold\na,0\nb,\n", ("folds.csv:3", "no fold")),
        ("clip,fold\na,0\nb,1\n", ("folds.csv", "c")),
        ("clip,fold\na,0\nb,0\nc,0\n", ("folds.csv", "two or more")),
        ("name,fold\na,0\n", ("folds.csv:1", "clip and fold")),
        ("clip,fold\na,0\nb,1\nc,1\n", ("ann", "two folds")),
    ],
)
def test_a_file_that_does_not_fit_the_clips_is_named(tmp_path, text, words):
    labels = Labels({"a": "ann", "b": "ann", "c": "cy"})
    with pytest.raises(ConfigError) as caught:
        divisions(write(tmp_path, text), labels)
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        divisions(Folds(file=tmp_path / "absent.csv"), Labels({"a": "a", "b": "b"}))


def test_an_unknown_person_cannot_be_kept_whole():
    with pytest.raises(ConfigError, match="clip b: its person"):
        divisions(Folds(count=2), Labels({"a": "ann", "b": ""}))


def test_a_person_in_two_videos_is_refused_by_video_unless_leaks_are_reported():
    labels = Labels({"a": "ann", "b": "ann"})
    with pytest.raises(ConfigError, match="person ann"):
        divisions(Folds(count=2, by="video"), labels)
    assert len(divisions(Folds(count=2, by="video"), labels, leaks="report")) == 2


@pytest.mark.parametrize(
    "given", [{}, {"count": 2, "leave_out": "person"}, {"leave_out": "video", "seed": 1}, {"count": 1}]
)
def test_folds_have_one_form_with_its_own_keys(given):
    with pytest.raises(ValueError, match=r"folds|count|give|leave"):
        Folds(**given)
