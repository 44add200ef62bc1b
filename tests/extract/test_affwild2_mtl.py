"""The multi-task files: rows in the order of the file, frames on the timeline of their clip."""

import numpy as np
import pytest
from affwild2_releases import (
    MULTITASK,
    MULTITASK_FILES,
    MULTITASK_HEADER,
    NAMES,
    draw_multitask,
    write_crops,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import corpora
from extract.corpora.readers.affwild2 import counts, static_frames
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError, CorpusError

UNKNOWN_AUS = ",".join(["-1"] * 12)
ZERO_AUS = ",".join(["0"] * 12)


def write(root, rows, name="training_set_annotations.txt", header=MULTITASK_HEADER):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]))
    return path


def load(root, edition="abaw4"):
    return corpora.load("affwild2_mtl", root, edition)


def refusal(root):
    with pytest.raises(CorpusError) as caught:
        load(root)
    return str(caught.value)


def values(labels, row):
    """Task -> the values of one row, NaN = unknown."""
    expression, au = labels.expression[row], labels.au[row].astype(float)
    return {
        "VA": np.array([labels.valence[row], labels.arousal[row]], np.float32),
        "EXPR": np.array([np.nan if expression < 0 else expression]),
        "AU": np.where(au < 0, np.nan, au),
    }


@pytest.mark.parametrize("name", MULTITASK)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_drawn_tree_of_every_multitask_edition_comes_back_exactly(tmp_path_factory, name, seed):
    root = tmp_path_factory.mktemp("drawn") / "corpus"
    truths, crops, listed = draw_multitask(root, name, seed)
    corpus = load(root, name)
    assert (corpus.name, corpus.edition) == ("affwild2_mtl", name)
    assert (corpus.expression_names, corpus.au_names) == (EXPR_8, AU_12)
    clips = {clip.id: clip for clip in corpus.clips}
    assert list(clips) == sorted(NAMES)
    named = {clip: set() for clip in NAMES}
    for split, rows in truths.items():
        first = {}  # (clip, frame, task, column) -> the first known value
        for clip, frame, tasks in rows:
            assert clips[clip].split == split
            named[clip].add(frame)
            for task, row in tasks.items():
                for column, value in enumerate(row):
                    if not np.isnan(value):
                        first.setdefault((clip, frame, task, column), value)
        for clip, frame, _ in rows:
            for task, found in values(clips[clip].labels, frame).items():
                expected = [first.get((clip, frame, task, column), np.nan) for column in range(len(found))]
                np.testing.assert_array_equal(found, np.array(expected, found.dtype))
    named[NAMES[5]] = {int(name[-9:-4]) - 1 for name in listed}
    assert clips[NAMES[5]].split == "test"
    for clip in corpus.clips:
        folder = root / "cropped_aligned" / clip.id
        expected = {frame: folder / f"{frame + 1:05d}.jpg" for frame in named[clip.id] & crops[clip.id]}
        assert {i: path for i, path in enumerate(clip.frames) if path is not None} == expected
        assert len(clip.frames) == max(named[clip.id]) + 1
        unnamed = [i for i in range(len(clip.frames)) if i not in named[clip.id]]
        assert np.isnan(clip.labels.valence[unnamed]).all()
        assert (clip.labels.expression[unnamed] == -1).all()
        assert (clip.labels.au[unnamed] == -1).all()


@pytest.mark.parametrize("name", MULTITASK)
def test_every_row_is_kept_in_the_order_of_the_file_repeated_names_too(tmp_path, name):
    truths, _, _ = draw_multitask(tmp_path, name, 7)
    for split, spellings in MULTITASK_FILES.items():
        (path,) = [path for spelling in spellings for path in tmp_path.rglob(spelling)]
        rows = static_frames.read(path, name)
        assert [rows.names.name(i) for i in range(len(rows.names))] == [
            f"{clip}/{frame + 1:05d}.jpg" for clip, frame, _ in truths[split]
        ]
        assert rows.names.repeated() > 0
        for index, (_, _, tasks) in enumerate(truths[split]):
            for task, found in values(rows.labels, index).items():
                np.testing.assert_array_equal(found, tasks[task].astype(found.dtype))


def test_rows_of_one_frame_complete_each_other_and_the_first_that_knows_a_label_decides(tmp_path):
    write_crops(tmp_path, "video1", {0, 7})
    ones = ",".join(["1"] * 12)
    write(
        tmp_path,
        [
            f"video1/00008.jpg,-5,-5,3,{UNKNOWN_AUS}",
            f"video1/00001.jpg,0.5,0.5,1,{ZERO_AUS}",
            f"video1/00008.jpg,0.25,-0.5,4,-1,1{',-1' * 10}",
            f"video1/00008.jpg,0.75,0.5,3,{ones}",
        ],
    )
    corpus = load(tmp_path)
    labels = corpus.clips[0].labels
    assert len(labels.valence) == 8
    assert (labels.valence[7], labels.arousal[7], labels.expression[7]) == (0.25, -0.5, 3)
    assert labels.au[7].tolist() == [1] * 12
    assert (
        "2 rows of training_set_annotations.txt name a crop that an earlier row names: they complete it; 2 "
        "contradict it and do not count there, the first in line 4"
    ) in corpus.notes


def test_a_repeated_row_that_agrees_contradicts_nothing(tmp_path):
    write_crops(tmp_path, "video1", {0})
    write(tmp_path, [f"video1/00001.jpg,0.1,0.5,1,{ZERO_AUS}"] * 2)
    (note,) = [note for note in load(tmp_path).notes if "earlier row" in note]
    assert "contradict" not in note


def test_markers_of_unknown_are_those_of_the_single_tracks_and_count_per_cell(tmp_path):
    write_crops(tmp_path, "video1", {0})
    write(tmp_path, [f"video1/00001.jpg,-5,0.5,-1,-1{',1' * 11}"])
    labels = load(tmp_path).clips[0].labels
    assert np.isnan([labels.valence[0], labels.arousal[0]]).all()
    assert labels.expression[0] == -1
    assert labels.au[0].tolist() == [-1, *[1] * 11]


def test_crops_that_no_row_names_are_not_read(tmp_path):
    write_crops(tmp_path, "video1", {0, 1, 2, 9})
    write_crops(tmp_path, "video2", {0})
    write(tmp_path, [f"video1/0000{i}.jpg,0,0,0,{ZERO_AUS}" for i in (1, 3)])
    corpus = load(tmp_path)
    (clip,) = corpus.clips
    assert [path is not None for path in clip.frames] == [True, False, True]
    assert "2 crops are named by no row and were not read, as the rules have it" in corpus.notes
    assert "1 folders of crops are named by no row and were not read: video2" in corpus.notes


def test_a_named_crop_that_is_missing_is_a_frame_without_a_face_and_noted(tmp_path):
    write_crops(tmp_path, "video1", {2})
    write(tmp_path, [f"video1/0000{i}.jpg,0,0,0,{ZERO_AUS}" for i in (1, 3)])
    corpus = load(tmp_path)
    assert [path is not None for path in corpus.clips[0].frames] == [False, False, True]
    assert "1 of 2 named frames have no crop" in corpus.notes


def test_a_frame_beyond_the_end_of_the_clip_is_refused_by_file_and_line(tmp_path):
    write_crops(tmp_path, "video1", {0, 3})
    path = write(tmp_path, [f"video1/{i:05d}.jpg,0,0,0,{ZERO_AUS}" for i in (1, 4, 5, 2)])
    message = refusal(tmp_path)
    assert f"{path}, line 4: video1/00005.jpg is beyond the end of" in message
    assert "last crop is 00004.jpg" in message


def test_a_clip_in_both_files_is_validation_without_its_training_labels(tmp_path):
    write_crops(tmp_path, "video1", {0, 1})
    write(tmp_path, [f"video1/00001.jpg,0.5,0.5,1,{ZERO_AUS}"])
    write(tmp_path, [f"video1/00002.jpg,0.25,0.5,2,{ZERO_AUS}"], "validation_set_annotations.txt")
    corpus = load(tmp_path)
    (clip,) = corpus.clips
    assert clip.split == "validation"
    assert clip.labels.expression.tolist() == [-1, 2]
    assert any(note.startswith("1 clips are in more than one of training") for note in corpus.notes)


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, places in static_frames.PLACES.items() for place in places]
)
@pytest.mark.parametrize("spelling", MULTITASK_FILES["train"])
def test_both_spellings_of_the_files_are_read_wherever_they_lie(tmp_path, name, place, spelling):
    write_crops(tmp_path, "6-30-1920x1080_left", {0})
    write(tmp_path / place, [f"6-30-1920x1080_left/00001.jpg,0,0,0,{ZERO_AUS}"], spelling)
    corpus = load(tmp_path, name)
    assert [(clip.id, clip.subject) for clip in corpus.clips] == [("6-30-1920x1080_left", "6-30-1920x1080")]
    assert "no validation_set_annotations.txt: no validation labels" in corpus.notes


def test_the_files_of_the_edition_are_read_where_several_editions_share_their_crops(tmp_path):
    write_crops(tmp_path, "video1", {0})
    for number, name in enumerate(("abaw3", "abaw4", "abaw7")):
        spelling = MULTITASK_FILES["train"][name == "abaw3"]
        place = static_frames.PLACES[name][0]
        write(tmp_path / place, [f"video1/00001.jpg,0,0,{number},{ZERO_AUS}"], spelling)
    found = {
        name: load(tmp_path, name).clips[0].labels.expression[0]
        for name in ("abaw3", "abaw4", "abaw7", "abaw11")
    }
    assert found == {"abaw3": 0, "abaw4": 1, "abaw7": 2, "abaw11": 2}


def test_both_spellings_side_by_side_and_no_file_at_all_are_refused(tmp_path):
    write_crops(tmp_path, "video1", {0})
    assert "no multi-task annotation file" in refusal(tmp_path)
    for spelling in MULTITASK_FILES["train"]:
        write(tmp_path, [f"video1/00001.jpg,0,0,0,{ZERO_AUS}"], spelling)
    assert "keep the one of the edition" in refusal(tmp_path)


def test_a_named_clip_without_crops_is_refused(tmp_path):
    write_crops(tmp_path, "video1", {0})
    write(tmp_path, [f"video2/00001.jpg,0,0,0,{ZERO_AUS}"])
    assert "have no folder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["abaw1", "abaw2", "abaw5", "abaw6", "abaw8", "abaw10"])
def test_editions_without_multitask_files_are_refused(tmp_path, name):
    write_crops(tmp_path, "video1", {0})
    write(tmp_path, [f"video1/00001.jpg,0,0,0,{ZERO_AUS}"])
    with pytest.raises(ConfigError, match="expected one of abaw3, abaw4, abaw7, abaw11"):
        load(tmp_path, name)


GOOD = f"video1/00001.jpg,0,0,0,{ZERO_AUS}"


@pytest.mark.parametrize(
    ("rows", "line", "found"),
    [
        ([GOOD, "video1/00001.jpg,0,0,0"], 3, "video1/00001.jpg,0,0,0"),
        ([f"{GOOD},0"], 2, ""),
        ([f"{GOOD},"], 2, ""),
        ([GOOD, "", GOOD], 3, "''"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,1.5,0,")], 3, "VA as numbers from -1 to 1"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,0,8,")], 3, "EXPR as whole numbers from -1 to 7"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,0,0.5,")], 3, "EXPR as whole numbers from -1 to 7"),
        ([GOOD, GOOD[:-1] + "2"], 3, "AU as whole numbers from -1 to 1"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,nan,0,")], 3, "15 comma-separated numbers"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,x,0,")], 3, "15 comma-separated numbers"),
        ([GOOD, GOOD.replace("00001", "1")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace("00001", "00000")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace("00001", "0000001")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace("video1/", "")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace("video1/", "a/video1/")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace(".jpg", ".png")], 3, "expected a crop such as"),
        ([GOOD, GOOD.replace(",0,0,0,", ",0,0,9,"), "nonsense"], 3, "EXPR as"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path, rows, line, found):
    write_crops(tmp_path, "video1", {0})
    path = write(tmp_path, rows)
    message = refusal(tmp_path)
    assert f"{path}, line {line}: " in message
    assert found in message


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("image,arousal,valence,expression,aus", "another order"),
        ("image,valence,arousal,expression,aus,extra", "other names"),
        ("image,valence,arousal,expression," + ",".join(AU_12), "other names"),
        (GOOD, "other names"),
    ],
)
def test_a_shuffled_longer_or_missing_header_is_refused(tmp_path, header, hint):
    write_crops(tmp_path, "video1", {0})
    path = write(tmp_path, [GOOD], header=header)
    message = refusal(tmp_path)
    assert f"{path}, line 1: found header" in message
    assert hint in message


def test_a_full_release_that_lost_rows_is_noted(tmp_path, monkeypatch):
    write_crops(tmp_path, "video1", {0, 1})
    write(tmp_path, [f"video1/0000{i}.jpg,0,0,0,{ZERO_AUS}" for i in (1, 2, 1)])
    release = {"rows, train": 3, "repeated names, train": 1, "AU labels, train": 3, "rows in the MTL list": 9}
    monkeypatch.setitem(counts.MULTITASK, "abaw4", release)
    assert not any("full release" in note for note in load(tmp_path).notes)
    release["EXPR labels, train"] = 4
    assert any("EXPR labels, train: 3, released 4" in note for note in load(tmp_path).notes)
