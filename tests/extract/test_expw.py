"""The ExpW reader: several faces per picture, boxes as top left right bottom, how crops are made."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import by_image, expw, load, noted, touch, write
from PIL import Image

from extract.corpora import labelspace
from extract.corpora.readers import expw as reader
from stores.editions import EXPR_7
from stores.errors import CorpusError

BOX = (10, 20, 50, 60)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(st.integers(0, 9), st.integers(0, 5)), st.integers(0, 6), min_size=1))
def test_a_drawn_tree_comes_back_exactly(tmp_path_factory, rows):
    root = tmp_path_factory.mktemp("drawn")
    expw(root, [(f"angry_man_{image}.jpg", face, BOX, 55.25, rows[image, face]) for image, face in rows])
    corpus = load("expw", root)
    found = {name: (split, label) for name, (split, _, _, label, _) in by_image(corpus).items()}
    assert found == {
        f"angry_man_{image}_{face}.jpg": ("train", reader.EXPRESSIONS[label])
        for (image, face), label in rows.items()
    }
    assert (corpus.name, corpus.edition, corpus.au_names) == ("expw", "", ())


def test_several_faces_of_one_picture_keep_their_number_and_their_own_label(tmp_path):
    expw(tmp_path, [("b.jpg", 1, BOX, 9, 3), ("a.jpg", 0, BOX, 9, 0), ("b.jpg", 0, BOX, 9, 4)])
    corpus = load("expw", tmp_path)
    (clip,) = corpus.clips
    assert [path.name for path in clip.frames] == ["a_0.jpg", "b_1.jpg", "b_0.jpg"]
    assert clip.labels.expression.tolist() == [0, 3, 4]
    assert noted(corpus, "3 faces of 2 pictures")


def test_label_six_is_neutral_and_not_the_seventh_class_of_another_corpus(tmp_path):
    expw(tmp_path, [(f"{i}.jpg", 0, BOX, 9, i) for i in range(7)])
    corpus = load("expw", tmp_path)
    assert [label for _, _, _, label, _ in by_image(corpus).values()] == [
        "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
    ]  # fmt: skip
    mapped, _ = labelspace.to_space(corpus, EXPR_7, (), {})
    assert [EXPR_7[value] for value in mapped.clips[0].labels.expression] == [
        "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral",
    ]  # fmt: skip


def test_unsure_faces_are_kept_unless_a_threshold_is_given_which_is_noted(tmp_path):
    expw(tmp_path, [("a.jpg", 0, BOX, 12.5, 0), ("a.jpg", 1, BOX, 99, 1)])
    assert len(load("expw", tmp_path).clips[0].frames) == 2
    corpus = load("expw", tmp_path, min_confidence=50)
    assert list(by_image(corpus)) == ["a_1.jpg"]
    assert noted(corpus, "1 faces of a confidence below 50 were left out")
    with pytest.raises(CorpusError, match="lower the option min_confidence"):
        load("expw", tmp_path, min_confidence=100)


def test_a_line_that_is_there_twice_is_read_once_and_noted(tmp_path):
    path = expw(tmp_path, [("a.jpg", 0, BOX, 9, 0)])
    write(path, path.read_bytes() * 3)
    corpus = load("expw", tmp_path)
    assert len(corpus.clips[0].frames) == 1
    assert noted(corpus, "2 lines of label.lst repeat an earlier one")


def test_without_crops_the_error_says_how_to_make_them(tmp_path):
    touch(tmp_path / "origin", ["a.jpg"])
    write(tmp_path / "label.lst", ["a.jpg 0 1 2 3 4 5 6"])
    with pytest.raises(CorpusError, match=r"no folder faces .* by facets cut expw"):
        load("expw", tmp_path)


def test_a_box_is_top_left_right_bottom_and_each_face_becomes_a_square_of_its_own(tmp_path):
    picture = Image.new("RGB", (100, 80))
    picture.paste((255, 0, 0), (10, 20, 40, 50))
    picture.paste((0, 255, 0), (70, 0, 100, 20))
    (tmp_path / "origin").mkdir()
    picture.save(tmp_path / "origin" / "a.png")
    write(
        tmp_path / "label.lst", ["a.png 0 20 10 40 50 9 3", "a.png 1 0 70 100 20 9 4", "b.png 0 0 0 9 9 9 5"]
    )
    report = reader.cut_faces(tmp_path)
    assert (report.written, report.unchanged) == (2, 0)
    ((failed, reason),) = report.failed
    assert failed == tmp_path / "origin" / "b.png"
    assert "No such file" in reason
    with (
        Image.open(tmp_path / "faces" / "a_0.jpg") as red,
        Image.open(tmp_path / "faces" / "a_1.jpg") as green,
    ):
        assert (red.size, red.format, green.size) == ((30, 30), "JPEG", (30, 30))
        assert red.getpixel((15, 15))[0] > 200
        assert min(red.getpixel((x, y))[0] for x in (3, 26) for y in (3, 26)) > 200
        # 20 pixels high: ten more are black, half of them outside of the picture.
        assert green.getpixel((15, 15))[1] > 200
        assert max(green.getpixel((15, 1))) < 60
        assert max(green.getpixel((15, 28))) < 60
    assert load("expw", tmp_path).clips[0].frames[2] is None
    assert reader.cut_faces(tmp_path).unchanged == 2


def test_faces_of_two_margins_never_lie_side_by_side(tmp_path):
    (tmp_path / "origin").mkdir()
    for name in "ab":
        Image.new("RGB", (40, 40)).save(tmp_path / "origin" / f"{name}.jpg")
    write(tmp_path / "label.lst", ["a.jpg 0 10 10 20 20 9 3", "b.jpg 0 10 10 20 20 9 3"])
    faces = tmp_path / "faces"
    assert reader.cut_faces(tmp_path, margin=0.5).written == 2
    (faces / "b_0.jpg").unlink()  # as if it had been stopped
    with pytest.raises(
        CorpusError, match=r"faces already, cut with a margin of 0\.5, .* now with 0\.0: remove"
    ):
        reader.cut_faces(tmp_path)
    assert not (faces / "b_0.jpg").exists()
    assert reader.cut_faces(tmp_path, margin=0.5).written == 1
    (faces / ".cut.json").unlink()
    with pytest.raises(CorpusError, match="cut nobody noted with which margin"):
        reader.cut_faces(tmp_path, margin=0.5)
    for face in faces.iterdir():
        face.unlink()
    assert reader.cut_faces(tmp_path).written == 2
    with Image.open(faces / "a_0.jpg") as crop:
        assert crop.size == (10, 10)
    assert reader.cut_faces(tmp_path).unchanged == 2


def test_a_face_of_thousands_of_pixels_becomes_a_crop_that_the_extraction_takes(tmp_path):
    (tmp_path / "origin").mkdir()
    Image.new("RGB", (3000, 2000), (0, 0, 255)).save(tmp_path / "origin" / "a.jpg", quality=30)
    write(tmp_path / "label.lst", ["a.jpg 0 0 0 3000 2000 9 3"])
    assert reader.cut_faces(tmp_path).written == 1
    with Image.open(tmp_path / "faces" / "a_0.jpg") as crop:
        assert crop.size == (1024, 1024)


def test_an_empty_box_and_a_damaged_picture_fail_alone(tmp_path):
    (tmp_path / "origin").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "origin" / "a.jpg")
    (tmp_path / "origin" / "b.jpg").write_bytes(b"no picture")
    Image.effect_noise((30, 30), 90).save(tmp_path / "origin" / "c.png")
    broken = bytearray((tmp_path / "origin" / "c.png").read_bytes())
    broken[broken.index(b"IDAT") - 1] -= 99  # the length of the pixels: what follows is no chunk
    (tmp_path / "origin" / "c.png").write_bytes(broken)
    lines = ["a.jpg 0 5 5 5 9 9 3", "b.jpg 0 0 0 5 5 9 3", "a.jpg 1 0 0 5 5 9 3", "c.png 0 0 0 5 5 9 3"]
    write(tmp_path / "label.lst", lines)
    report = reader.cut_faces(tmp_path, margin=0.5)
    assert report.written == 1
    assert [path.name for path, _ in report.failed] == ["a.jpg", "b.jpg", "c.png"]
    with Image.open(tmp_path / "faces" / "a_1.jpg") as crop:
        assert crop.size == (8, 8)
    assert sorted(path.name for path in (tmp_path / "faces").glob("*.jpg")) == ["a_1.jpg"]
