"""The AffectNet reader: both packagings, the classes that are none, -2, and a list without a header."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import affectnet_lists, affectnet_packed, affectnet_row, by_image, load, noted, touch, write
from PIL import Image

from extract.corpora import labelspace
from extract.corpora.readers import affectnet as reader
from stores.editions import EXPR_7
from stores.errors import CorpusError

AFFECT = st.tuples(*[st.integers(-1000, 1000).map(lambda v: v / 1000)] * 2) | st.just((-2, -2))
HEADER = ",".join(reader.COLUMNS)


def expected(split, label, valence, arousal):
    known = valence >= -1 and arousal >= -1
    return (
        split,
        float(np.float32(valence)) if known else None,
        float(np.float32(arousal)) if known else None,
        reader.EXPRESSIONS[label] if label < 8 else None,
    )


def found(corpus):
    return {
        name: (split, None if np.isnan(v) else v, None if np.isnan(a) else a, label)
        for name, (split, v, a, label, _) in by_image(corpus).items()
    }


DRAWN = st.dictionaries(st.integers(0, 9999), st.tuples(st.integers(0, 10), AFFECT), min_size=1)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(training=DRAWN, validation=DRAWN, header=st.booleans())
def test_drawn_lists_come_back_exactly_with_and_without_a_header(
    tmp_path_factory, training, validation, header
):
    root = tmp_path_factory.mktemp("drawn")
    rows = [
        [(f"{i % 3}/{split}{i}.png", label, *affect) for i, (label, affect) in part.items()]
        for split, part in (("t", training), ("v", validation))
    ]
    affectnet_lists(root, *rows, header=header)
    assert found(load("affectnet", root)) == {
        f"{letter}{i}.jpg": expected(split, label, *affect)
        for letter, split, part in (("t", "train", training), ("v", "validation", validation))
        for i, (label, affect) in part.items()
    }


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    training=st.dictionaries(
        st.integers(0, 9999), st.tuples(st.integers(0, 7), AFFECT), min_size=1, max_size=9
    ),
    as_text=st.booleans(),
)
def test_a_drawn_repackaged_set_comes_back_exactly_whether_numbers_are_text_or_not(
    tmp_path_factory, training, as_text
):
    root = tmp_path_factory.mktemp("drawn")
    rows = [(str(i), label, *affect) for i, (label, affect) in training.items()]
    affectnet_packed(root / "train_set", rows, as_text)
    affectnet_packed(root / "val_set", [("0", 7, 0.5, -0.5)], as_text)
    corpus = load("affectnet", root)
    (validation,) = [clip for clip in corpus.clips if clip.split == "validation"]
    assert validation.labels.expression.tolist() == [7]
    train = [clip for clip in corpus.clips if clip.split == "train"]
    assert [path.name for clip in train for path in clip.frames] == [f"{i}.jpg" for i in sorted(training)]
    labels = [
        (clip.split, *[None if np.isnan(x) else float(x) for x in pair], reader.EXPRESSIONS[code])
        for clip in train
        for *pair, code in zip(clip.labels.valence, clip.labels.arousal, clip.labels.expression, strict=True)
    ]
    assert labels == [expected("train", training[i][0], *training[i][1]) for i in sorted(training)]


def test_none_uncertain_and_no_face_are_unknown_and_contempt_is_a_class(tmp_path):
    affectnet_lists(tmp_path, [(f"1/{i}.jpg", i, 0, 0) for i in range(11)], [])
    (tmp_path / "Manually_Annotated_file_lists" / "validation.csv").unlink()
    corpus = load("affectnet", tmp_path)
    assert corpus.clips[0].labels.expression.tolist() == [*range(8), -1, -1, -1]
    assert corpus.expression_names[7] == "Contempt"
    assert noted(corpus, "3 images of training.csv are of no class (None, Uncertain, No-Face)")
    assert noted(corpus, "validation.csv: no validation split")
    mapped, _ = labelspace.to_space(corpus, EXPR_7, (), {})
    names = [EXPR_7[value] if value >= 0 else None for value in mapped.clips[0].labels.expression]
    assert names == [
        "Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", None, None, None, None,
    ]  # fmt: skip


def test_minus_two_in_either_column_makes_valence_and_arousal_unknown(tmp_path):
    rows = [("1/a.jpg", 0, -2, -2), ("1/b.jpg", 0, -2, 0.5), ("1/c.jpg", 0, 0.5, -2), ("1/d.jpg", 0, -1, 1)]
    affectnet_lists(tmp_path, rows, [("1/e.jpg", 0, 0, 0)])
    corpus = load("affectnet", tmp_path)
    labels = next(clip.labels for clip in corpus.clips if clip.split == "train")
    assert np.isnan(labels.valence).tolist() == [True, True, True, False]
    assert np.isnan(labels.arousal).tolist() == [True, True, True, False]
    assert noted(corpus, "3 images of training.csv have an invalid valence or arousal")


def test_a_validation_list_without_a_header_loses_no_row_and_is_noted(tmp_path):
    _, path = affectnet_lists(tmp_path, [("1/a.jpg", 0, 0, 0)], [("1/b.jpg", 1, 0, 0), ("1/c.jpg", 2, 0, 0)])
    write(path, b"\xef\xbb\xbf" + path.read_bytes().partition(b"\n")[2])
    corpus = load("affectnet", tmp_path)
    (clip,) = [clip for clip in corpus.clips if clip.split == "validation"]
    assert [path.name for path in clip.frames] == ["b.jpg", "c.jpg"]
    assert clip.labels.expression.tolist() == [1, 2]
    assert noted(corpus, "validation.csv has no header")


def test_columns_go_by_name_in_any_order_and_others_are_noted(tmp_path):
    paths = affectnet_lists(tmp_path, [("1/a.jpg", 3, 0.25, -0.5)], [("1/b.jpg", 0, 0, 0)])
    write(
        paths[0],
        [
            "arousal,age,valence,expression,face_height,face_width,face_y,face_x,subDirectory_filePath",
            "-0.5,44,0.25,3,1,1,0,0,1/a.jpg",
        ],
    )
    corpus = load("affectnet", tmp_path)
    assert found(corpus)["a.jpg"] == ("train", 0.25, -0.5, "Surprise")
    assert noted(corpus, "not read: age")


def test_a_picture_that_is_listed_twice_is_read_twice_and_noted(tmp_path):
    affectnet_lists(tmp_path, [("1/a.jpg", 3, 0, 0), ("1/a.jpg", 4, 0, 0)], [("1/b.jpg", 0, 0, 0)])
    corpus = load("affectnet", tmp_path)
    assert [clip.labels.expression.tolist() for clip in corpus.clips] == [[3, 4], [0]]
    assert noted(corpus, "1 rows of training.csv name a picture that an earlier row names")


def test_a_header_that_lacks_a_column_is_refused(tmp_path):
    paths = affectnet_lists(tmp_path, [("1/a.jpg", 3, 0, 0)], [])
    write(paths[0], [HEADER.replace("expression", "emotion"), affectnet_row("1/a.jpg", 3, 0, 0)])
    with pytest.raises(CorpusError, match=r"training\.csv: no column 'expression' \(found subDirectory"):
        load("affectnet", tmp_path)


def test_whole_pictures_are_read_only_when_asked_for(tmp_path):
    affectnet_lists(tmp_path, [("1/a.PNG", 3, 0, 0)], [])
    (tmp_path / "faces").rename(tmp_path / "elsewhere")
    touch(tmp_path / "Manually_Annotated_Images", ["1/a.PNG"])
    (tmp_path / "Manually_Annotated_file_lists" / "validation.csv").unlink()
    with pytest.raises(CorpusError, match=r"no folder faces .*facets cut affectnet"):
        load("affectnet", tmp_path)
    corpus = load("affectnet", tmp_path, cropped=False)
    assert corpus.clips[0].frames[0] == tmp_path / "Manually_Annotated_Images" / "1" / "a.PNG"
    assert noted(corpus, "whole pictures are read")


def test_faces_are_cut_by_corner_and_size_and_become_jpeg_files(tmp_path):
    picture = Image.new("RGB", (60, 40))
    picture.paste((0, 0, 255), (30, 10, 50, 30))
    (tmp_path / "Manually_Annotated_Images" / "1").mkdir(parents=True)
    picture.save(tmp_path / "Manually_Annotated_Images" / "1" / "a.bmp")
    row = affectnet_row("1/a.bmp", 3, 0, 0, box=(30, 10, 20, 20))
    write(tmp_path / "Manually_Annotated_file_lists" / "training.csv", [HEADER, row])
    assert reader.cut_faces(tmp_path).written == 1
    with Image.open(tmp_path / "faces" / "1" / "a.jpg") as face:
        assert (face.size, face.format) == ((20, 20), "JPEG")
        assert min(face.getpixel((x, y))[2] for x in (1, 18) for y in (1, 18)) > 200
    assert found(load("affectnet", tmp_path))["a.jpg"] == ("train", 0.0, 0.0, "Surprise")


def test_a_repackaged_file_that_holds_no_number_or_a_wrong_one_is_named(tmp_path):
    folder = tmp_path / "train_set"
    affectnet_packed(folder, [("7", 3, 0.5, 0.5), ("8", 3, 0.5, 0.5)])
    for value, text in (
        ("x", "8_exp.npy: expected a file with one number"),
        (8.5, "8_{exp,val,aro}.npy: found 8.5,"),
    ):
        np.save(folder / "annotations" / "8_exp.npy", value)
        with pytest.raises(CorpusError) as caught:
            load("affectnet", tmp_path)
        assert str(folder / "annotations" / text) in str(caught.value)
    (folder / "annotations" / "8_exp.npy").write_bytes(b"\x80\x04]")
    with pytest.raises(CorpusError, match=r"8_exp\.npy"):
        load("affectnet", tmp_path)


def test_a_repackaged_image_without_valence_or_arousal_keeps_its_class(tmp_path):
    affectnet_packed(tmp_path / "train_set", [("1", 3, None, 0.5)])
    corpus = load("affectnet", tmp_path)
    assert found(corpus) == {"1.jpg": ("train", None, None, "Surprise")}
    assert noted(corpus, "1 files _val.npy or _aro.npy are not in")


def test_neither_or_both_packagings_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="no AffectNet in"):
        load("affectnet", tmp_path)
    affectnet_lists(tmp_path, [("1/a.jpg", 3, 0, 0)], [])
    affectnet_packed(tmp_path / "val_set", [("1", 3, 0, 0)])
    with pytest.raises(CorpusError, match="two packagings in"):
        load("affectnet", tmp_path)
