"""The BP4D reader: 9 is unknown, columns go by their number, and coded parts begin anywhere."""

import numpy as np
import pytest
from sequence_trees import BP4D_HEADER, bp4d, pictures, put

from extract import corpora
from stores.errors import CorpusError

UNITS = [int(unit) for unit in BP4D_HEADER.split(",")[1:]]


def load(root, **options):
    return corpora.load("bp4d", root, "", **options)


def grade(root, unit, rows, video="F001_T1", folder="AU-INT"):
    name = f"AU{unit:02d}"
    lines = [f"{frame},{value}\n" for frame, value in rows]
    return put(root / folder / name / f"{video}_{name}.csv", "".join(lines))


def test_a_task_comes_back_as_its_file_says(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.choice([0, 1, 9], (6, 12))
    pictures(tmp_path / "BP4D-training/F001/T1", [f"{i + 1:04d}.jpg" for i in range(6)])
    lines = [",".join(map(str, [i + 1, *row])) for i, row in enumerate(table)]
    put(tmp_path / "AUCoding/F001_T1.csv", "\n".join([BP4D_HEADER, *lines]))
    corpus = load(tmp_path)
    (clip,) = corpus.clips
    assert (clip.id, clip.subject, clip.fps) == ("F001_T1", "F001", 25.0)
    assert corpus.au_names == tuple(f"AU{unit}" for unit in UNITS)
    np.testing.assert_array_equal(clip.labels.au, np.where(table == 9, -1, table))
    assert corpus.notes == ("1 subjects, where the release has 41",)


def test_nine_is_unknown_and_a_unit_that_is_nine_everywhere_is_not_annotated(tmp_path):
    path = bp4d(tmp_path)
    path.write_text("x,1,2,28\n1,9,0,9\n2,1,9,9\n")
    corpus = load(tmp_path)
    assert corpus.au_names == ("AU1", "AU2")
    assert corpus.clips[0].labels.au.tolist() == [[-1, 0], [1, -1], [-1, -1], [-1, -1]]
    assert "nothing is known of AU28, which are left out" in corpus.notes


def test_columns_go_by_the_number_in_the_header_not_by_their_place(tmp_path):
    path = bp4d(tmp_path)
    path.write_text(",12,1\n1,1,0\n")
    corpus = load(tmp_path)
    assert corpus.au_names == ("AU1", "AU12")
    assert corpus.clips[0].labels.au[0].tolist() == [0, 1]


def test_a_unit_that_only_some_files_code_is_unknown_in_the_others(tmp_path):
    bp4d(tmp_path).write_text(",1\n1,1\n")
    pictures(tmp_path / "BP4D-training/M018/T8", ["1.jpg"])
    put(tmp_path / "AUCoding/M018_T8.csv", ",2\n1,1\n")
    corpus = load(tmp_path)
    assert corpus.au_names == ("AU1", "AU2")
    assert [clip.labels.au[0].tolist() for clip in corpus.clips] == [[1, -1], [-1, 1]]


def test_the_coded_part_of_a_task_begins_anywhere_and_the_rest_is_unknown(tmp_path):
    path = bp4d(tmp_path, rows=8)
    path.write_text(",1\n4,1\n5,0\n")
    corpus = load(tmp_path)
    (clip,) = corpus.clips
    assert clip.labels.au[:, 0].tolist() == [-1, -1, -1, 1, 0, -1, -1, -1]
    assert clip.frames[3].name == "0004.jpg"
    assert "6 frames have a picture and no label" in corpus.notes


def test_intensities_replace_the_codes_of_their_units_only_where_a_threshold_is_set(tmp_path):
    bp4d(tmp_path).write_text(",6,7\n1,0,1\n2,0,1\n3,0,1\n4,1,1\n")
    grade(tmp_path, 6, [(1, 0), (2, 3), (3, 9)])
    assert load(tmp_path).clips[0].labels.au[:, 0].tolist() == [0, 0, 0, 1]
    corpus = load(tmp_path, au_threshold=3)
    assert corpus.clips[0].labels.au.tolist() == [[0, 1], [1, 1], [-1, 1], [-1, 1]]
    assert "of AU6, an action unit of intensity 3 or more counts as present (au_threshold)" in corpus.notes
    assert load(tmp_path, au_threshold=4).clips[0].labels.au[:, 0].tolist() == [0, 0, -1, -1]


def test_under_a_threshold_a_video_without_intensities_is_unknown_not_taken_from_its_codes(tmp_path):
    bp4d(tmp_path).write_text(",6,7\n1,1,1\n")
    pictures(tmp_path / "BP4D-training/M018/T8", ["1.jpg"])
    put(tmp_path / "AUCoding/M018_T8.csv", ",6,7\n1,1,1\n")
    grade(tmp_path, 6, [(1, 5)])
    assert [clip.labels.au[0].tolist() for clip in load(tmp_path, au_threshold=2).clips] == [[1, 1], [-1, 1]]


def test_both_names_of_the_folder_of_intensities_are_read(tmp_path):
    bp4d(tmp_path)
    grade(tmp_path, 10, [(1, 5)], folder="AU-Intensity-Codes3.0")
    column = load(tmp_path, au_threshold=1).au_names.index("AU10")
    assert load(tmp_path, au_threshold=1).clips[0].labels.au[:, column].tolist() == [1, -1, -1, -1]


def test_a_threshold_without_intensities_is_refused(tmp_path):
    bp4d(tmp_path)
    with pytest.raises(CorpusError, match="asks for intensities, and there are none"):
        load(tmp_path, au_threshold=2)


@pytest.mark.parametrize("row", [(2, 6), (2, -1), (2, "x"), (0, 0), (1, 0)])
def test_a_bad_intensity_is_refused_by_file_and_line(tmp_path, row):
    bp4d(tmp_path)
    path = grade(tmp_path, 12, [(1, 0), row])
    with pytest.raises(CorpusError) as caught:
        load(tmp_path, au_threshold=2)
    assert f"{path}, line 2" in str(caught.value)


def test_intensities_of_a_video_without_codes_are_refused(tmp_path):
    bp4d(tmp_path)
    grade(tmp_path, 12, [(1, 0)], "F001_T2")
    with pytest.raises(CorpusError, match=r"1 videos have intensities and no file .*F001_T2"):
        load(tmp_path, au_threshold=2)


def test_a_file_with_a_header_alone_is_refused(tmp_path):
    path = bp4d(tmp_path)
    path.write_text(BP4D_HEADER)
    with pytest.raises(CorpusError, match="no row"):
        load(tmp_path)
