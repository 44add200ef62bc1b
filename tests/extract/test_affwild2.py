"""The Aff-Wild2 reader: what is in the files comes out, and every wart is read, noted or refused by name."""

import re
from pathlib import Path

import numpy as np
import pytest
from affwild2_tree import AU, EXPR
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import corpora
from extract.corpora.readers.affwild2 import challenge
from stores.editions import AU_8, AU_12, EXPR_7
from stores.errors import ConfigError, CorpusError

SWAPPED = EXPR.replace("Anger,Disgust", "Disgust,Anger")


def load(tree, edition="abaw2"):
    return corpora.load("affwild2", tree.root, edition)


def only_clip(tree):
    (clip,) = load(tree).clips
    return clip


def refusal(tree):
    with pytest.raises(CorpusError) as caught:
        load(tree)
    return str(caught.value)


def test_a_clip_comes_back_as_its_files_say(tree):
    tree.crops("video1", [1, 2, 3])
    tree.annotate("VA", "Train_Set", "video1", ["0.5,-0.25", "-1,1", "0,0.125"])
    tree.annotate("EXPR", "Train_Set", "video1", [0, 6, 3])
    tree.annotate("AU", "Train_Set", "video1", ["1,0,0,0,0,0,0,0,0,0,0,1"] * 3)
    corpus = load(tree)
    assert (corpus.name, corpus.edition) == ("affwild2", "abaw2")
    assert (corpus.expression_names, corpus.au_names) == (EXPR_7, AU_12)
    assert all("Validation_Set: no validation labels" in note for note in corpus.notes)
    (clip,) = corpus.clips
    assert (clip.id, clip.split, clip.subject, clip.fps) == ("video1", "train", "video1", 30.0)
    assert clip.audio is None
    np.testing.assert_array_equal(clip.labels.valence, np.float32([0.5, -1, 0]))
    np.testing.assert_array_equal(clip.labels.arousal, np.float32([-0.25, 1, 0.125]))
    np.testing.assert_array_equal(clip.labels.expression, np.int8([0, 6, 3]))
    assert clip.labels.au.shape == (3, 12)
    assert clip.labels.au[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_row_i_is_frame_i_is_the_crop_numbered_i_plus_one(tree):
    tree.crops("video1", [1, 3])
    tree.annotate("EXPR", "Train_Set", "video1", [0, 1, 2, 3])
    clip = only_clip(tree)
    folder = tree.root / "cropped_aligned" / "video1"
    assert list(clip.frames) == [folder / "00001.jpg", None, folder / "00003.jpg", None]
    assert clip.frames[-2] == folder / "00003.jpg"
    assert clip.frames[1:3] == (None, folder / "00003.jpg")
    with pytest.raises(IndexError):
        clip.frames[4]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_table_of_labels_survives_the_round_trip(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("round") / "corpus"
    rows = data.draw(st.integers(1, 12))
    va = data.draw(st.lists(st.tuples(*[st.integers(-1000, 1000)] * 2), min_size=rows, max_size=rows))
    expression = data.draw(st.lists(st.integers(-1, 6), min_size=rows, max_size=rows))
    cells = st.lists(st.integers(-1, 1), min_size=12, max_size=12)
    au = data.draw(st.lists(cells, min_size=rows, max_size=rows))
    (root / "cropped_aligned" / "c").mkdir(parents=True)
    (root / "cropped_aligned" / "c" / "00001.jpg").touch()
    for task, header, lines in (
        ("VA_Set", "valence,arousal", [f"{v / 1000},{a / 1000}" for v, a in va]),
        ("EXPR_Set", EXPR, [str(value) for value in expression]),
        ("AU_Set", AU, [",".join(map(str, row)) for row in au]),
    ):
        path = root / "annotations" / task / "Validation_Set" / "c.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join([header, *lines]))
    labels = corpora.load("affwild2", root, "abaw2").clips[0].labels
    np.testing.assert_array_equal(labels.valence, np.array([v / 1000 for v, _ in va], np.float32))
    np.testing.assert_array_equal(labels.arousal, np.array([a / 1000 for _, a in va], np.float32))
    assert labels.expression.tolist() == expression
    assert labels.au.tolist() == au


def test_minus_five_in_either_column_makes_the_whole_va_row_unknown(tree):
    tree.crops("video1", [1])
    tree.annotate("VA", "Train_Set", "video1", ["-5,-5", "-5,0.5", "0.5,-5", "-1,-1", "-1.5,0"])
    labels = only_clip(tree).labels
    assert np.isnan(labels.valence).tolist() == [True, True, True, False, True]
    np.testing.assert_array_equal(np.isnan(labels.valence), np.isnan(labels.arousal))


def test_minus_one_is_unknown_for_an_expression_and_for_a_single_au_cell(tree):
    tree.crops("video1", [1])
    tree.annotate("EXPR", "Train_Set", "video1", [-1, 2])
    tree.annotate("AU", "Train_Set", "video1", ["-1,0,1" + ",0" * 9, ",".join(["-1"] * 12)])
    labels = only_clip(tree).labels
    assert labels.expression.tolist() == [-1, 2]
    assert labels.au[0, :3].tolist() == [-1, 0, 1]
    assert (labels.au[1] == -1).all()


def test_a_task_that_does_not_annotate_a_clip_is_unknown_there(tree):
    tree.whole("video1")
    tree.crops("video2", [1, 2])
    tree.annotate("AU", "Train_Set", "video2", ["0" + ",1" * 11] * 2)
    labels = load(tree).clips[1].labels
    assert np.isnan(labels.valence).all()
    assert (labels.expression == -1).all()
    assert (labels.au >= 0).all()


def test_windows_line_ends_byte_order_mark_blanks_and_trailing_blank_lines_are_tolerated(tree):
    tree.crops("video1", [1, 2])
    header = " neutral, Anger,DISGUST,Fear,Happiness,Sadness,Surprise "
    tree.annotate("EXPR", "Train_Set", "video1", ["1", " 2 ", "", "  "], header, "\r\n", b"\xef\xbb\xbf")
    assert only_clip(tree).labels.expression.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("task", "rows", "line"),
    [
        ("VA", ["0,0", "0,1.01"], 3),
        ("VA", ["nan,0"], 2),
        ("VA", ["0,inf"], 2),
        ("VA", ["0,-inf"], 2),
        ("VA", ["0,0", "0,0", "0"], 4),
        ("VA", ["0,0,0"], 2),
        ("VA", ["0,zero"], 2),
        ("VA", ["0,0", "", "0,0"], 3),
        ("VA", ["0,0", "  ", "0,0"], 3),
        ("VA", ["0,0,"], 2),
        ("EXPR", [0, 7], 3),
        ("EXPR", [-2], 2),
        ("EXPR", [1.5], 2),
        ("EXPR", ["1,2"], 2),
        ("EXPR", ["0", "", "0"], 3),
        ("AU", [",".join("2" * 12)], 2),
        ("AU", [",".join("0" * 12), ",".join("0" * 11)], 3),
        ("AU", [",".join(["0.5"] * 12)], 2),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tree, task, rows, line):
    tree.crops("video1", [1])
    path = tree.annotate(task, "Train_Set", "video1", rows)
    message = refusal(tree)
    assert f"{path}, line {line} (frame {line - 2})" in message
    assert "expected" in message


@pytest.mark.parametrize(
    ("task", "header", "rows", "told"),
    [
        ("EXPR", SWAPPED, [1] * 4, "another order"),
        ("AU", ",".join(AU_8), [",".join("0" * 8)] * 4, AU),
        ("VA", "0.3,0.4", ["0.1,0.2"], "found header '0.3,0.4'"),
        ("VA", None, [], "header without any row"),
    ],
    ids=["classes in another order", "units of another edition", "no header", "no row"],
)
def test_a_header_that_is_not_that_of_the_edition_is_one_clear_error(tree, task, header, rows, told):
    tree.whole("video1")
    path = tree.annotate(task, "Train_Set", "video1", rows, header)
    message = refusal(tree)
    assert message.startswith(f"{path}, line 1: " if rows else f"{path}: ")
    assert told in message
    assert "\n" not in message


def test_a_binary_file_and_a_folder_are_refused_by_name(tree):
    tree.crops("video1", [1])
    path = tree.annotate("VA", "Train_Set", "video1", [])
    path.write_bytes(b"valence,arousal\n\xff\xfe\x00")
    assert f"{path}: not a text file" in refusal(tree)
    path.unlink()
    path.mkdir()
    assert f"{path}: cannot be read" in refusal(tree)


@pytest.mark.parametrize("folder", ["Train_Set", "Training_Set"])
def test_both_spellings_of_the_training_folder_are_read(tree, folder):
    tree.whole("video1", folder)
    assert only_clip(tree).split == "train"


def test_a_clip_annotated_twice_for_one_task_is_refused(tree):
    tree.whole("video1", "Train_Set")
    tree.annotate("VA", "Validation_Set", "video1", ["0,0"] * 4)
    assert "keep one of them" in refusal(tree)


def test_task_files_and_crops_may_differ_by_two_rows_and_the_longest_counts(tree):
    tree.crops("video1", range(1, 7))
    tree.annotate("VA", "Train_Set", "video1", ["0,0"] * 3)
    tree.annotate("EXPR", "Train_Set", "video1", [1] * 4)
    tree.annotate("AU", "Train_Set", "video1", [",".join("0" * 12)] * 5)
    corpus = load(tree)
    (clip,) = corpus.clips
    assert len(clip.frames) == 6
    assert np.isnan(clip.labels.valence).tolist() == [False] * 3 + [True] * 3
    assert clip.labels.expression.tolist() == [1] * 4 + [-1] * 2
    assert clip.labels.au[:, 0].tolist() == [0] * 5 + [-1]
    assert any("different row counts" in note for note in corpus.notes)
    assert any("beyond their last row" in note for note in corpus.notes)


@pytest.mark.parametrize(
    ("crops", "expressions", "told"), [([1], 8, "EXPR_Set 8 rows"), ([1, 8], 5, "last crop 00008.jpg")]
)
def test_larger_differences_of_rows_and_crops_are_refused_by_clip_and_counts(tree, crops, expressions, told):
    tree.crops("video1", crops)
    tree.annotate("VA", "Train_Set", "video1", ["0,0"] * 5)
    tree.annotate("EXPR", "Train_Set", "video1", [1] * expressions)
    message = refusal(tree)
    for part in ("video1", "VA_Set 5 rows", told):
        assert part in message


def test_rows_far_beyond_the_last_crop_are_frames_without_a_face(tree):
    tree.crops("video1", [2])
    tree.annotate("VA", "Train_Set", "video1", ["0,0"] * 50)
    assert sum(path is not None for path in only_clip(tree).frames) == 1


def test_a_clip_in_two_splits_is_validation_without_its_training_labels(tree):
    tree.crops("video1", [1, 2])
    tree.annotate("VA", "Train_Set", "video1", ["0.5,0.5"] * 2)
    tree.annotate("EXPR", "Validation_Set", "video1", [3, 3])
    corpus = load(tree)
    (clip,) = corpus.clips
    assert clip.split == "validation"
    assert np.isnan(clip.labels.valence).all()
    assert clip.labels.expression.tolist() == [3, 3]
    assert any(note.startswith("1 clips are in the training split of one task") for note in corpus.notes)


def test_only_left_and_right_are_cut_from_a_clip_to_name_its_video(tree):
    subjects = {
        "video59_right": "video59",
        "6-30-1920x1080_left": "6-30-1920x1080",
        "video45_1": "video45_1",
        "122-60-1920x1080-5": "122-60-1920x1080-5",
        "video7_left_2": "video7_left_2",
    }
    for clip in subjects:
        tree.whole(clip)
    assert {clip.id: clip.subject for clip in load(tree).clips} == subjects


def test_two_people_of_one_video_in_different_splits_are_noted(tree):
    tree.whole("video59_left", "Train_Set")
    tree.whole("video59_right", "Validation_Set")
    assert any("video59" in note and "different splits" in note for note in load(tree).notes)


def test_crops_without_annotation_are_the_test_split(tree):
    tree.whole("video1")
    tree.crops("video2", [2, 5])
    corpus = load(tree)
    test = corpus.clips[1]
    assert corpus.notes[-1] == "1 clips have no annotation file and are the test split: video2"
    assert (test.id, test.split, len(test.frames)) == ("video2", "test", 5)
    assert np.isnan(test.labels.valence).all()
    assert (test.labels.au == -1).all()


def test_an_annotated_clip_without_crops_is_refused(tree):
    tree.whole("video1")
    tree.annotate("VA", "Train_Set", "video2", ["0,0"])
    message = refusal(tree)
    assert "video2" in message
    assert "no folder" in message
    (tree.root / "cropped_aligned" / "video2").mkdir()
    assert re.search(r"video2 holds no crop \(found nothing\)", refusal(tree))


def test_other_files_among_the_crops_are_noted_not_read(tree):
    folder = tree.root / "cropped_aligned" / tree.whole("video1")
    for name in (".DS_Store", "Thumbs.db", "00001.jpg.bak", "1.jpg", "000009.jpg", "99999999.jpg"):
        (folder / name).touch()
    corpus = load(tree)
    assert len(corpus.clips[0].frames) == 4
    assert corpus.notes[-1] == "5 files among the crops are not crops and were not read"


def test_crops_numbered_from_zero_are_refused(tree):
    folder = tree.root / "cropped_aligned" / tree.whole("video1")
    (folder / "00000.jpg").touch()
    assert "numbered from 00001.jpg" in refusal(tree)


def test_a_missing_task_or_split_is_noted(tree):
    tree.crops("video1", [1])
    tree.annotate("VA", "Train_Set", "video1", ["0,0"])
    notes = load(tree).notes
    assert any("annotations/AU_Set" in note for note in notes)
    assert any("annotations/VA_Set/Validation_Set" in note for note in notes)


def test_missing_folders_and_empty_trees_are_refused_by_name(tmp_path, tree):
    for root, part in (
        (tmp_path / "nowhere", "no folder cropped_aligned"),
        (tree.root, "no folder annotations"),
    ):
        with pytest.raises(CorpusError, match=part):
            corpora.load("affwild2", root, "abaw2")
    (tree.root / "annotations" / "VA_Set" / "Train_Set").mkdir(parents=True)
    assert "no annotation file" in refusal(tree)


def test_the_first_edition_is_read_with_its_eight_action_units(tree):
    tree.crops("video1", [1])
    tree.annotate("AU", "Training_Set", "video1", [",".join("1" * 8)], ",".join(AU_8))
    corpus = load(tree, "abaw1")
    assert corpus.au_names == AU_8
    assert corpus.clips[0].labels.au.tolist() == [[1] * 8]


def test_unknown_kinds_and_editions_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"affwild2, affwild2_mtl, .*rendered"):
        corpora.load("affwild", Path(), "abaw2")
    with pytest.raises(ConfigError, match="abaw1, abaw2"):
        corpora.load("affwild2", Path(), "abaw99")
    with pytest.raises(ConfigError, match="another file layout"):
        challenge.load(Path(), "abaw4")
