"""The CK+ reader: labels of the peak frame alone, by name, with what was not graded."""

import numpy as np
import pytest
from sequence_trees import ckplus, pictures, put

from extract import corpora
from extract.corpora.labelspace import to_space
from stores.editions import EXPR_7
from stores.errors import CorpusError


def load(root, **options):
    return corpora.load("ckplus", root, "", **options)


def test_a_sequence_comes_back_as_its_files_say(tmp_path):
    ckplus(tmp_path, emotion=7, facs=((1, 3), (26, 0), (5, 5)))
    corpus = load(tmp_path)
    (clip,) = corpus.clips
    assert (clip.id, clip.subject, clip.fps) == ("S005_001", "S005", 30.0)
    assert corpus.au_names == ("AU1", "AU5", "AU26")
    assert clip.labels.expression.tolist() == [-1, -1, -1, 7]
    assert clip.labels.au[-1].tolist() == [1, 1, 1]
    assert np.isnan(clip.labels.valence).all()
    assert [path.name for path in clip.frames] == [f"S005_001_{i + 1:08d}.png" for i in range(4)]


@pytest.mark.parametrize(
    ("number", "name"),
    list(enumerate(["neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"])),
)
def test_emotions_go_by_the_order_of_the_corpus(tmp_path, number, name):
    ckplus(tmp_path, emotion=number)
    corpus = load(tmp_path)
    assert corpus.expression_names[corpus.clips[0].labels.expression[-1]] == name


def test_every_emotion_but_contempt_is_a_class_of_abaw(tmp_path):
    for number in range(8):
        ckplus(tmp_path, sequence=f"S{number:03d}_001", emotion=number)
    mapped, report = to_space(load(tmp_path), EXPR_7, (), {})
    assert [clip.labels.expression[-1] for clip in mapped.clips] == [0, 1, -1, 2, 3, 4, 5, 6]
    assert [m.source for m in report.expressions if m.target is None] == ["contempt"]


def test_the_labels_are_of_the_last_frame_alone(tmp_path):
    ckplus(tmp_path)
    corpus = load(tmp_path)
    labels = corpus.clips[0].labels
    assert (labels.expression[:-1] == -1).all()
    assert (labels.au[:-1] == -1).all()
    assert (labels.au[-1] >= 0).all()
    assert "3 frames have a picture and no label" in corpus.notes


def test_a_unit_that_is_not_listed_is_absent(tmp_path):
    ckplus(tmp_path, facs=((1, 3),))
    ckplus(tmp_path, sequence="S010_002", facs=((2, 3),))
    corpus = load(tmp_path)
    assert corpus.au_names == ("AU1", "AU2")
    assert [clip.labels.au[-1].tolist() for clip in corpus.clips] == [[1, 0], [0, 1]]


def test_intensity_zero_is_present_and_unknown_above_the_first_threshold(tmp_path):
    ckplus(tmp_path, facs=((1, 0), (2, 1), (4, 3)))
    ckplus(tmp_path, sequence="S010_002", facs=((5, 1),))
    assert load(tmp_path).clips[0].labels.au[-1].tolist() == [1, 1, 1, 0]
    corpus = load(tmp_path, au_threshold=3)
    assert corpus.clips[0].labels.au[-1].tolist() == [-1, 0, 1, 0]
    assert corpus.notes[0] == "an action unit of intensity 3 or more counts as present (au_threshold)"


@pytest.mark.parametrize("empty_folder", [True, False])
def test_a_sequence_without_an_emotion_has_its_action_units(tmp_path, empty_folder):
    ckplus(tmp_path, emotion=None)
    if empty_folder:
        (tmp_path / "Emotion/S005/001").mkdir(parents=True)
    corpus = load(tmp_path)
    assert (corpus.clips[0].labels.expression == -1).all()
    assert corpus.clips[0].labels.au[-1].tolist() == [1, 1, 1]
    assert "0 sequences with an emotion, where the release has 327" in corpus.notes


def test_a_sequence_without_facs_has_its_emotion(tmp_path):
    ckplus(tmp_path).unlink()
    ckplus(tmp_path, sequence="S010_002")
    corpus = load(tmp_path)
    assert corpus.clips[0].labels.expression[-1] == 3
    assert (corpus.clips[0].labels.au == -1).all()


def test_a_code_that_is_no_action_unit_leaves_those_unknown_that_are_not_listed(tmp_path):
    path = ckplus(tmp_path, facs=((1, 3), (1.5, 2)))
    ckplus(tmp_path, sequence="S010_002", facs=((15, 3),))
    corpus = load(tmp_path)
    assert corpus.au_names == ("AU1", "AU15")
    assert corpus.clips[0].labels.au[-1].tolist() == [1, -1]
    assert any(f"1.5 ({path}, line 2)" in note for note in corpus.notes)


def test_blank_lines_among_action_units_are_tolerated(tmp_path):
    path = ckplus(tmp_path)
    path.write_text(path.read_text().replace("\n", "\n\n"))
    assert load(tmp_path).clips[0].labels.au[-1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "line"), [("8", 1), ("-1", 1), ("3.5", 1), ("happy", 1), ("nan", 1), ("3 3", 1), ("3\n4", 2)]
)
def test_a_bad_emotion_is_refused_by_file_and_line(tmp_path, text, line):
    ckplus(tmp_path)
    path = put(tmp_path / "Emotion/S005/001/S005_001_00000004_emotion.txt", text)
    with pytest.raises(CorpusError) as caught:
        load(tmp_path)
    assert f"{path}, line {line}: found" in str(caught.value)


def test_a_peak_beyond_the_last_picture_is_refused_by_file(tmp_path):
    ckplus(tmp_path)
    folder = tmp_path / "FACS/S005/001"
    path = (folder / "S005_001_00000004_facs.txt").rename(folder / "S005_001_00000009_facs.txt")
    with pytest.raises(CorpusError, match=r"frame number 9\): beyond the end of") as caught:
        load(tmp_path)
    assert str(path) in str(caught.value)


def test_a_peak_before_the_last_picture_is_noted(tmp_path):
    ckplus(tmp_path)
    pictures(tmp_path / "cohn-kanade-images/S005/001", ["S005_001_00000005.png"])
    corpus = load(tmp_path)
    assert corpus.clips[0].labels.expression.tolist() == [-1, -1, -1, 3, -1]
    assert "1 sequences go on after the frame that is labelled: S005_001" in corpus.notes
