"""The DISFA reader: intensities become occurrence, two cameras are one person."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sequence_trees import AUS_12, disfa, pictures, put

from extract import corpora
from extract.corpora.labelspace import to_space
from extract.corpora.splits import check
from stores.editions import AU_12
from stores.errors import CorpusError

NAMES = tuple(f"AU{unit}" for unit in AUS_12)


def load(root, **options):
    return corpora.load("disfa", root, "", **options)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_table_of_intensities_survives_the_round_trip(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("disfa")
    rows = data.draw(st.integers(1, 6))
    table = data.draw(
        st.lists(st.lists(st.integers(0, 5), min_size=12, max_size=12), min_size=rows, max_size=rows)
    )
    threshold = data.draw(st.integers(1, 5))
    pictures(root / "Images" / "SN001", [f"{i + 1}.png" for i in range(rows)])
    for column, unit in enumerate(AUS_12):
        lines = [f"{row + 1},{table[row][column]}" for row in range(rows)]
        put(root / f"ActionUnit_Labels/SN001/SN001_au{unit}.txt", "\n".join(lines))
    corpus = load(root, au_threshold=threshold)
    assert (corpus.expression_names, corpus.au_names) == ((), NAMES)
    (clip,) = corpus.clips
    np.testing.assert_array_equal(clip.labels.au, (np.array(table) >= threshold).astype(np.int8))
    assert (clip.labels.expression == -1).all()
    assert np.isnan(clip.labels.valence).all()
    assert np.isnan(clip.labels.arousal).all()


def test_intensity_two_counts_as_present_unless_another_threshold_is_set(tmp_path):
    disfa(tmp_path, rows=6)
    corpus = load(tmp_path)
    assert corpus.clips[0].labels.au[:, 0].tolist() == [0, 0, 1, 1, 1, 1]
    assert corpus.notes[0] == "an action unit of intensity 2 or more counts as present (au_threshold)"
    corpus = load(tmp_path, au_threshold=4)
    assert corpus.clips[0].labels.au[:, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert corpus.notes[0].startswith("an action unit of intensity 4 or more")


def test_the_left_and_the_right_camera_are_one_subject_with_the_same_labels(tmp_path):
    disfa(tmp_path, folder="cropped_aligned/LeftVideoSN001_comp")
    pictures(tmp_path / "cropped_aligned/RightVideoSN001_comp", ["00001.jpg"])
    corpus = load(tmp_path)
    left, right = corpus.clips
    assert (left.id, right.id) == ("SN001_left", "SN001_right")
    assert left.subject == right.subject == "SN001"
    assert left.video == right.video
    np.testing.assert_array_equal(left.labels.au, right.labels.au)
    assert any(note.startswith("1 clips are of the right camera") for note in corpus.notes)
    check(corpus)


@pytest.mark.parametrize(
    ("folder", "clip"),
    [
        ("LeftVideoSN001_comp", "SN001_left"),
        ("LeftVideoSN001", "SN001_left"),
        ("RightVideoSN001_comp", "SN001_right"),
        ("SN001", "SN001"),
    ],
)
def test_folders_of_pictures_are_called_as_the_video_or_the_subject(tmp_path, folder, clip):
    disfa(tmp_path, folder=f"Images/{folder}")
    assert [found.id for found in load(tmp_path).clips] == [clip]


def test_a_unit_of_abaw_that_disfa_does_not_code_is_unknown_never_absent(tmp_path):
    disfa(tmp_path)
    mapped, report = to_space(load(tmp_path), (), AU_12, {})
    assert report.absent_aus == ("AU7", "AU10", "AU23", "AU24")
    for column, name in enumerate(AU_12):
        assert (mapped.clips[0].labels.au[:, column] == -1).all() == (name in report.absent_aus)


def test_a_subject_without_pictures_is_refused_by_name(tmp_path):
    disfa(tmp_path)
    put(tmp_path / "ActionUnit_Labels/SN002/SN002_au1.txt", "1,0\n")
    with pytest.raises(CorpusError, match=r"1 annotated subjects have no folder .*SN002"):
        load(tmp_path)


def test_frames_are_numbered_from_one_and_found_by_number_not_by_place(tmp_path):
    path = disfa(tmp_path)
    path.write_text("1,5\n2,0\n4,5\n")
    corpus = load(tmp_path)
    assert corpus.clips[0].labels.au[:, 0].tolist() == [1, 0, -1, 1]
    pictures(tmp_path / "Images/SN001", ["00000.jpg"])
    with pytest.raises(CorpusError, match=r"00000.jpg: expected frames numbered from 1"):
        load(tmp_path)


def test_a_unit_without_a_file_is_unknown_and_noted(tmp_path):
    disfa(tmp_path).unlink()
    corpus = load(tmp_path)
    assert (corpus.clips[0].labels.au[:, 0] == -1).all()
    assert (corpus.clips[0].labels.au[:, 1:] >= 0).all()
    assert "1 subjects have no file for some action units: SN001" in corpus.notes


def test_files_of_one_subject_may_differ_by_two_rows_and_no_more(tmp_path):
    path = disfa(tmp_path, rows=6)
    rows = path.read_text().split("\n")
    path.write_text("\n".join(rows[:4]))
    assert load(tmp_path).clips[0].labels.au[:, 0].tolist() == [0, 0, 1, 1, -1, -1]
    path.write_text("\n".join(rows[:3]))
    with pytest.raises(
        CorpusError, match=r"_au12.txt, line 6 \(frame number 6\): beyond the end of .*_au1.txt"
    ):
        load(tmp_path)


def test_pictures_may_go_on_after_the_last_code_for_a_little(tmp_path):
    disfa(tmp_path)
    pictures(tmp_path / "Images/SN001", [f"{i + 1:05d}.jpg" for i in range(4, 19)])
    (clip,) = load(tmp_path).clips
    assert len(clip.frames) == 19
    assert (clip.labels.au[4:] == -1).all()
    pictures(tmp_path / "Images/SN001", ["00020.jpg"])
    with pytest.raises(
        CorpusError, match=r"00020.jpg: beyond the end of .*SN001_au1.txt, whose last frame number is 4"
    ):
        load(tmp_path)


def test_the_number_of_subjects_is_compared_with_the_release(tmp_path):
    disfa(tmp_path)
    assert "1 subjects, where the release has 27" in load(tmp_path).notes


@pytest.mark.parametrize(
    "name", ["frame_det_00_000002.jpg", "LeftVideoSN001_comp_0002.png", "2.JPG", "0002.jpeg"]
)
def test_the_number_at_the_end_of_a_name_is_the_frame(tmp_path, name):
    disfa(tmp_path)
    (tmp_path / "Images/SN001/00002.jpg").rename(tmp_path / "Images/SN001" / name)
    assert load(tmp_path).clips[0].frames[1] == tmp_path / "Images/SN001" / name
