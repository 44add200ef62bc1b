"""What the doctor counts and judges, on corpora of arrays with every defect placed on purpose."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import toy_corpora
from examined_corpora import clip, configure, corpus, whole
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from extract import corpora
from extract.corpora import Labels, labelspace
from extract.labels import write_labels
from pipeline.doctor import cost
from pipeline.doctor import judgement as checks
from pipeline.doctor.census import BINS, take
from pipeline.doctor.figure import as_png
from pipeline.doctor.listing import lines
from pipeline.stage1.reading import read_divided
from pipeline.workdir import work_dir
from stores.editions import AU_12, EXPR_7


@pytest.fixture
def config():
    return configure("/nowhere")


@given(st.data())
def test_the_census_equals_a_count_cell_by_cell(data):
    frames = data.draw(st.integers(1, 20))
    value = st.floats(-1, 1, width=32) | st.just(float("nan"))
    one = clip(
        "a",
        "train",
        data.draw(hnp.arrays(bool, frames)),
        classes=data.draw(hnp.arrays(np.int8, frames, elements=st.integers(-1, 6))),
        aus=data.draw(hnp.arrays(np.int8, (frames, 12), elements=st.integers(-1, 1))),
        va=data.draw(hnp.arrays(np.float32, frames, elements=value)),
    )
    tally = take(corpus(one, whole("b", "train"), whole("c", "validation"))).splits["train"]
    both = [one.labels, whole("b", "train").labels]
    crops = [*one.frames, *whole("b", "train").frames]
    rows = [row for own in both for row in zip(own.valence, own.arousal, own.expression, own.au, strict=True)]
    known = {
        "V": [v == v for v, *_ in rows],
        "A": [a == a for _, a, *_ in rows],
        "EXPR": [e >= 0 for _, _, e, _ in rows],
        "AU": [any(c >= 0 for c in au) for *_, au in rows],
    }
    assert (tally.frames, tally.crops) == (len(rows), sum(path is not None for path in crops))
    for task, flags in known.items():
        assert tally.labelled[task] == sum(flags)
        assert tally.usable[task] == sum(f and p is not None for f, p in zip(flags, crops, strict=True))
    assert tally.classes.tolist() == [sum(e == k for _, _, e, _ in rows) for k in range(7)]
    assert tally.active.tolist() == [sum(au[k] == 1 for *_, au in rows) for k in range(12)]
    assert tally.known.tolist() == [sum(au[k] >= 0 for *_, au in rows) for k in range(12)]
    assert tally.partial == sum(0 < sum(c >= 0 for c in au) < 12 for *_, au in rows)
    values = [v for v, *_ in rows if v == v]
    assert tally.histograms["V"].sum() == len(values)
    assert tally.extremes["V"] == (min(values), max(values))


def test_the_ends_of_the_scale_are_counted_in_the_first_and_the_last_bin():
    tally = take(corpus(clip("a", "train", [True] * 3, va=[-1, 0, 1]))).splits["train"]
    assert tally.histograms["V"].nonzero()[0].tolist() == [0, BINS // 2, BINS - 1]


def test_a_task_of_the_sweep_without_labels_in_a_split_fails_with_the_remedy(config):
    units = clip("u", "validation", [True] * 2, aus=[[0] * 12, [1] * 12], classes=[0, 1])
    found = list(checks.check_coverage(config, take(corpus(whole("t", "train"), units))))
    assert [(f.status, f.found) for f in found if f.status == "FAIL"] == [
        ("FAIL", "V has no labels in validation")
    ]
    assert "take V out of the sweep" in found[0].remedy
    assert found[-1].found == "labelled frames, train + validation: AU 14 + 2, EXPR 14 + 2"
    alone = clip("t", "train", [False, True], va=[0.5], classes=[0, 0], aus=[[1] * 12] * 2)
    found = list(checks.check_coverage(config, take(corpus(alone, whole("v", "validation")))))
    assert found[0].found == "V has no labelled frame with a crop in train"


def test_the_remedy_for_a_split_that_lacks_is_one_that_this_corpus_can_have(config):
    def remedy(whom, settings=config):
        found = list(checks.check_coverage(settings, take(whom)))
        return next(f.remedy for f in found if f.found == "V has no labels in validation")

    people = whole("t", "train")
    shard = whole("train-00000", "train", subject="")
    assert remedy(corpus(people)).endswith("or set sweep.folds: {count: 5}")
    assert remedy(corpus(shard)).endswith("{count: 5, by: video}")
    tested = corpus(shard, whole("test-00000", "test", subject=""))
    assert remedy(tested).endswith("{count: 5, by: video} or corpus.split: {validation: test}")
    parts = {"a": {"kind": "disfa", "root": "/nowhere"}}
    mixture = configure("/nowhere", corpus={"kind": "mixture", "parts": parts, "score": ["a"]})
    assert remedy(tested, mixture).endswith(
        "score parts that have it (corpus.score), and set sweep.folds: {count: 5, by: video}"
    )
    nobody = corpus(clip("t", "train", [True], classes=[0]), clip("v", "validation", [True], classes=[0]))
    found = list(checks.check_coverage(config, take(nobody)))
    assert found[0].found == "V has no labels in train and no labels in validation"
    assert "split" not in found[0].remedy


def test_a_task_that_no_row_trains_may_lack_labels():
    config = configure("/nowhere", sweep={"rows": [{"tasks": ["EXPR"]}]})
    census = take(
        corpus(clip("t", "train", [True], classes=[0]), clip("v", "validation", [True], classes=[1]))
    )
    assert [f.status for f in checks.check_coverage(config, census)] == ["PASS"]


def test_an_absent_class_or_au_is_a_warning_that_says_what_it_costs(config):
    labels = whole("v", "validation").labels
    unit = labels.au.copy()
    unit[:, 3] = 0
    classes = np.where(np.isin(labels.expression, [2, 3]), 0, labels.expression).astype(np.int8)
    scored = replace(whole("v", "validation"), labels=Labels(labels.valence, labels.arousal, classes, unit))
    found = list(checks.check_distributions(config, take(corpus(whole("t", "train"), scored))))
    assert [(f.name, f.status) for f in found] == [("EXPR", "WARN"), ("AU", "WARN")]
    assert "no frame of Disgust, Fear in validation: their F1 is 0 whatever is predicted" in found[0].found
    assert found[0].found.endswith("F1 (EXPR) is at most 0.714")
    assert "no active frame of AU6 in validation" in found[1].found
    found = list(
        checks.check_distributions(
            config, take(corpus(whole("v", "validation"), replace(scored, id="t", split="train")))
        )
    )
    assert "AU6 in train: nothing teaches them, so F1 (AU) will hardly pass 0.917" in found[1].found


def test_the_cost_of_an_absent_class_is_that_of_the_metric():
    from temporal.metrics import totals

    y = np.arange(14) % 5
    assert totals({"EXPR": y}, {"EXPR": np.eye(7)[y]}, "abaw2")["EXPR"]["f1"] == pytest.approx(1 - 2 / 7)


def test_a_constant_series_is_a_warning(config):
    flat = whole("v", "validation")
    flat.labels.valence[:] = 0.25
    found = list(checks.check_distributions(config, take(corpus(whole("t", "train"), flat))))
    assert [(f.name, f.found) for f in found] == [
        ("V", "every label in validation is 0.25: the CCC of a constant is 0")
    ]


def test_null_au_cells_are_counted_and_rows_without_any_au_are_not():
    aus = [[-1, 0, *[1] * 10], [-1] * 12, [0] * 12]
    found = checks.check_cells(take(corpus(clip("t", "train", [True] * 3, aus=aus))))
    assert found.found.endswith("train 1 of 24 (4.2%), in 1 partly annotated rows")


def test_labels_behind_the_last_crop_are_a_row_mismatch_unless_two_tools_just_counted_differently():
    fine = clip("fine", "train", [True] * 98 + [False] * 2, va=np.zeros(100))
    assert checks.check_rows(take(corpus(fine))).found.startswith("no clip has more than 2 label rows")
    cut = clip("cut", "train", [True] * 60 + [False] * 40, va=np.zeros(100))
    found = checks.check_rows(take(corpus(fine, cut)))
    assert (found.status, found.found) == (
        "WARN",
        "1 clips have label rows behind their last crop, 40 of 200: cut 40",
    )
    gap = clip("gap", "train", [True, *[False] * 50, True], va=np.zeros(52))
    assert checks.check_rows(take(corpus(gap))).status == "PASS"


def test_clips_without_any_crop_and_many_labelled_frames_without_one_are_warnings():
    census = take(corpus(clip("none", "train", [False] * 4, va=np.zeros(4)), whole("v", "validation")))
    found = list(checks.check_crops(census))
    assert [f.status for f in found] == ["WARN", "WARN"]
    assert "1 clips have no crop at all: none" in found[1].found
    unlabelled = clip("sparse", "train", [True] + [False] * 99, va=[0.5])
    assert [f.status for f in checks.check_crops(take(corpus(unlabelled)))] == ["PASS"]


def test_missing_crops_of_one_task_are_not_hidden_by_the_labels_of_another():
    present = [True] * 190 + [False] * 10
    lacking = clip("a", "train", present, va=np.zeros(200), classes=[-1] * 180 + [0] * 20)
    (found,) = checks.check_crops(take(corpus(lacking)))
    assert (found.status, found.found) == (
        "WARN",
        "10 of 200 frames have no crop; of labelled frames at most 10 of 20 with EXPR in train",
    )


def test_a_video_in_two_splits_is_found_although_its_two_people_are_subjects_of_their_own(config):
    left = whole("v_left", "train", subject="p1")
    right = whole("v_right", "validation", subject="p2")
    found = list(checks.check_people(config, corpus(left, right), take(corpus(left, right))))
    assert [f.status for f in found] == ["WARN"]
    assert found[0].found.startswith("1 videos are in two splits: v in train (v_left) and validation")


def test_where_no_subject_is_known_the_doctor_says_that_nothing_can_be_told(config):
    whom = corpus(whole("a", "train", subject=""), whole("b", "validation"))
    (found,) = checks.check_people(config, whom, take(whom))
    assert (found.status, found.found.split("; ")[1]) == (
        "PASS",
        "of 1 clips no subject is known, so of these nothing can be told",
    )


@pytest.mark.parametrize(("mode", "status"), [("flag", "WARN"), ("refuse", "FAIL"), ("ignore", "PASS")])
def test_what_the_rules_forbid_is_told_before_anything_is_trained(mode, status):
    rules = {"edition": "abaw5", "rules": mode}
    config = configure("/nowhere", corpus={"edition": "abaw5"}, table=rules)
    census = take(corpus(whole("t", "train"), whole("v", "validation")))
    found = list(checks.check_rules(config, census, ("ImageNet-1k",)))
    assert {f.status for f in found} == {status}
    if mode != "ignore":
        assert found[0].found == (
            "AU+EXPR: not admitted to abaw5, whose AU track admits no Aff-Wild2 labels of EXPR"
        )


def test_labels_that_nobody_decided_about_are_a_warning_and_those_of_a_rule_are_not():
    native = replace(corpus(whole("t", "train")), expression_names=(*EXPR_7[:6], "Contempt"))
    report = labelspace.to_space(native, EXPR_7, AU_12, {})[1]
    (found,) = checks.check_mapping({"images": report})
    assert found.status == "WARN"
    assert "made unknown Contempt (2 labels, not in the list); not annotated Surprise" in found.found
    assert "map them by corpus.mapping" in found.remedy
    report = labelspace.to_space(native, EXPR_7, AU_12, {"Contempt": None})[1]
    assert [f.status for f in checks.check_mapping({"images": report})] == ["PASS"]


def test_action_units_that_nobody_asked_for_are_told_without_a_warning():
    native = replace(corpus(whole("t", "train")), au_names=(*AU_12[:11], "AU43"))
    report = labelspace.to_space(native, EXPR_7, AU_12, {})[1]
    (found,) = checks.check_mapping({"images": report})
    assert (found.status, found.remedy) == ("PASS", "")
    assert "made unknown AU43 (" in found.found


def test_a_mixture_is_told_by_corpus_with_its_shards_of_images(tmp_path, monkeypatch):
    monkeypatch.setitem(corpora.KINDS, toy_corpora.KIND, toy_corpora.__name__)
    monkeypatch.setitem(sys.modules, toy_corpora.__name__, toy_corpora)
    people = [("a", "train", "a"), ("b", "validation", "b")]
    toy_corpora.write(tmp_path / "videos", "affwild2", [*EXPR_7], [*AU_12], people)
    toy_corpora.write(
        tmp_path / "images", "expw", ["Happy"], [], [("s", "train", "")], static=True, values=False
    )
    parts = {name: {"kind": "toy", "root": tmp_path / name} for name in ("videos", "images")}
    config = configure("/nowhere", corpus={"kind": "mixture", "parts": parts, "score": ["videos"]})
    mixed, _ = read_divided(config, work_dir(config, tmp_path).corpus)
    census = take(mixed)
    assert checks.check_parts(census).found == (
        "affwild2: train 1 clips, 24 frames, validation 1 clips, 24 frames;"
        " expw: train 1 shards of images, 24 frames"
    )
    shown = [" ".join(line.split()) for line in lines(census)]
    assert "expw train 1 1 24 - unknown - - - 24 (100.0%)" in shown
    assert any(line.startswith("all train 2 1 48 - 1 24 (50.0%)") for line in shown)
    assert "notes of the reader" in shown


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_the_estimate_of_room_is_what_the_stores_then_take_and_nothing_once_they_are_there(
    tmp_path, config, backend
):
    place = work_dir(config, tmp_path)
    whom = corpus(whole("t", "train", 50_000), whole("v", "validation", 700))
    expected = cost.room(config, place, whom, {"face": toy_corpora.DIM})
    write_labels(whom, place.labels, backend)
    frames = {c.id: len(c.frames) for c in whom.clips}
    toy_corpora.write_features(place.streams["face"], frames, backend=backend)
    for name, path in (("labels", place.labels), ("features", place.streams["face"])):
        taken = sum(file.stat().st_size for file in (path / "clips").rglob("*") if file.is_file())
        assert expected[name] == pytest.approx(taken, rel=0.06)
        assert cost.room(config, place, whom, {"face": toy_corpora.DIM})[name] == 0


def test_a_feature_store_that_was_given_must_have_every_clip_that_is_read_at_full_length(tmp_path):
    config = configure("/nowhere", streams={"face": {"store": tmp_path / "given"}})
    place = work_dir(config, tmp_path / "work")
    test = clip("test", "test", [True])
    whom = corpus(whole("a", "train"), whole("b", "validation"), test)
    toy_corpora.write_features(place.streams["face"], {"a": 14})
    found = cost.check_given_features(place, "face", whom)
    assert found.status == "FAIL"
    assert found.found.startswith("1 of 2 clips have features")
    assert found.found.endswith("wrong is b")
    assert "--like" in found.remedy
    toy_corpora.write_features(place.streams["face"], {"b": 13})
    assert "1 of another number of frames; wrong is b" in cost.check_given_features(place, "face", whom).found
    whom = corpus(whole("a", "train"), whole("b", "validation", 13), test)
    assert cost.check_given_features(place, "face", whom).status == "PASS"


def test_a_sample_of_crops_is_spread_over_all_clips():
    clips = [clip(f"c{k}", "train", [False, True, True, True]) for k in range(4)]
    chosen = cost.spread(clips, 4)
    assert [(c.id, f) for c, f in chosen] == [("c0", 1), ("c1", 1), ("c2", 2), ("c3", 3)]
    assert len(cost.spread(clips, 100)) == 12
    assert cost.spread([clip("x", "train", [False])], 4) == []


def test_the_same_census_gives_the_same_picture_also_without_labels_of_a_task():
    census = take(corpus(whole("t", "train"), clip("v", "validation", [True] * 3)))
    assert as_png(census, "a") == as_png(census, "a")
    assert as_png(take(corpus(clip("t", "test", [True]))), "b").startswith(b"\x89PNG")
