"""The RAF-DB reader: basic and compound classes by name, official split, "patition" and all."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import by_image, load, noted, rafdb

from extract.corpora import labelspace
from extract.corpora.readers import rafdb as reader
from stores.editions import EXPR_7
from stores.errors import ConfigError, CorpusError


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.tuples(st.sampled_from(["train", "test"]), st.integers(1, 999)), st.integers(1, 7), min_size=1
    )
)
def test_a_drawn_tree_comes_back_exactly(tmp_path_factory, rows):
    root = tmp_path_factory.mktemp("drawn")
    rafdb(root, [(f"{split}_{number:05d}.jpg", label) for (split, number), label in rows.items()])
    corpus = load("rafdb", root)
    found = {name: (split, label) for name, (split, _, _, label, _) in by_image(corpus).items()}
    assert found == {
        f"{split}_{number:05d}_aligned.jpg": (split, reader.BASIC[label - 1])
        for (split, number), label in rows.items()
    }
    assert (corpus.name, corpus.edition, corpus.au_names) == ("rafdb", "", ())


def test_classes_are_counted_from_one_in_the_order_of_the_release(tmp_path):
    rafdb(tmp_path, [(f"train_{i:05d}.jpg", i) for i in range(1, 8)])
    names = [label for _, _, _, label, _ in by_image(load("rafdb", tmp_path)).values()]
    assert names == ["Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"]


def test_the_compound_set_has_eleven_classes_of_its_own(tmp_path):
    rafdb(tmp_path, [(f"test_{i:04d}.jpg", i) for i in range(1, 12)], "compound")
    corpus = load("rafdb", tmp_path, classes="compound")
    names = [label for _, _, _, label, _ in by_image(corpus).values()]
    assert names[0] == "Happily Surprised"
    assert names[10] == "Disgustedly Surprised"
    assert len(set(names)) == 11
    assert set(names) <= set(labelspace.COMPOUNDS)


def test_a_basic_list_is_never_read_as_compound(tmp_path):
    rafdb(tmp_path, [("train_00001.jpg", 1)])
    assert load("rafdb", tmp_path / "basic").clips
    for root in (tmp_path, tmp_path / "basic"):
        with pytest.raises(CorpusError, match="option classes"):
            load("rafdb", root, classes="compound")
    with pytest.raises(ConfigError, match="'complex', expected one of basic, compound"):
        load("rafdb", tmp_path, classes="complex")


def test_the_official_split_has_no_validation_which_is_noted(tmp_path):
    rafdb(tmp_path, [("train_00001.jpg", 1), ("test_00001.jpg", 2)])
    corpus = load("rafdb", tmp_path)
    assert [(clip.id, clip.split) for clip in corpus.clips] == [
        ("test-00000", "test"),
        ("train-00000", "train"),
    ]
    assert noted(corpus, "none validates")


def test_a_missing_image_keeps_its_row_and_a_folder_within_a_folder_is_found(tmp_path):
    rafdb(tmp_path, [("train_00001.jpg", 1), ("train_00002.jpg", 2)])
    aligned = tmp_path / "basic" / "Image" / "aligned"
    aligned.rename(tmp_path / "moved")
    aligned.mkdir()
    (tmp_path / "moved").rename(aligned / "aligned")
    (aligned / "aligned" / "train_00001_aligned.jpg").unlink()
    corpus = load("rafdb", tmp_path)
    (clip,) = corpus.clips
    assert [path and path.name for path in clip.frames] == [None, "train_00002_aligned.jpg"]
    assert clip.labels.expression.tolist() == [0, 1]
    assert noted(corpus, "1 of 2 images are not there")


def test_its_classes_go_to_those_of_an_edition_by_name(tmp_path):
    rafdb(tmp_path, [(f"train_{i:05d}.jpg", i) for i in range(1, 8)])
    mapped, _ = labelspace.to_space(load("rafdb", tmp_path), EXPR_7, (), {})
    found = [EXPR_7[value] for value in mapped.clips[0].labels.expression]
    assert found == list(reader.BASIC)


def test_the_root_may_be_the_working_directory(tmp_path, monkeypatch):
    rafdb(tmp_path, [("train_00001.jpg", 5)])
    monkeypatch.chdir(tmp_path / "basic")
    assert len(load("rafdb", ".").clips) == 1
