"""The RAF-AU reader: units joined by plus, one-sided, null, with trailing blanks."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import by_image, load, noted, rafau

from extract.parsing import facs
from extract.parsing.text import Line
from stores.errors import CorpusError


def units(root):
    return {name: cells for name, (_, _, _, _, cells) in by_image(load("rafau", root)).items()}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.integers(1, 999),
        st.none() | st.dictionaries(st.integers(1, 58), st.sampled_from(["", "L", "R"]), min_size=1),
        min_size=1,
    )
)
def test_a_drawn_tree_comes_back_exactly(tmp_path_factory, rows):
    root = tmp_path_factory.mktemp("drawn")
    texts = {
        number: "null" if shown is None else "+".join(f"{side}{unit}" for unit, side in shown.items())
        for number, shown in rows.items()
    }
    rafau(root, [(f"{number:04d}.jpg", text) for number, text in texts.items()])
    vocabulary = sorted({unit for shown in rows.values() if shown for unit in shown})
    assert units(root) == {
        f"{number:04d}_aligned.jpg": {
            f"AU{unit}": -1 if shown is None else int(unit in shown) for unit in vocabulary
        }
        for number, shown in rows.items()
    }


def test_null_is_unknown_in_every_cell_and_not_a_face_without_action_units(tmp_path):
    rafau(tmp_path, [("0001.jpg", "1+2"), ("0002.jpg", "null")])
    assert units(tmp_path)["0002_aligned.jpg"] == {"AU1": -1, "AU2": -1}
    assert noted(load("rafau", tmp_path), "1 images are null")


def test_one_side_of_the_face_counts_as_present_and_is_noted(tmp_path):
    rafau(tmp_path, [("0001.jpg", "L12+R14"), ("0002.jpg", "L1+R1"), ("0003.jpg", "12+L12")])
    found = units(tmp_path)
    assert found["0001_aligned.jpg"] == {"AU1": 0, "AU12": 1, "AU14": 1}
    assert found["0002_aligned.jpg"] == {"AU1": 1, "AU12": 0, "AU14": 0}
    assert noted(load("rafau", tmp_path), "2 action units are seen on one side")


def test_trailing_blanks_and_tabs_are_not_a_third_field(tmp_path):
    rafau(tmp_path, [("0001.jpg", "1+25  "), ("0002.jpg", "null ")])
    with (tmp_path / "RAFAU_label.txt").open("a") as file:
        file.write("0003.jpg\t25\t\n")
    found = units(tmp_path)
    assert found["0001_aligned.jpg"] == {"AU1": 1, "AU25": 1}
    assert found["0002_aligned.jpg"] == {"AU1": -1, "AU25": -1}


def test_the_release_has_no_split_and_no_expressions(tmp_path):
    rafau(tmp_path, [("0001.jpg", "1")])
    corpus = load("rafau", tmp_path)
    assert corpus.expression_names == ()
    assert {clip.split for clip in corpus.clips} == {"train"}
    assert noted(corpus, "no split")


@pytest.mark.parametrize(
    "text", ["1+2+L12", "1,2,L12", "1 2 L12", "AU1 AU2 AUL12", " 1 + 2 +L12 ", "01+02+L12"]
)
def test_units_are_read_however_they_are_joined(tmp_path, text):
    assert facs.parse(Line(tmp_path, 1, text), text) == {1: "LR", 2: "LR", 12: "L"}


@pytest.mark.parametrize("text", ["", "+", "1+null", "0", "100", "X12", "LR12", "12L", "1.5", "-1"])
def test_what_is_no_action_unit_is_refused(tmp_path, text):
    with pytest.raises(CorpusError, match=r"line 3: .* or null"):
        facs.parse(Line(tmp_path, 3, text), text)
