"""Shards of independent images: deterministic, of one split, and no picture is divided."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_trees import touch

from extract.corpora import MAX_STATIC_ROWS, Labels
from extract.corpora.imagery import stills
from extract.corpora.imagery.stills import SHARD_ROWS, Group, ImageFrames
from stores.errors import CorpusError


def shards(count, splits=None, picture=None):
    names = pa.array([f"{i}.jpg" for i in range(count)], pa.large_string())
    labels = Labels.unknown(count, 2)
    labels.valence[:] = np.arange(count) / max(count, 1)
    groups = stills.by_split(splits or ["train"] * count)
    return stills.shards(Path("/nowhere"), names, labels, groups, picture)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["train", "validation", "test"]), max_size=900))
def test_every_image_is_in_one_shard_of_its_split_with_its_labels(splits):
    clips = shards(len(splits), splits)
    found = {}
    for clip in clips:
        assert clip.static
        assert clip.fps == 1
        assert 0 < len(clip.frames) <= SHARD_ROWS <= MAX_STATIC_ROWS
        for path, value in zip(clip.frames, clip.labels.valence, strict=True):
            found[int(path.stem)] = (clip.split, value)
    assert [found[i][0] for i in range(len(splits))] == splits
    for i in range(len(splits)):
        assert found[i][1] == np.float32(i / len(splits))
    assert [clip.id for clip in clips] == sorted(clip.id for clip in clips)


def test_shards_are_called_by_split_and_number():
    clips = shards(2 * SHARD_ROWS + 1, ["train"] * 2 * SHARD_ROWS + ["test"])
    assert [clip.id for clip in clips] == ["test-00000", "train-00000", "train-00001"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_faces_of_one_picture_share_a_shard(faces):
    picture = np.repeat(np.arange(len(faces)), faces)
    clips = shards(len(picture), picture=picture)
    assert sum(len(clip.frames) for clip in clips) == len(picture)
    where = {}
    for clip in clips:
        for path in clip.frames:
            where.setdefault(picture[int(path.stem)], set()).add(clip.id)
    assert all(len(ids) == 1 for ids in where.values())


def test_a_picture_of_more_faces_than_a_shard_holds_is_divided_all_the_same():
    clips = shards(SHARD_ROWS + 5, picture=np.zeros(SHARD_ROWS + 5, np.intp))
    assert [len(clip.frames) for clip in clips] == [SHARD_ROWS, 5]


def test_people_who_are_known_have_shards_of_their_own():
    names = pa.array(["a.jpg", "b.jpg", "c.jpg"], pa.large_string())
    groups = [Group("train", np.array([0, 2]), "ann"), Group("train", np.array([1]), "bob")]
    clips = stills.shards(Path("/nowhere"), names, Labels.unknown(3, 0), groups)
    assert [(clip.id, clip.subject, [path.name for path in clip.frames]) for clip in clips] == [
        ("train-00000", "ann", ["a.jpg", "c.jpg"]),
        ("train-00001", "bob", ["b.jpg"]),
    ]


def test_frames_are_a_sequence_and_travel_without_the_rest_of_the_corpus():
    frames = shards(100 * SHARD_ROWS)[7].frames
    assert len(pickle.dumps(frames)) < 100 * SHARD_ROWS
    again = pickle.loads(pickle.dumps(frames))
    assert isinstance(again, ImageFrames)
    assert again[-1] == frames[len(frames) - 1] == Path(f"/nowhere/{8 * SHARD_ROWS - 1}.jpg")
    assert frames[1:3] == (frames[1], frames[2])
    with pytest.raises(IndexError):
        frames[SHARD_ROWS]


def test_an_image_that_is_not_there_is_no_frame(tmp_path):
    touch(tmp_path, ["a.jpg", "deep/er/b.jpg", "später.jpg"])
    (tmp_path / "a_file").touch()
    wanted = ["a.jpg", "b.jpg", "deep/er/b.jpg", "none/b.jpg", "a_file/b.jpg", "später.jpg", "", None]
    found = stills.existing(tmp_path, wanted)
    assert found.to_pylist() == ["a.jpg", None, "deep/er/b.jpg", None, None, "später.jpg", None, None]
    (note,) = stills.missing(tmp_path, pa.array(wanted, pa.large_string()), found)
    assert note == f"4 of 7 images are not there, such as {tmp_path / 'b.jpg'}"


def test_images_outside_of_the_folder_are_found_by_their_whole_path(tmp_path):
    touch(tmp_path / "elsewhere", ["a.jpg"])
    path = str(tmp_path / "elsewhere" / "a.jpg")
    names = stills.existing(tmp_path / "corpus", [path])
    assert ImageFrames(tmp_path / "corpus", names)[0] == Path(path)


def test_a_folder_without_any_of_the_images_is_refused(tmp_path):
    names = stills.existing(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(CorpusError, match=r"none of the 2 images .* expected files such as a\.jpg"):
        stills.missing(tmp_path, ["a.jpg", "b.jpg"], names)
