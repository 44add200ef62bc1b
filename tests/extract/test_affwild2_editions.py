"""The challenge folders of every edition: what is in the files comes out, whatever an edition calls them."""

import cProfile
import pstats

import numpy as np
import pytest
from affwild2_releases import (
    CHALLENGES,
    NAMES,
    PLACES,
    draw_challenges,
    header,
    task_folder,
    write_crops,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract import corpora
from extract.corpora.readers.affwild2 import counts
from extract.crops import journal
from stores.editions import AU_12, EXPR_8, edition
from stores.errors import ConfigError, CorpusError


def annotate(root, folder, clip, task, rows, name="abaw6", split="Train_Set"):
    path = root / folder / split / f"{clip}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([",".join(header(name, task)), *map(str, rows), ""]))
    return path


@pytest.mark.parametrize("name", CHALLENGES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_drawn_tree_of_every_edition_comes_back_exactly(tmp_path_factory, name, seed):
    root = tmp_path_factory.mktemp("drawn") / "corpus"
    truths = draw_challenges(root, name, seed)
    if not any(truth.rows for truth in truths.values()):
        with pytest.raises(CorpusError, match="no annotation file"):
            corpora.load("affwild2", root, name)
        return
    corpus = corpora.load("affwild2", root, name)
    assert (corpus.expression_names, corpus.au_names) == (edition(name).expressions, edition(name).aus)
    assert [clip.id for clip in corpus.clips] == sorted(NAMES)
    for clip in corpus.clips:
        truth = truths[clip.id]
        frames = max([max(truth.crops) + 1, *map(len, truth.rows.values())])
        assert (clip.split, len(clip.frames)) == (truth.split, frames)
        folder = root / "cropped_aligned" / clip.id
        assert list(clip.frames) == [
            folder / f"{i + 1:05d}.jpg" if i in truth.crops else None for i in range(frames)
        ]
        found = {
            "VA": np.stack([clip.labels.valence, clip.labels.arousal], axis=1),
            "EXPR": clip.labels.expression[:, None],
            "AU": clip.labels.au,
        }
        for task, values in found.items():
            rows = truth.rows.get(task, np.empty((0, values.shape[1])))
            expected = np.full(values.shape, np.nan)
            expected[: len(rows)] = rows
            if task != "VA":
                expected = np.where(np.isnan(expected), -1, expected)
            np.testing.assert_array_equal(values, expected.astype(values.dtype))


@pytest.mark.parametrize("spelling", ["EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"])
@pytest.mark.parametrize("place", ["6th_ABAW_Annotations", "annotations", "."])
def test_both_spellings_of_the_expression_folder_are_read_wherever_they_lie(tmp_path, spelling, place):
    write_crops(tmp_path, "video1", {0, 1})
    annotate(tmp_path / place, spelling, "video1", "EXPR", [7, 2])
    (clip,) = corpora.load("affwild2", tmp_path, "abaw6").clips
    assert clip.labels.expression.tolist() == [7, 2]


def test_one_clip_under_both_spellings_is_refused(tmp_path):
    write_crops(tmp_path, "video1", {0})
    for spelling in ("EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"):
        annotate(tmp_path, spelling, "video1", "EXPR", [7])
    with pytest.raises(CorpusError, match="keep one of them"):
        corpora.load("affwild2", tmp_path, "abaw8")


def test_the_folder_of_the_edition_is_read_where_several_editions_share_their_crops(tmp_path):
    write_crops(tmp_path, "video1", {0})
    for number, place in enumerate(("annotations", "Third ABAW Annotations", "6th_ABAW_Annotations", ".")):
        folder = task_folder(np.random.default_rng(0), "abaw6", "VA")
        annotate(tmp_path / place, folder, "video1", "VA", [f"0.{number},0"])
    found = {
        name: float(corpora.load("affwild2", tmp_path, name).clips[0].labels.valence[0])
        for name in ("abaw3", "abaw6", "abaw5")
    }
    assert found == pytest.approx({"abaw3": 0.1, "abaw6": 0.2, "abaw5": 0.0})


def test_expressions_of_later_editions_have_eight_classes_and_a_seven_class_header_is_refused(tmp_path):
    write_crops(tmp_path, "video1", {0})
    path = annotate(tmp_path, "EXPR_Classification_Challenge", "video1", "EXPR", [7])
    corpus = corpora.load("affwild2", tmp_path, "abaw5")
    assert (corpus.expression_names, corpus.au_names) == (EXPR_8, AU_12)
    path.write_text("Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise\n6\n")
    with pytest.raises(CorpusError, match=r"video1\.txt, line 1: found header .*Surprise' \(other names\)"):
        corpora.load("affwild2", tmp_path, "abaw5")


def test_class_seven_is_out_of_range_before_the_third_edition(tmp_path):
    write_crops(tmp_path, "video1", {0})
    path = annotate(tmp_path / "annotations", "EXPR_Set", "video1", "EXPR", [6, 7], "abaw2")
    with pytest.raises(CorpusError) as caught:
        corpora.load("affwild2", tmp_path, "abaw2")
    assert f"{path}, line 3 (frame 1): found '7', expected whole numbers from -1 to 6" in str(caught.value)


@pytest.mark.parametrize("name", ["abaw3", "abaw6", "abaw8", "abaw10"])
def test_a_tree_without_the_folders_of_its_edition_says_what_was_looked_for(tmp_path, name):
    write_crops(tmp_path, "video1", {0})
    with pytest.raises(CorpusError) as caught:
        corpora.load("affwild2", tmp_path, name)
    for part in (PLACES[name][0], "EXPR_Recognition_Challenge", "found cropped_aligned"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["abaw4", "abaw7", "abaw11"])
def test_editions_without_challenge_folders_name_the_kind_that_reads_them(tmp_path, name):
    with pytest.raises(ConfigError, match="affwild2_mtl"):
        corpora.load("affwild2", tmp_path, name)


def test_rows_beyond_the_end_of_the_clips_other_files_are_refused_by_file_and_line(tmp_path):
    write_crops(tmp_path, "video1", {0})
    annotate(tmp_path, "VA_Estimation_Challenge", "video1", "VA", ["0,0"] * 3)
    path = annotate(tmp_path, "EXPR_Recognition_Challenge", "video1", "EXPR", [1] * 6)
    with pytest.raises(CorpusError) as caught:
        corpora.load("affwild2", tmp_path, "abaw6")
    assert f"{path}, line 7 (frame 5): beyond the end of" in str(caught.value)


def test_a_crop_beyond_the_end_of_the_annotation_is_refused_by_its_file(tmp_path):
    write_crops(tmp_path, "video1", {0, 7})
    path = annotate(tmp_path, "VA_Estimation_Challenge", "video1", "VA", ["0,0"] * 5)
    with pytest.raises(CorpusError) as caught:
        corpora.load("affwild2", tmp_path, "abaw6")
    crop = tmp_path / "cropped_aligned" / "video1" / "00008.jpg"
    assert f"{crop}: beyond the end of {path}" in str(caught.value)


def test_rows_beyond_the_end_of_the_video_that_was_cut_are_refused_by_file_and_line(tmp_path):
    write_crops(tmp_path, "video1_left", {0})
    (tmp_path / journal.FOLDER).mkdir()
    detector = {"name": "haar", "model_sha256": "0"}
    journal.write(
        journal.path_of(tmp_path, "video1"),
        {
            "complete": True,
            "video": {"sha256": "1"},
            "frames": 5,
            "fps": 25.0,
            "time_stamps": {},
            "damaged_frames": [],
            "clips": [{"id": "video1_left", "sha256": "2", "interpolated": []}],
            "maker": {"detector": detector},
            "maker_sha256": "3",
        },
    )
    path = annotate(tmp_path, "VA_Estimation_Challenge", "video1_left", "VA", ["0,0"] * 7)
    (clip,) = corpora.load("affwild2", tmp_path, "abaw6").clips
    assert (len(clip.frames), clip.fps, clip.subject) == (7, 25.0, "video1")
    annotate(tmp_path, "VA_Estimation_Challenge", "video1_left", "VA", ["0,0"] * 8)
    with pytest.raises(CorpusError) as caught:
        corpora.load("affwild2", tmp_path, "abaw6")
    assert f"{path}, line 9 (frame 7): beyond the end of video video1" in str(caught.value)


def test_a_listed_test_clip_is_as_long_as_its_list_whatever_crops_it_has(tmp_path):
    write_crops(tmp_path, "video1", {0})
    write_crops(tmp_path, "video2", {1})
    write_crops(tmp_path, "video3", {0})
    annotate(tmp_path, "VA_Estimation_Challenge", "video1", "VA", ["0,0"] * 4)
    lines = [f"video{clip}/{frame:05d}.jpg," for clip in (2, 1) for frame in range(1, 8)]
    (tmp_path / "CVPR_5th_ABAW_EXPR_test_set_sample.txt").write_text(
        "\n".join(["image_location," + ",".join(EXPR_8), *lines])
    )
    corpus = corpora.load("affwild2", tmp_path, "abaw5")
    assert [(clip.split, len(clip.frames)) for clip in corpus.clips] == [
        ("train", 7),
        ("test", 7),
        ("test", 1),
    ]
    assert any(note.startswith("1 clips are in a test list and annotated for") for note in corpus.notes)
    assert any(note.startswith("1 clips have a test list that asks for another") for note in corpus.notes)
    assert any("in no test list: video3" in note for note in corpus.notes)


def test_a_listed_clip_without_crops_is_refused(tmp_path):
    write_crops(tmp_path, "video1", {0})
    annotate(tmp_path, "VA_Estimation_Challenge", "video1", "VA", ["0,0"])
    (tmp_path / "Action_Unit_Detection_Challenge_test_set_release.txt").write_text("video9\n")
    with pytest.raises(CorpusError, match=r"1 clips of the annotations or test lists have no folder.*video9"):
        corpora.load("affwild2", tmp_path, "abaw3")


def test_a_full_release_that_lost_a_few_labels_is_noted_and_a_subset_is_not(tmp_path, monkeypatch):
    write_crops(tmp_path, "video1", set(range(20)))
    path = annotate(tmp_path, "EXPR_Recognition_Challenge", "video1", "EXPR", [1] * 20 + [-1])
    release = {
        "crops": 20,
        "EXPR labels, train": 20,
        "EXPR labels, train, with a crop": 20,
        "VA labels, train": 9,
    }

    def notes():
        monkeypatch.setitem(counts.RELEASES, "abaw8", release)
        corpus = corpora.load("affwild2", tmp_path, "abaw8")
        return [note for note in corpus.notes if "full release" in note]

    assert notes() == []
    path.write_text(path.read_text().replace("\n1\n", "\n-1\n", 1))
    assert notes() == [
        "this looks like the full release, but its counts differ: EXPR labels, train: 19, released 20; EXPR "
        "labels, train, with a crop: 19, released 20; a file may be cut short"
    ]
    release |= {"crops": 30, "EXPR labels, train": 40}
    assert notes() == []


def test_the_published_counts_agree_with_each_other():
    released = counts.RELEASES["abaw5"]
    assert released["EXPR labels, train"] == 585_317 + 12_044 == 586_959 + 10_402
    assert released["EXPR labels, validation"] == 280_532 + 3_698 == 279_749 + 4_481
    rows = counts.MULTITASK["abaw7"]
    assert sum(rows[name] for name in ("rows, train", "rows, validation", "rows in the MTL list")) == 220_417
    assert sum((23976, 4555, 3168, 3122, 18135, 7609, 5228, 24852)) == rows["EXPR labels, train"]
    assert sum((1886, 487, 565, 1254, 3751, 1893, 1003, 4601)) == rows["EXPR labels, validation"]


def test_ten_times_the_rows_take_hardly_more_calls_and_twice_the_clips_twice_as_many(tmp_path):
    def calls(clips, rows):
        root = tmp_path / f"{clips}x{rows}"
        for clip in range(clips):
            write_crops(root, f"video{clip}", {0})
            annotate(root, "VA_Estimation_Challenge", f"video{clip}", "VA", ["0.5,0.5"] * rows)
            annotate(root, "AU_Detection_Challenge", f"video{clip}", "AU", [",".join("0" * 12)] * rows)
        profile = cProfile.Profile()
        profile.runcall(corpora.load, "affwild2", root, "abaw6")
        return pstats.Stats(profile).total_calls

    calls(1, 1)  # what is imported once
    few, many, twice = calls(10, 300), calls(10, 3_000), calls(20, 300)
    assert many < 1.05 * few
    assert twice < 2.05 * few
