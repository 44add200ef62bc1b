"""The manifest: columns by name, clips with holes, static rows in shards, the same from CSV and Parquet."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import load, noted, touch, write

from extract.corpora import Corpus, labelspace
from extract.corpora.readers import manifest_columns
from stores.editions import AU_12, EXPR_8
from stores.errors import ConfigError, CorpusError

LABELS = ("valence", "arousal", "expression", "AU1", "AU04")
COLUMNS = ("clip", "frame", "path", *LABELS, "split", "subject", "fps")
SPLITS = ("train", "validation", "test")
CLASSES = ("calm", "Happiness", "très content")


def table(root, suffix, columns, rows):
    """Writes the same rows as CSV, TSV or Parquet; None is an empty cell."""
    path = root / f"manifest{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".parquet":
        values = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
        pyarrow.parquet.write_table(pa.table(values), path, row_group_size=7)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerows([columns, *rows])
    return path


def csv_of(root, *lines):
    return write(root / "manifest.csv", list(lines))


def refusal(root, **options):
    with pytest.raises(CorpusError) as caught:
        load("manifest", root, **options)
    return str(caught.value)


def described(corpus: Corpus):
    return [
        (
            clip.id,
            clip.split,
            clip.subject,
            clip.fps,
            clip.static,
            [None if path is None else str(path.relative_to(corpus.root)) for path in clip.frames],
            np.nan_to_num(clip.labels.valence, nan=9).tolist(),
            np.nan_to_num(clip.labels.arousal, nan=9).tolist(),
            [None if v < 0 else corpus.expression_names[v] for v in clip.labels.expression],
            clip.labels.au.tolist(),
        )
        for clip in corpus.clips
    ]


def draw_clip(rng, root, name):
    """Returns the rows of a clip with holes, and what is to come of them."""
    frames = rng.choice(31, rng.integers(1, 12), replace=False)
    split, subject, fps = SPLITS[rng.integers(3)], [None, "ann"][rng.integers(2)], int(rng.integers(1, 61))
    count = int(frames.max()) + 1
    crops, v, a, e = [None] * count, [9.0] * count, [9.0] * count, [None] * count
    au = [[-1, -1] for _ in range(count)]
    rows = []
    for frame in map(int, frames):
        crop = f"crops/{name}/{frame}.jpg"
        valence, arousal = (None if x > 64 else x / 64 for x in map(int, rng.integers(-64, 90, 2)))
        expression = [None, *CLASSES][rng.integers(4)]
        units = [[None, 0, 1][i] for i in rng.integers(0, 3, 2)]
        rows.append((name, frame, crop, valence, arousal, expression, *units, split, subject, fps))
        if rng.random() < 0.7:
            touch(root, [crop])
            crops[frame] = crop
        v[frame], a[frame] = (9.0 if x is None else x for x in (valence, arousal))
        e[frame], au[frame] = expression, [-1 if unit is None else unit for unit in units]
    return rows, (name, split, subject or "", float(fps), False, crops, v, a, e, au)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), clips=st.integers(0, 4))
def test_a_drawn_table_comes_back_exactly_from_any_format_in_any_order(tmp_path_factory, suffix, seed, clips):
    root = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(seed)
    touch(root, ["a.jpg"])
    lines = [("a", 0, "a.jpg", None, None, None, None, None, "train", None, 30)]
    expected = [("a", "train", "", 30.0, False, ["a.jpg"], [9.0], [9.0], [None], [[-1, -1]])]
    for name in ("b_left", "c.d", "e f", "ü")[:clips]:
        rows, clip = draw_clip(rng, root, name)
        lines += rows
        expected.append(clip)
    table(root, suffix, COLUMNS, [lines[i] for i in rng.permutation(len(lines))])
    corpus = load("manifest", root)
    assert described(corpus) == expected
    assert corpus.expression_names == tuple(sorted({row[5] for row in lines if row[5]}))
    assert corpus.au_names == ("AU1", "AU04")


def test_columns_come_in_any_order_and_others_are_noted(tmp_path):
    touch(tmp_path, ["1.jpg"])
    csv_of(tmp_path, "AU2,frame,age,path,clip", "1,0,44,1.jpg,c")
    corpus = load("manifest", tmp_path)
    assert described(corpus) == [("c", "train", "", 30.0, False, ["1.jpg"], [9.0], [9.0], [None], [[1]])]
    assert noted(corpus, "columns that were not read: age")
    assert noted(corpus, "no column split")
    assert noted(corpus, "no column fps: 30 frames")


def test_holes_in_the_timeline_are_frames_without_a_crop_and_a_label(tmp_path):
    touch(tmp_path, ["1.jpg"])
    csv_of(tmp_path, "clip,frame,path,valence", "c,3,1.jpg,0.5", "c,1,2.jpg,0.25", "c,2,,0.75")
    corpus = load("manifest", tmp_path)
    assert described(corpus)[0][5:7] == ([None, None, None, "1.jpg"], [9.0, 0.25, 0.75, 0.5])
    assert noted(corpus, "1 of 2 images are not there")


def test_markers_of_unknown_of_other_corpora_are_unknown(tmp_path):
    rows = "c,0,-5,-5,-1,-1", "c,1,,0.5,,", "c,2,nan,-1,x,1"
    csv_of(tmp_path, "clip,frame,valence,arousal,expression,AU1", *rows)
    labels = load("manifest", tmp_path).clips[0].labels
    assert np.isnan(labels.valence).all()
    assert np.nan_to_num(labels.arousal, nan=9).tolist() == [9, 0.5, -1]
    assert labels.expression.tolist() == [-1, -1, 0]
    assert labels.au[:, 0].tolist() == [-1, -1, 1]


def test_a_table_without_clips_is_of_independent_images(tmp_path):
    touch(tmp_path, [f"{i}.jpg" for i in range(4)])
    lines = ["0.jpg,train,ann,a", "1.jpg,test,bob,b", "2.jpg,train,bob,c", "3.jpg,train,ann,d"]
    csv_of(tmp_path, "path,split,subject,expression", *lines)
    corpus = load("manifest", tmp_path)
    shards = [
        (c.id, c.subject, c.static, [p.name for p in c.frames], c.labels.expression.tolist())
        for c in corpus.clips
    ]
    assert shards == [
        ("test-00000", "bob", True, ["1.jpg"], [1]),
        ("train-00000", "ann", True, ["0.jpg", "3.jpg"], [0, 3]),
        ("train-00001", "bob", True, ["2.jpg"], [2]),
    ]
    assert noted(corpus, "4 of 4 rows are independent images")


def test_static_rows_and_clips_may_share_a_table(tmp_path):
    touch(tmp_path, ["0.jpg", "1.jpg"])
    csv_of(tmp_path, "path,clip,frame,static", "0.jpg,,,1", "1.jpg,c,0,0")
    assert [(clip.id, clip.static) for clip in load("manifest", tmp_path).clips] == [
        ("c", False),
        ("train-00000", True),
    ]
    csv_of(tmp_path, "path,clip,frame,static", "0.jpg,,,1", "1.jpg,train-00000,0,0")
    assert "train-00000 is the name of a shard" in refusal(tmp_path)
    csv_of(tmp_path, "path,static", "0.jpg,1", "1.jpg,0")
    assert "line 3: found '', expected a clip and a frame, or 1 in the column 'static'" in refusal(tmp_path)


def test_declared_classes_and_units_are_the_vocabulary_and_others_are_refused(tmp_path):
    csv_of(tmp_path, "clip,frame,expression,smile", "c,0,happy,1", "c,1,sad,0")
    corpus = load("manifest", tmp_path, expressions=["sad", "angry", "happy"], aus=["smile"], name="mine")
    assert (corpus.name, *corpus.expression_names, *corpus.au_names) == (
        "mine",
        "sad",
        "angry",
        "happy",
        "smile",
    )
    assert corpus.clips[0].labels.expression.tolist() == [2, 0]
    assert corpus.clips[0].labels.au.tolist() == [[1], [0]]
    assert "line 3: found 'sad', expected one of angry, happy" in refusal(
        tmp_path, expressions=["angry", "happy"]
    )
    assert "no column 'frown' (found clip, frame, expression, smile)" in refusal(tmp_path, aus=["frown"])


def test_intensities_become_occurrence_from_a_threshold_that_is_noted(tmp_path):
    csv_of(tmp_path, "clip,frame,AU1", *[f"c,{i},{value}" for i, value in enumerate([0, 1, 2, 5, -1])])
    corpus = load("manifest", tmp_path, au_threshold=2)
    assert corpus.clips[0].labels.au[:, 0].tolist() == [0, 0, 1, 1, -1]
    assert noted(corpus, "from intensity 2 on")
    assert "intensities need the option au_threshold" in refusal(tmp_path)
    with pytest.raises(ConfigError, match="au_threshold: found 0"):
        load("manifest", tmp_path, au_threshold=0)


def test_blanks_around_values_and_names_do_not_count(tmp_path):
    csv_of(tmp_path, " clip, frame ,valence, expression", " c ,0, 0.5 , happy ", "c, 1,  ,happy")
    corpus = load("manifest", tmp_path)
    assert described(corpus)[0][6:9:2] == ([0.5, 9.0], ["happy", "happy"])


def test_two_rows_of_one_frame_are_refused_by_both_lines(tmp_path):
    path = csv_of(tmp_path, "clip,frame", "c,0", "d,5", "c,1", "d,5")
    assert (
        f"{path}, line 5: found 'frame 5 of d', expected each frame once: it is in {path}, line 3"
        in refusal(tmp_path)
    )


@pytest.mark.parametrize("column", ["split", "subject", "fps"])
def test_a_clip_of_two_splits_subjects_or_rates_is_refused(tmp_path, column):
    values = {"split": ("train", "test"), "subject": ("ann", ""), "fps": ("25", "30")}[column]
    csv_of(tmp_path, f"clip,frame,{column}", f"c,1,{values[0]}", f"d,0,{values[1]}", f"c,0,{values[1]}")
    message = refusal(tmp_path)
    assert "line 4: " in message or "line 2: " in message
    assert f"another {column} of c" in message


def test_a_class_that_is_a_number_is_refused_for_numbers_mean_other_classes_elsewhere(tmp_path):
    for value in ("3", "0", "3.0"):
        csv_of(tmp_path, "clip,frame,expression", "c,0,happy", f"c,1,{value}")
        assert f"line 3: found '{value}', expected the name of a class" in refusal(tmp_path)
    table(tmp_path / "typed", ".parquet", ("clip", "frame", "expression"), [("c", 0, 3)])
    assert "row 0: found '3', expected the name of a class" in refusal(tmp_path / "typed")


def test_rows_of_a_parquet_file_are_named_by_row_and_types_are_checked(tmp_path):
    path = table(tmp_path, ".parquet", ("clip", "frame", "AU1"), [("c", 0, 0), ("c", 1, 7)])
    assert f"{path}, row 1: found '7', expected a whole number from 0 to 1" in refusal(tmp_path)
    table(tmp_path, ".parquet", ("clip", "frame", "valence"), [("c", 0, [1.0])])
    assert "column 'valence' is of type list" in refusal(tmp_path)


def test_flags_and_categories_of_a_parquet_file_are_read(tmp_path):
    touch(tmp_path, ["a.jpg"])
    columns = {
        "path": pa.array(["a.jpg"]),
        "static": pa.array([True]),
        "AU1": pa.array([1.0], pa.float32()),
        "expression": pa.array(["sad"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "manifest.parquet")
    assert described(load("manifest", tmp_path))[0][4:] == (True, ["a.jpg"], [9.0], [9.0], ["sad"], [[1]])


def test_a_mistake_far_into_a_large_file_is_named_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr("extract.parsing.tables.BLOCK_BYTES", 4096)
    good = [f"c,{i},0.5" for i in range(5000)]
    for wrong, expected in (
        ("c,4321", "found 2 columns, expected 3"),
        ("c,4321,x", "found 'x'"),
        ("", "blank line"),
    ):
        path = csv_of(tmp_path, "clip,frame,valence", *good[:4321], wrong, *good[4322:])
        message = refusal(tmp_path)
        assert f"{path}, line 4323: " in message
        assert expected in message
    write(path, ["clip,frame,valence", *good, *[""] * 3000])
    assert len(load("manifest", tmp_path).clips[0].frames) == 5000


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        ("file,label", "1.jpg,sad", "no column 'path'"),
        ("clip,path", "c,1.jpg", "no column 'frame'"),
        ("path,path", "1.jpg,2.jpg", "header of different names"),
        ("Path,AU4", "0,0", "call it 'path'"),
        ("path,Expression", "0,0", "call it 'expression'"),
        ("path,au4", "0,0", "call it 'AU4'"),
        ("path,AU_04", "0,0", "call it 'AU04'"),
        ("AU4,AU04", "0,0", "'AU4' and 'AU04' are one action unit"),
    ],
)
def test_a_header_that_lacks_a_column_or_nearly_has_one_is_refused(tmp_path, header, row, told):
    path = csv_of(tmp_path, header, row)
    message = refusal(tmp_path)
    assert message.startswith(str(path))
    assert told in message


def test_the_root_is_the_file_or_the_folder_of_one_table(tmp_path):
    touch(tmp_path, ["1.jpg"])
    path = csv_of(tmp_path, "path", "1.jpg")
    other = path.rename(tmp_path / "faces.csv")
    assert load("manifest", other).clips[0].frames[0] == tmp_path / "1.jpg"
    assert "0 tables in" in refusal(tmp_path)
    csv_of(tmp_path, "path", "1.jpg")
    write(tmp_path / "manifest.tsv", ["path", "1.jpg"])
    assert "2 tables in" in refusal(tmp_path)
    assert "expected a file in .csv, .tsv, .parquet" in refusal(write(tmp_path / "m.txt", ["path", "1.jpg"]))


def test_too_many_classes_are_refused(tmp_path):
    rows = [f"c,{i},class {i}" for i in range(manifest_columns.MAX_CLASSES + 1)]
    csv_of(tmp_path, "clip,frame,expression", *rows)
    assert "expected at most 127 different classes" in refusal(tmp_path)


def test_a_manifest_goes_to_the_lists_of_an_experiment_by_name(tmp_path):
    rows = "c,0,Sad,1,1", "c,1,happy,0,0", "c,2,bored,,", "c,3,contempt,-1,1"
    csv_of(tmp_path, "clip,frame,expression,AU04,AU9", *rows)
    mapped, report = labelspace.to_space(load("manifest", tmp_path), EXPR_8, AU_12, {"contempt": "Other"})
    (clip,) = mapped.clips
    names = [EXPR_8[v] if v >= 0 else None for v in clip.labels.expression]
    assert names == ["Sadness", "Happiness", None, "Other"]
    assert clip.labels.au[:, AU_12.index("AU4")].tolist() == [1, 0, -1, -1]
    assert (np.delete(clip.labels.au, AU_12.index("AU4"), axis=1) == -1).all()
    assert {m.source: m.reason for m in report.expressions}["bored"] == "not in the list"


def test_a_column_beside_the_one_that_is_read_may_be_called_alike(tmp_path):
    touch(tmp_path, ["a.jpg"])
    write(tmp_path / "manifest.csv", ["path,Path,AU4,AU_c,AU45_r", "a.jpg,/old/a.jpg,1,0.5,3.1"])
    corpus = load("manifest", tmp_path)
    assert corpus.au_names == ("AU4",)
    assert noted(corpus, "columns that were not read: Path, AU_c, AU45_r")


def test_an_image_that_two_rows_name_is_read_twice_and_noted(tmp_path):
    touch(tmp_path, ["a.jpg"])
    write(tmp_path / "manifest.csv", ["path,expression", "a.jpg,sad", "a.jpg,joy"])
    assert noted(
        load("manifest", tmp_path), "1 of them name an image that an earlier one names: all were read"
    )
