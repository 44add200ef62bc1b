"""The RAF-CE reader: three lists by name, compound classes from 0, partition in its own order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import by_image, load, noted, rafce, write

import stores
from extract import fingerprint
from extract.corpora import labelspace
from extract.corpora.readers import rafce as reader
from extract.labels import write_labels
from stores.editions import AU_12, CE_7
from stores.errors import CorpusError

PARTS = {0: "train", 1: "test", 2: "validation"}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.integers(1, 9999),
        st.tuples(st.integers(0, 13), st.integers(0, 2), st.none() | st.sets(st.integers(1, 45), min_size=1)),
        min_size=1,
    ),
    joined=st.sampled_from("+, "),
)
def test_a_drawn_tree_comes_back_exactly(tmp_path_factory, rows, joined):
    root = tmp_path_factory.mktemp("drawn")
    rafce(
        root,
        [
            (f"{number:04d}.jpg", label, part, "null" if shown is None else joined.join(map(str, shown)))
            for number, (label, part, shown) in rows.items()
        ],
    )
    corpus = load("rafce", root)
    vocabulary = sorted({unit for _, _, shown in rows.values() if shown for unit in shown})
    assert {
        name: (split, label, cells) for name, (split, _, _, label, cells) in by_image(corpus).items()
    } == {
        f"{number:04d}_aligned.jpg": (
            PARTS[part],
            reader.COMPOUND[label],
            {f"AU{unit}": -1 if shown is None else int(unit in shown) for unit in vocabulary},
        )
        for number, (label, part, shown) in rows.items()
    }


def test_part_one_is_test_and_part_two_is_validation(tmp_path):
    rafce(tmp_path, [("a.jpg", 0, 0, "1"), ("b.jpg", 0, 1, "1"), ("c.jpg", 0, 2, "1")])
    found = {name[0]: split for name, (split, *_) in by_image(load("rafce", tmp_path)).items()}
    assert found == {"a": "train", "b": "test", "c": "validation"}


def test_many_null_cells_are_unknown_and_counted(tmp_path):
    rafce(tmp_path, [("a.jpg", 0, 0, "1+12"), ("b.jpg", 1, 0, "null"), ("c.jpg", 2, 0, "null")])
    corpus = load("rafce", tmp_path)
    assert corpus.clips[0].labels.au.tolist() == [[1, 1], [-1, -1], [-1, -1]]
    assert noted(corpus, "2 images are null in RAFCE_AUlabel.txt")


def test_lists_are_joined_by_name_with_or_without_a_suffix_and_in_any_order(tmp_path):
    rafce(tmp_path, [("a.jpg", 3, 0, "1"), ("b.jpg", 4, 0, "2")])
    write(tmp_path / "RAFCE_emolabel.txt", ["b 4", "a 3"])
    write(tmp_path / "RAFCE_AUlabel.txt", ["b.jpg 2", "a 1"])
    found = by_image(load("rafce", tmp_path))
    assert found["a_aligned.jpg"][3:] == ("Sadly angry", {"AU1": 1, "AU2": 0})
    assert found["b_aligned.jpg"][3:] == ("Sadly surprised", {"AU1": 0, "AU2": 1})


def test_an_image_that_a_list_leaves_out_is_unknown_there(tmp_path):
    rafce(tmp_path, [("a.jpg", 3, 0, "1"), ("b.jpg", 4, 0, "2")])
    write(tmp_path / "RAFCE_emolabel.txt", ["a 3"])
    write(tmp_path / "RAFCE_AUlabel.txt", ["b 2"])
    corpus = load("rafce", tmp_path)
    assert corpus.clips[0].labels.expression.tolist() == [3, -1]
    assert corpus.clips[0].labels.au.tolist() == [[-1], [1]]
    assert noted(corpus, "1 images are not in RAFCE_emolabel.txt")
    assert noted(corpus, "1 images are not in RAFCE_AUlabel.txt")
    (tmp_path / "RAFCE_AUlabel.txt").unlink()
    corpus = load("rafce", tmp_path)
    assert corpus.au_names == ()
    assert noted(corpus, "no RAFCE_AUlabel.txt")


def test_a_label_of_an_image_without_a_part_is_refused_by_line(tmp_path):
    rafce(tmp_path, [("a.jpg", 3, 0, "1")])
    path = write(tmp_path / "RAFCE_emolabel.txt", ["a.jpg 3", "z.jpg 1"])
    with pytest.raises(CorpusError) as caught:
        load("rafce", tmp_path)
    assert f"{path}, line 2: z is not in RAFCE_partition.txt" in str(caught.value)


def test_compound_names_and_units_go_to_the_lists_of_an_experiment_by_name(tmp_path):
    rows = [(f"{i}.jpg", i, 0, "1+9" if i % 2 else "null") for i in range(14)]
    rafce(tmp_path, rows)
    mapped, report = labelspace.to_space(load("rafce", tmp_path), CE_7, AU_12, {})
    (clip,) = mapped.clips
    found = [
        CE_7[value].replace("_", " ").lower() if value >= 0 else None for value in clip.labels.expression
    ]
    listed = {name.replace("_", " ").lower() for name in CE_7}
    assert found == [name.lower() if name.lower() in listed else None for name in reader.COMPOUND]
    assert sum(name is not None for name in found) == 7
    assert report.absent_expressions == ()
    assert "AU1" not in report.absent_aus
    assert set(report.absent_aus) == set(AU_12) - {"AU1"}
    assert clip.labels.au[:, AU_12.index("AU1")].tolist() == [-1, 1] * 7
    assert (clip.labels.au[:, AU_12.index("AU2")] == -1).all()


def test_a_corpus_of_images_goes_into_a_label_store_and_its_crops_are_found(tmp_path):
    rafce(tmp_path / "corpus", [(f"{i}.jpg", i % 14, i % 3, "1+12") for i in range(30)])
    (tmp_path / "corpus" / "aligned" / "0_aligned.jpg").unlink()
    mapped, _ = labelspace.to_space(load("rafce", tmp_path / "corpus"), CE_7, AU_12, {})
    corpus = replace(mapped, edition="abaw6")
    write_labels(corpus, tmp_path / "labels")
    store = stores.open(tmp_path / "labels")
    assert store.clips() == ["test-00000", "train-00000", "validation-00000"]
    for clip in corpus.clips:
        attrs = store.record(clip.id).attrs
        assert (attrs["static"], attrs["split"], attrs["corpus"]) == (True, clip.split, "rafce")
        np.testing.assert_array_equal(store.read(clip.id, "expression"), clip.labels.expression)
        absent = 1 if clip.split == "train" else 0
        assert fingerprint.inspect(clip.crops).present.sum() == len(clip.frames) - absent
