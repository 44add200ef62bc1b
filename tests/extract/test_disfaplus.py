"""The DISFA+ reader: a clip is a trial, whose frames are numbered from 000."""

import numpy as np
import pytest
from sequence_trees import AUS_12, disfaplus, pictures, put

from extract import corpora
from stores.errors import CorpusError

TRIAL = "SN001/A1_AU1_TrailNo_1"


def load(root, **options):
    return corpora.load("disfaplus", root, "", **options)


def test_a_trial_comes_back_as_its_files_say(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 6, (5, 12))
    pictures(tmp_path / "Images" / TRIAL, [f"{i:03d}.jpg" for i in range(5)])
    for column, unit in enumerate(AUS_12):
        lines = [f"{row:03d}.jpg     {value}" for row, value in enumerate(table[:, column])]
        put(tmp_path / f"Labels/{TRIAL}/AU{unit}.txt", "\n".join(lines) + "\n")
    for threshold in range(1, 6):
        corpus = load(tmp_path, au_threshold=threshold)
        (clip,) = corpus.clips
        np.testing.assert_array_equal(clip.labels.au, (table >= threshold).astype(np.int8))
    np.testing.assert_array_equal(load(tmp_path).clips[0].labels.au, (table >= 2).astype(np.int8))
    assert corpus.au_names == tuple(f"AU{unit}" for unit in AUS_12)
    assert corpus.expression_names == ()
    assert list(clip.frames) == [tmp_path / "Images" / TRIAL / f"{i:03d}.jpg" for i in range(5)]


def test_trailno_is_kept_as_the_release_spells_it(tmp_path):
    disfaplus(tmp_path)
    (clip,) = load(tmp_path).clips
    assert (clip.id, clip.subject) == ("SN001_A1_AU1_TrailNo_1", "SN001")


def test_frames_are_numbered_from_zero_and_crops_from_one(tmp_path):
    path = disfaplus(tmp_path)
    path.write_text("000.jpg     5\n002.jpg     5\n")
    assert load(tmp_path).clips[0].labels.au[:3, 0].tolist() == [1, -1, 1]
    pictures(tmp_path / "cropped/SN001_A1_AU1_TrailNo_1", ["00001.jpg"])
    (clip,) = load(tmp_path).clips
    assert clip.frames[0].name == "00001.jpg"
    assert clip.labels.au[0, 0] == 1


def test_files_of_one_trial_that_end_apart_are_refused_by_line(tmp_path):
    path = disfaplus(tmp_path, rows=6)
    path.write_text("000.jpg     5\n")
    with pytest.raises(
        CorpusError, match=r"AU12.txt, line 4 \(frame number 3\): beyond the end of .*AU1.txt"
    ):
        load(tmp_path)


def test_pictures_far_beyond_the_last_row_are_refused(tmp_path):
    disfaplus(tmp_path)
    pictures(tmp_path / "Images" / TRIAL, ["006.jpg"])
    with pytest.raises(CorpusError, match=r"006.jpg: beyond the end of .*whose last frame number is 3"):
        load(tmp_path)


def test_a_unit_without_a_file_is_unknown_and_noted(tmp_path):
    disfaplus(tmp_path).unlink()
    corpus = load(tmp_path)
    assert (corpus.clips[0].labels.au[:, 0] == -1).all()
    assert "1 trials have no file for some action units: SN001_A1_AU1_TrailNo_1" in corpus.notes
    assert "1 subjects, where the release has 9" in corpus.notes
