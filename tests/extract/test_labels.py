"""The label store: what the reader found is what is stored, and an unchanged corpus writes nothing."""

import logging
from dataclasses import replace

import numpy as np
import pytest

import stores
from extract import corpora
from extract.labels import write_labels
from stores.editions import AU_12, EXPR_7
from stores.errors import SpecMismatch


@pytest.fixture
def corpus(tree):
    tree.whole("video1", "Train_Set")
    tree.whole("video2_left", "Validation_Set", frames=6)
    tree.crops("video3", [2])
    return corpora.load("affwild2", tree.root, "abaw2")


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_labels_and_what_is_known_of_a_clip_are_stored_as_read(corpus, tmp_path, backend):
    report = write_labels(corpus, tmp_path / "labels", backend)
    assert report.written == ("video1", "video2_left", "video3")
    store = stores.open(tmp_path / "labels")
    assert store.backend == backend
    assert store.spec == stores.LabelSpec("affwild2", "abaw2", EXPR_7, AU_12)
    for clip in corpus.clips:
        for name in ("valence", "arousal", "expression", "au"):
            np.testing.assert_array_equal(store.read(clip.id, name), getattr(clip.labels, name))
        assert store.record(clip.id).frames == len(clip.frames)
    assert store.record("video2_left").attrs == {
        "corpus": "affwild2",
        "fps": 30.0,
        "split": "validation",
        "subject": "video2",
        "video": "video2",
    }
    assert [store.record(clip).attrs["split"] for clip in store.clips()] == ["train", "validation", "test"]


def test_an_unchanged_corpus_writes_nothing_and_a_changed_clip_is_written_alone(corpus, tree, tmp_path):
    write_labels(corpus, tmp_path / "labels")
    again = write_labels(corpus, tmp_path / "labels")
    assert (again.written, again.unchanged) == ((), ("video1", "video2_left", "video3"))
    tree.annotate("EXPR", "Train_Set", "video1", [2, 2, 2, -1])
    changed = write_labels(corpora.load("affwild2", tree.root, "abaw2"), tmp_path / "labels")
    assert changed.written == ("video1",)
    assert stores.open(tmp_path / "labels").read("video1", "expression").tolist() == [2, 2, 2, -1]


def test_a_clip_that_changes_its_split_is_written_again(corpus, tmp_path):
    write_labels(corpus, tmp_path / "labels")
    moved = replace(corpus, clips=(replace(corpus.clips[0], split="validation"), *corpus.clips[1:]))
    assert write_labels(moved, tmp_path / "labels").written == ("video1",)


def test_clips_that_left_the_corpus_are_kept_and_named(corpus, tmp_path, caplog):
    write_labels(corpus, tmp_path / "labels")
    with caplog.at_level(logging.WARNING):
        report = write_labels(replace(corpus, clips=corpus.clips[1:]), tmp_path / "labels")
    assert report.extra == ("video1",)
    assert "video1" in caplog.text
    assert stores.open(tmp_path / "labels").has("video1")


def test_labels_of_another_edition_never_mix(corpus, tmp_path):
    write_labels(corpus, tmp_path / "labels")
    with pytest.raises(SpecMismatch, match="abaw1"):
        write_labels(replace(corpus, edition="abaw1"), tmp_path / "labels")
