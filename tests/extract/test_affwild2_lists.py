"""Test lists: the order of the file, the text before the first comma, and the line of what is wrong."""

import numpy as np
import pytest
from affwild2_releases import MULTITASK_HEADER

from extract.corpora.readers.affwild2 import test_lists as lists
from stores.editions import AU_12, CE_7, EXPR_8
from stores.errors import ConfigError, CorpusError

FRAMES = [f"{clip}/{frame:05d}.jpg" for clip in ("video9", "2-30-640x360_left") for frame in (1, 8, 17, 3)]
VA = "image_location,valence,arousal"
EXPR = ",".join(("image_location", *EXPR_8))
AU = ",".join(("image_location", *AU_12))
CE = ",".join(("image_location", *CE_7))


def write(tmp_path, lines, end="\n", mark=b""):
    path = tmp_path / "list.txt"
    path.write_bytes(mark + end.join([*lines, ""]).encode())
    return path


@pytest.mark.parametrize(
    ("edition", "track", "header", "tail"),
    [
        ("abaw3", "MTL", MULTITASK_HEADER, ""),
        ("abaw4", "MTL", MULTITASK_HEADER, ""),
        ("abaw11", "MTL", MULTITASK_HEADER, ""),
        ("abaw7", "MTL", MULTITASK_HEADER, ","),
        ("abaw7", "CE", CE, ","),
        ("abaw5", "VA", VA, ","),
        ("abaw5", "EXPR", EXPR, ","),
        ("abaw5", "AU", AU, ","),
        ("abaw6", "VA", VA, ",0.5,-0.5"),
        ("abaw6", "EXPR", EXPR, ",0"),
        ("abaw8", "AU", AU, ",0,1,0,0,0,0,0,0,0,0,0,0"),
        ("abaw8", "CE", CE, ",0"),
        ("abaw10", "VA", VA, ",0.5,-0.5"),
    ],
)
@pytest.mark.parametrize(("end", "mark"), [("\n", b""), ("\r\n", b"\xef\xbb\xbf")])
def test_names_come_in_the_order_of_the_list_without_bare_commas_and_dummy_values(
    tmp_path, edition, track, header, tail, end, mark
):
    path = write(tmp_path, [header, *(name + tail for name in FRAMES)], end, mark)
    found = lists.read(path, edition, track)
    assert [found.name(row) for row in range(len(found.rows))] == FRAMES
    assert found.clips == ("video9", "2-30-640x360_left")
    assert found.frames() == {"video9": 17, "2-30-640x360_left": 17}
    np.testing.assert_array_equal(found.rows.frame, [0, 7, 16, 2] * 2)


@pytest.mark.parametrize("edition", ["abaw1", "abaw2", "abaw3"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_early_lists_name_videos_without_a_header(tmp_path, edition, end):
    path = write(tmp_path, ["video45_1", "122-60-1920x1080-5", "6-30-1920x1080_left", ""], end)
    found = lists.read(path, edition, "EXPR")
    assert found.clips == ("video45_1", "122-60-1920x1080-5", "6-30-1920x1080_left")
    assert found.rows is None
    assert set(found.frames().values()) == {0}


def test_synthetic_images_are_numbered_from_zero(tmp_path):
    found = lists.read(write(tmp_path, ["image,expression", "0.jpg", "12.jpg", "3.jpg"]), "abaw4", "LSD")
    assert [found.name(row) for row in range(3)] == ["0.jpg", "12.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("edition", "track", "lines", "line"),
    [
        ("abaw5", "VA", [VA, FRAMES[0], "", FRAMES[1]], 3),
        ("abaw5", "VA", [VA, FRAMES[0], "video9"], 3),
        ("abaw5", "VA", [VA, FRAMES[0], ",0.5,0.5"], 3),
        ("abaw5", "VA", ["image,valence,arousal", FRAMES[0]], 1),
        ("abaw5", "VA", ["image_location,arousal,valence", FRAMES[0]], 1),
        ("abaw5", "EXPR", [EXPR.removesuffix(",Other"), FRAMES[0]], 1),
        ("abaw5", "VA", FRAMES, 1),
        ("abaw3", "VA", ["video1", "", "video2"], 2),
        ("abaw3", "VA", ["video1", "video2", "video1"], 3),
        ("abaw3", "VA", ["video1", FRAMES[0]], 2),
        ("abaw4", "LSD", ["image,expression", "0.jpg", "00001.png"], 3),
    ],
)
def test_a_malformed_list_is_refused_by_file_and_line(tmp_path, edition, track, lines, line):
    path = write(tmp_path, lines)
    with pytest.raises(CorpusError) as caught:
        lists.read(path, edition, track)
    assert f"{path}, line {line}: " in str(caught.value)


def test_an_empty_list_and_a_missing_one_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="no row"):
        lists.read(write(tmp_path, [VA]), "abaw5", "VA")
    with pytest.raises(CorpusError, match="cannot be read"):
        lists.read(tmp_path / "nowhere.txt", "abaw5", "VA")


def test_a_track_that_an_edition_does_not_have_lists_those_it_has(tmp_path):
    with pytest.raises(ConfigError, match="abaw4 has no track VA: expected one of MTL, LSD"):
        lists.read(write(tmp_path, FRAMES), "abaw4", "VA")


@pytest.mark.parametrize(
    ("edition", "track", "name"),
    [
        ("abaw3", "VA", "Valence_Arousal_Estimation_Challenge_test_set_release.txt"),
        ("abaw3", "MTL", "Multi_Task_Learning_Challenge_test_set_release.txt"),
        ("abaw4", "LSD", "LSD_Challenge_test_set_release.txt"),
        ("abaw5", "EXPR", "CVPR_5th_ABAW_EXPR_test_set_sample.txt"),
        ("abaw6", "CE", "CVPR_6th_ABAW_CE_test_set_example.txt"),
        ("abaw7", "MTL", "MTL.txt"),
        ("abaw7", "CE", "CER.txt"),
        ("abaw8", "EXPR", "CVPR_6th_ABAW_Expr_test_set_example.txt"),
        ("abaw11", "MTL", "MTL_Challenge_test_set_release.txt"),
    ],
)
@pytest.mark.parametrize("place", [".", "test_set_examples", "annotations"])
def test_lists_are_found_by_the_names_they_are_released_under(tmp_path, edition, track, name, place):
    annotations = tmp_path / "annotations"
    path = tmp_path / place / name
    path.parent.mkdir(exist_ok=True)
    assert lists.find(tmp_path, annotations, edition, [track]) == {}
    path.touch()
    assert lists.find(tmp_path, annotations, edition, [track, "VA"]) == {track: path}
