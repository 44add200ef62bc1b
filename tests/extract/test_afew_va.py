"""The AFEW-VA reader: whole tenths of valence and arousal, clips in several archives, subjects by actor."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sequence_trees import afew_va, pictures, put

from extract import corpora
from stores.errors import CorpusError


def load(root):
    return corpora.load("afew_va", root, "")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ratings=st.dictionaries(
        st.integers(0, 12), st.tuples(st.integers(-10, 10), st.integers(-10, 10)), min_size=1
    ),
    indent=st.sampled_from([None, 1, 4]),
    kind=st.sampled_from([int, float]),
)
def test_every_table_of_ratings_survives_the_round_trip(tmp_path_factory, ratings, indent, kind):
    root = tmp_path_factory.mktemp("afew")
    frames = {
        f"{frame:05d}": {"valence": kind(v), "arousal": kind(a), "landmarks": [[0.5, 1.5]] * 68}
        for frame, (v, a) in ratings.items()
    }
    put(root / "600/600.json", json.dumps({"video_id": "600", "frames": frames}, indent=indent))
    last = max(ratings)
    pictures(root / "600", [f"{last:05d}.png"])
    corpus = load(root)
    assert (corpus.expression_names, corpus.au_names) == ((), ())
    (clip,) = corpus.clips
    assert len(clip.frames) == last + 1
    valence, arousal = np.full((2, last + 1), np.nan, np.float32)
    for frame, (v, a) in ratings.items():
        valence[frame], arousal[frame] = v / 10, a / 10
    np.testing.assert_array_equal(clip.labels.valence, valence)
    np.testing.assert_array_equal(clip.labels.arousal, arousal)
    assert (clip.labels.expression == -1).all()
    assert clip.labels.au.shape == (last + 1, 0)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"frames": {"00000": {"valence": ' + "1" * 5000 + "}}}"])
def test_json_too_deep_or_with_endless_numbers_is_refused_by_line(tmp_path, text):
    path = afew_va(tmp_path)
    path.write_text(text)
    with pytest.raises(CorpusError) as caught:
        load(tmp_path)
    assert f"{path}, line 1: found" in str(caught.value)


def test_numbers_as_names_in_landmarks_are_no_frames(tmp_path):
    path = afew_va(tmp_path)
    path.write_text(path.read_text().replace("[[1.5, 2.5]]", '{"0": 1.5, "1": 2.5}'))
    assert np.isfinite(load(tmp_path).clips[0].labels.valence).all()


def test_ratings_are_divided_by_ten(tmp_path):
    path = afew_va(tmp_path)
    path.write_text(
        '{"frames": {"00000": {"valence": 10, "arousal": -10}, "00001": {"valence": 3.0, "arousal": 0}}}'
    )
    labels = load(tmp_path).clips[0].labels
    np.testing.assert_array_equal(labels.valence[:2], np.float32([1, 0.3]))
    np.testing.assert_array_equal(labels.arousal[:2], np.float32([-1, 0]))


def test_frames_are_numbered_from_zero_and_crops_from_one(tmp_path):
    afew_va(tmp_path)
    (clip,) = load(tmp_path).clips
    assert clip.frames[1] == tmp_path / "001/00001.png"
    pictures(tmp_path / "cropped/001", ["00002.jpg"])
    corpus = load(tmp_path)
    assert corpus.clips[0].frames[1] == tmp_path / "cropped/001/00002.jpg"
    np.testing.assert_array_equal(corpus.clips[0].labels.valence, clip.labels.valence)


def test_clips_of_several_archives_are_one_corpus(tmp_path):
    afew_va(tmp_path, clip="AFEW-VA_01/001")
    afew_va(tmp_path, clip="AFEW-VA_02/051")
    afew_va(tmp_path, clip="600")
    corpus = load(tmp_path)
    assert [clip.id for clip in corpus.clips] == ["001", "051", "600"]
    assert "3 clips, where the release has 600" in corpus.notes


def test_clips_of_one_actor_are_one_subject_and_others_their_own(tmp_path):
    afew_va(tmp_path, clip="001", actor="Somebody")
    afew_va(tmp_path, clip="002", actor="Somebody")
    afew_va(tmp_path, clip="003")
    afew_va(tmp_path, clip="004", actor="")
    corpus = load(tmp_path)
    assert [clip.subject for clip in corpus.clips] == ["Somebody", "Somebody", "003", "004"]
    assert "2 clips do not name their actor: each is its own subject, whoever it shows" in corpus.notes


def test_pictures_far_beyond_the_last_rating_are_refused(tmp_path):
    afew_va(tmp_path)
    pictures(tmp_path / "001", ["00006.png"])
    with pytest.raises(
        CorpusError, match=r"00006.png: beyond the end of .*001.json, whose last frame number is 3"
    ):
        load(tmp_path)


def test_the_root_may_be_the_working_directory(tmp_path, monkeypatch):
    afew_va(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [clip.id for clip in load(Path()).clips] == ["001"]
