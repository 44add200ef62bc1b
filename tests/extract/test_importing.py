"""Importing features: every format says the same, nothing is guessed, and what is unknown stays unknown."""

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from store_specs import LABEL_ATTRS, feature_spec, label_arrays, label_spec

import stores
from extract.importing import ImportOptions, Selection, array_files, import_features
from extract.importing.source_files import SUFFIXES
from stores.digest import array_digest
from stores.errors import ConfigError, CorpusError, SpecMismatch, StoreError

OPTIONS = ImportOptions(stream="theirs", dtype="float32", nan_is_missing=True)
KINDS = ("npz", "h5", "zarr", "csv", "tsv", "parquet")
FORMS = [("npy", "folder")] + [(kind, shape) for kind in KINDS for shape in ("folder", "file")]


def clips_of(frames=(9, 4, 6), dim=5):
    """Clips of random float32; some rows are NaN, which stands for a missing frame."""
    source = np.random.default_rng(0)
    clips = {}
    for name, count in zip(("b_left", "a", "video.3"), frames, strict=True):
        clips[name] = source.standard_normal((count, dim)).astype(np.float32) * 100
        clips[name][count // 2] = np.nan
    return clips


def table_of(clip, features, *, named, **columns):
    table = {"clip": [clip] * len(features)} if named else {}
    table |= columns
    return pa.table(table | {f"f{i}": column for i, column in enumerate(features.T)})


def write_table(path, table):
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(delimiter=separator))


def write_arrays(path, arrays):
    """Writes arrays by name, in groups where a name has a slash."""
    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)
    elif path.suffix == ".zarr":
        group = zarr.open_group(path, mode="w")
        for name, values in arrays.items():
            group.create_array(name, data=np.asarray(values))
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values, compression="gzip", shuffle=True)


def write(folder, kind, shape, clips):
    """Writes clips in one of the forms; returns the source."""
    folder.mkdir(parents=True)
    source = folder if shape == "folder" else folder / f"all.{kind}"
    if kind in ("csv", "tsv", "parquet"):
        if shape == "file":
            write_table(source, pa.concat_tables([table_of(c, f, named=True) for c, f in clips.items()]))
        else:
            for clip, features in clips.items():
                write_table(folder / f"{clip}.{kind}", table_of(clip, features, named=False))
    elif shape == "file":
        write_arrays(source, clips)
    else:
        for clip, features in clips.items():
            path = folder / f"{clip}.{kind}"
            if kind == "npy":
                np.save(path, features)
            elif kind == "zarr":  # alone, and of the old version: the groups are of the new one
                zarr.create_array(path, data=features, zarr_format=2, compressors=numcodecs.LZMA())
            else:
                write_arrays(path, {"features": features})
    return source


def digests(path):
    store = stores.open(path)
    return {
        clip: {name: array.sha256 for name, array in store.record(clip).arrays.items()}
        for clip in store.clips()
    }


def expected(clips, dtype="float32"):
    result = {}
    for clip, features in sorted(clips.items()):
        valid = np.isfinite(features).all(axis=1)
        values = np.where(valid[:, None], features, 0).astype(dtype)
        frame = np.arange(len(features), dtype=np.int32)
        named = {"features": values, "frame": frame, "valid": valid}
        result[clip] = {name: array_digest(array) for name, array in named.items()}
    return result


def failure(tmp_path, source, options=OPTIONS):
    """The one clip that fails, as `clip: reason`."""
    report = import_features(source, tmp_path / "store", options)
    assert len(report.failed) == 1
    return f"{report.failed[0].clip}: {report.failed[0].reason}"


def one(tmp_path, kind="npz", **columns):
    """A folder with one clip, `a`, of named arrays, or of a table with these columns."""
    folder = tmp_path / "source"
    folder.mkdir(exist_ok=True)
    path = folder / f"a.{kind}"
    if kind in ("csv", "parquet"):
        write_table(path, table_of("a", columns.pop("features"), named=True, **columns))
    else:
        write_arrays(path, columns)
    return folder


def csv_file(tmp_path, text, name="all.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("kind", "shape"), FORMS)
def test_every_format_and_shape_gives_the_same_digests(tmp_path, kind, shape):
    clips = clips_of()
    report = import_features(write(tmp_path / "source", kind, shape, clips), tmp_path / "store", OPTIONS)
    assert digests(tmp_path / "store") == expected(clips)
    assert sorted(report.written) == sorted(clips)
    assert (report.failed, report.frames, report.not_finite) == ((), 19, 3)
    assert not stores.verify(tmp_path / "store").damaged


@pytest.mark.parametrize("kind", ["npz", "h5", "zarr", "csv", "parquet"])
def test_rows_go_to_the_frames_that_they_name_and_the_others_are_not_valid(tmp_path, kind):
    dense = clips_of()["b_left"]
    rows = np.random.default_rng(1).permutation(np.flatnonzero(np.isfinite(dense).all(axis=1)))
    folder = one(tmp_path, kind, features=dense[rows], frame=rows + (1.0 if kind == "h5" else 1))
    options = replace(OPTIONS, nan_is_missing=False, selection=Selection(first_frame=1))
    import_features(folder, tmp_path / "store", options)
    assert digests(tmp_path / "store") == expected({"a": dense})


@pytest.mark.parametrize("kind", ["npz", "h5", "zarr", "csv", "parquet"])
def test_a_row_that_is_marked_not_valid_is_zeroed_whatever_it_holds(tmp_path, kind):
    features = clips_of()["a"]
    valid = np.isfinite(features).all(axis=1)
    valid[0] = False
    folder = one(tmp_path, kind, features=features, valid=valid.astype(np.uint8) if kind == "npz" else valid)
    import_features(folder, tmp_path / "store", replace(OPTIONS, nan_is_missing=False))
    features[0] = np.nan
    assert digests(tmp_path / "store") == expected({"a": features})


@pytest.mark.parametrize("suffix", [".hdf5", ".zarr"])
def test_a_group_per_clip_holds_features_frames_and_flags(tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    arrays = {
        "a/features": np.ones((2, 3)),
        "a/frame": [0, 3],
        "a/valid": [1, 0],
        "b": np.ones((2, 3), ">f8"),
    }
    write_arrays(path, arrays)
    import_features(path, tmp_path / "store", OPTIONS)
    store = stores.open(tmp_path / "store")
    assert store.read("a", "valid").tolist() == [True, False, False, False]
    assert store.clips() == ["a", "b"]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("codec", ["blosc", "gzip", "sharded", None])
def test_zarr_arrays_of_either_version_and_any_codec_are_read(tmp_path, version, codec):
    features = clips_of()["b_left"]
    options = {"compressors": None}
    if codec == "blosc":
        options = {"compressors": numcodecs.Blosc() if version == 2 else zarr.codecs.BloscCodec()}
    elif codec == "gzip":
        options = {"compressors": numcodecs.GZip() if version == 2 else zarr.codecs.GzipCodec()}
    elif codec == "sharded" and version == 3:
        options = {"shards": (8, 5)}
    folder = tmp_path / "source"
    folder.mkdir()
    zarr.create_array(folder / "a.zarr", data=features, chunks=(4, 5), zarr_format=version, **options)
    import_features(folder, tmp_path / "store", OPTIONS)
    assert digests(tmp_path / "store") == expected({"a": features})


def test_chunks_that_a_zarr_array_does_not_have_are_told(tmp_path, caplog):
    group = zarr.open_group(tmp_path / "all.zarr", mode="w")
    array = group.create_array("a", shape=(9, 2), chunks=(3, 2), dtype="f4", fill_value=0)
    array[:3] = 1
    with caplog.at_level("WARNING"):
        import_features(tmp_path / "all.zarr", tmp_path / "store", OPTIONS)
    assert "2 of 3 chunks" in caplog.text


def test_an_array_of_another_name_is_taken_if_it_is_the_only_matrix_or_asked_for(tmp_path):
    matrix = np.ones((3, 2))
    import_features(one(tmp_path, embeddings=matrix, times=np.zeros(3)), tmp_path / "store", OPTIONS)
    np.savez(tmp_path / "source/a.npz", embeddings=matrix, other=matrix * 2)
    reason = failure(tmp_path, tmp_path / "source")
    assert "2 of 'embeddings', 'other' are 2-D" in reason
    assert "keeps what it had of the clip before" in reason
    options = replace(OPTIONS, selection=Selection(array="other"))
    import_features(tmp_path / "source", tmp_path / "store", options)
    assert stores.open(tmp_path / "store").read("a")[0, 0] == 2
    assert "no array 'nothing'" in failure(
        tmp_path, tmp_path / "source", replace(OPTIONS, selection=Selection(array="nothing"))
    )


def test_a_table_of_openface_is_read_as_it_comes(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.csv").write_text(
        "frame, timestamp, success, AU01_r, AU02_r, AU01_c\n"
        "1, 0.000, 1, 0.50, 1.25, 1.00\n2, 0.033, 0, 0.00, 0.00, 0.00\n4, 0.100, 1, 2.00, 0.00, 0.00\n"
    )
    selection = Selection(columns=("AU*_r",), valid="success", first_frame=1)
    import_features(folder, tmp_path / "store", replace(OPTIONS, selection=selection))
    store = stores.open(tmp_path / "store")
    assert store.read("a").tolist() == [[0.5, 1.25], [0, 0], [0, 0], [2, 0]]
    assert store.read("a", "valid").tolist() == [True, False, False, True]
    assert store.record("a").attrs["imported"]["columns"] == ["AU01_r", "AU02_r"]


def test_a_parquet_column_of_lists_is_a_matrix(tmp_path):
    lists = pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32()))
    pa.parquet.write_table(
        pa.table({"clip": pa.array(["a", "a", "a", "b"]).dictionary_encode(), "embedding": lists}),
        tmp_path / "all.parquet",
    )
    import_features(tmp_path / "all.parquet", tmp_path / "store", OPTIONS)
    store = stores.open(tmp_path / "store")
    assert store.read("a").tolist() == [[1, 2], [0, 0], [3, 4]]
    assert store.read("b").tolist() == [[5, 6]]
    ragged = pa.table({"e": pa.array([[1.0], [1.0, 2.0]])})
    (tmp_path / "source").mkdir()
    pa.parquet.write_table(ragged, tmp_path / "source/c.parquet")
    assert "c.parquet, row 1: found 'a list of 2', expected a list of 1" in failure(
        tmp_path, tmp_path / "source"
    )


def test_clips_that_span_many_blocks_of_a_table_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr("extract.parsing.tables.BLOCK_BYTES", 200)
    monkeypatch.setattr("extract.parsing.tables.BATCH_ROWS", 2)
    clips = clips_of((40, 1, 30))
    clips["a"][:] = 1
    for kind in ("csv", "parquet"):
        source = write(tmp_path / kind, kind, "file", clips)
        import_features(source, tmp_path / f"{kind}.store", OPTIONS)
        assert digests(tmp_path / f"{kind}.store") == expected(clips)


@settings(max_examples=40, deadline=None)
@given(
    features=arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 3)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_float32_survives_binary_and_text_to_the_last_bit(tmp_path_factory, features):
    tmp_path = tmp_path_factory.mktemp("round")
    for kind in ("npy", "csv", "parquet"):
        write(tmp_path / kind, kind, "folder", {"a": features})
        if kind == "csv":  # as Python writes it, not pyarrow
            lines = [",".join(f"f{i}" for i in range(features.shape[1]))]
            lines += [",".join(map(str, row)) for row in features]
            (tmp_path / "csv/a.csv").write_text("\n".join(lines))
        import_features(tmp_path / kind, tmp_path / f"{kind}.store", replace(OPTIONS, nan_is_missing=False))
        assert digests(tmp_path / f"{kind}.store") == expected({"a": features})


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_integers_and_doubles_are_rounded_to_the_dtype_of_the_store(tmp_path, dtype):
    folder = tmp_path / "source"
    folder.mkdir()
    doubles = np.random.default_rng(0).standard_normal((5, 3))
    np.save(folder / "a.npy", doubles)
    np.save(folder / "b.npy", np.arange(15, dtype=np.int64).reshape(5, 3))
    import_features(folder, tmp_path / "store", replace(OPTIONS, dtype=dtype))
    store = stores.open(tmp_path / "store")
    np.testing.assert_array_equal(store.read("a"), doubles.astype(dtype))
    assert store.read("b")[-1].tolist() == [12, 13, 14]


ONES = np.ones((2, 1))


@pytest.mark.parametrize(
    ("arrays", "place", "told"),
    [
        ({"features": ONES, "frame": [1, 1]}, ", row 1", "as is row 0"),
        ({"features": ONES, "frame": [0, -1]}, ", row 1", "frame number -1"),
        ({"features": ONES, "frame": [0, 0.5]}, ", row 1", "frame number 0.5"),
        ({"features": ONES, "frame": [0, np.nan]}, ", row 1", "frame number nan"),
        ({"features": ONES, "frame": [0, 2**63]}, ", row 1", "frame number 9.2"),
        ({"features": ONES, "frame": np.array([0, 2**64 - 1], "u8")}, ", row 1", "frame number 18"),
        ({"features": np.ones((1, 4)), "frame": [2**31 - 1]}, ", row 0", "2147483647: a clip of"),
        ({"features": ONES, "frame": [0]}, "", "(1,)"),
        ({"features": ONES, "frame": ["a", "b"]}, "", "<U1"),
        ({"features": ONES, "valid": [1, 2]}, ", row 1", "valid flag 2"),
        ({"features": ONES, "valid": [1.0, 0.0]}, "", "valid flags are of type float64"),
        ({"features": ONES, "valid": [0, 0]}, "", "none of its 2 rows"),
        ({"features": np.ones(2)}, "", "(2,), expected (frames, dimensions)"),
        ({"features": np.ones((0, 2))}, "", "(0, 2)"),
        ({"features": np.ones((2, 1), complex)}, "", "complex128"),
        ({"features": np.ones((2, 1), bool)}, "", "bool"),
        ({"features": np.array([[1.0], [np.nan]])}, ", row 1", "frame 1 holds nan"),
        ({"features": np.array([[1.0], [-np.inf]]), "frame": [0, 7]}, ", row 1", "frame 7 holds -inf"),
        ({"features": np.array([[1.0], [1e39]])}, ", row 1", "frame 1 holds 1e+39, beyond float32's largest"),
    ],
)
def test_a_clip_that_cannot_be_right_is_refused_by_row_and_frame(tmp_path, arrays, place, told):
    source = one(tmp_path, **arrays)
    reason = failure(tmp_path, source, replace(OPTIONS, nan_is_missing=False))
    assert reason.startswith(f"a: {source / 'a.npz'}{place}")
    assert told in reason
    assert not (tmp_path / "store").exists()


def test_a_value_that_float16_cannot_hold_is_named_with_the_remedy(tmp_path):
    features = np.ones((4, 2))
    features[2, 1] = -70000
    source = one(tmp_path, features=features, frame=[3, 2, 5, 1])
    reason = failure(tmp_path, source, replace(OPTIONS, dtype="float16"))
    assert "row 2: frame 5 holds -70000.0, beyond float16's largest number 65504" in reason
    assert "--dtype float32" in reason


def test_the_number_of_the_first_frame_needs_frame_numbers(tmp_path):
    options = replace(OPTIONS, selection=Selection(first_frame=1))
    assert "no frame numbers" in failure(tmp_path, one(tmp_path, features=ONES), options)
    source = one(tmp_path, features=ONES, frame=[1, 0])
    assert "row 1: found frame number 0, expected a whole number from 1" in failure(tmp_path, source, options)
    with pytest.raises(ConfigError, match="expected 0 or 1"):
        Selection(first_frame=2)


@pytest.mark.parametrize(
    ("text", "selection", "place", "told"),
    [
        ("clip,f\na,1\nb,2\na,3\n", {}, ", line 4", "sorted by 'clip'"),
        ("clip,f\na,1\n,2\n", {}, ", line 3", "the name of a clip"),
        ("who,f\na,1\n", {}, "", "--clip-column"),
        ("clip,f\n", {}, "", "no rows"),
        ("clip,f\na,1,2\n", {}, ", line 2", "3 columns, expected 2"),
        ("clip,f,f\na,1,2\n", {}, "", "header of different names"),
        ("clip,frame\na,1\n", {}, "", "no column is left"),
        ("clip,f\na,1\n", {"columns": ("g*",)}, "", "'g*'"),
        ("clip,f\na,1\n", {"columns": ("*",)}, "", "narrow --columns"),
        ("clip,f\na,1\n", {"frame": "t"}, "", "no column 't'"),
        ("", {}, "", "header"),
    ],
)
def test_a_table_that_cannot_be_cut_into_clips_is_refused_before_anything_is_written(
    tmp_path, text, selection, place, told
):
    options = replace(OPTIONS, selection=Selection(**selection))
    source = csv_file(tmp_path, text)
    with pytest.raises(CorpusError) as caught:
        import_features(source, tmp_path / "store", options)
    assert str(caught.value).startswith(f"{source}{place}: ")
    assert told in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("clip,f,mood\na,1,2\nb,1,happy\nc,1,3\n", 3, "'happy', expected a number in column 'mood'"),
        ("clip,f,mood\na,1,2\nb,1,\nc,1,3\n", 3, "frame 0 holds nan"),
        (
            "clip,f,valid\na,1,1\nb,1,maybe\nc,1,0\nc,1,true\n",
            3,
            "'maybe', expected 0 or 1 in column 'valid'",
        ),
        ("clip,f,valid\na,1,1\nb,1,\nc,1,1\n", 3, "'', expected 0 or 1"),
        ("clip,frame,f\na,0,1\nb,0,1\nb,0,2\nc,0,1\n", 4, "as is line 3"),
        ("clip,frame,f\na,0,1\nb,x,1\nc,0,1\n", 3, "'x', expected a number in column 'frame'"),
    ],
)
def test_a_mistake_in_one_clip_of_a_table_fails_that_clip_alone(tmp_path, text, line, told):
    options = replace(OPTIONS, nan_is_missing=False)
    source = csv_file(tmp_path, text)
    reason = failure(tmp_path, source, options)
    assert reason.startswith(f"b: {source}, line {line}")
    assert told in reason
    assert stores.open(tmp_path / "store").clips() == ["a", "c"]


def test_an_empty_line_is_a_row_and_shifts_nothing(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    csv_file(folder, "f\n1\n\n3\n", "a.csv")
    import_features(folder, tmp_path / "store", OPTIONS)
    assert stores.open(tmp_path / "store").read("a", "valid").tolist() == [True, False, True]


def test_a_file_of_one_clip_must_not_hold_another(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    csv_file(folder, "clip,f\nb,1\n", "a.csv")
    assert "column 'clip' holds 'b', expected 'a'" in failure(tmp_path, folder)


def test_text_in_a_typed_table_is_no_feature(tmp_path):
    (tmp_path / "source").mkdir()
    pa.parquet.write_table(
        pa.table({"f": [1.0], "day": [np.datetime64(0, "s")]}), tmp_path / "source/a.parquet"
    )
    assert "column 'day' is of type timestamp" in failure(tmp_path, tmp_path / "source")


def test_a_parquet_file_with_a_name_that_is_no_text_is_damaged(tmp_path):
    source = write(tmp_path / "source", "parquet", "file", clips_of())
    source.write_bytes(source.read_bytes().replace(b"clip", b"cl\xe9p"))
    with pytest.raises(CorpusError, match=r"no readable \.parquet file"):
        import_features(source, tmp_path / "store", OPTIONS)


def test_clips_of_another_dimension_or_other_columns_fail_and_name_both(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    csv_file(folder, "f,g\n1,2\n", "a.csv")
    csv_file(folder, "g,f\n1,2\n", "b.csv")
    csv_file(folder, "f,g,h\n1,2,3\n", "c.csv")
    failed = import_features(folder, tmp_path / "store", OPTIONS).failed
    assert [clip.clip for clip in failed] == ["b", "c"]
    assert "clip 'b' has other columns than clip 'a', or in another order" in failed[0].reason
    assert "clip 'c' has 3 features per frame, clip 'a' has 2" in failed[1].reason
    again = import_features(folder, tmp_path / "store", OPTIONS)
    assert (again.failed, again.unchanged) == (failed, ("a",))


def test_the_folder_holds_clips_of_one_format_and_nothing_else(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    with pytest.raises(CorpusError, match="holds nothing"):
        import_features(folder, tmp_path / "store", OPTIONS)
    np.save(folder / "a.npy", np.ones((2, 2)))
    (folder / ".DS_Store").write_text("")
    assert import_features(folder, tmp_path / "store", OPTIONS).written == ("a",)
    np.savez(folder / "b.npz", features=np.ones((2, 2)))
    with pytest.raises(CorpusError, match=r"files of 2 kinds \(.npy .npz\)"):
        import_features(folder, tmp_path / "store", OPTIONS)
    (folder / "README.txt").write_text("")
    (folder / "more").mkdir()
    with pytest.raises(CorpusError, match=r"holds README.txt, more: expected one file per clip"):
        import_features(folder, tmp_path / "store", OPTIONS)


def test_sources_that_are_something_else_are_refused_with_advice(tmp_path):
    np.save(tmp_path / "all.npy", np.ones((2, 2, 2)))
    with pytest.raises(CorpusError, match=r"cannot tell clips apart: give the folder"):
        import_features(tmp_path / "all.npy", tmp_path / "store", OPTIONS)
    with pytest.raises(CorpusError, match=r"nowhere is not a folder, nor a file that ends in one of \.npy"):
        import_features(tmp_path / "nowhere", tmp_path / "store", OPTIONS)
    stores.create(tmp_path / "made", feature_spec(4))
    with pytest.raises(CorpusError, match=r"made is a store already: .* streams\.<name>\.store"):
        import_features(tmp_path / "made", tmp_path / "store", OPTIONS)


def test_options_that_mean_nothing_for_a_format_are_refused(tmp_path):
    np.savez(tmp_path / "all.npz", a=np.ones((2, 2)))
    columns = replace(OPTIONS, selection=Selection(columns=("f*",)))
    with pytest.raises(ConfigError, match="--columns is for tables"):
        import_features(tmp_path / "all.npz", tmp_path / "store", columns)
    array = replace(OPTIONS, selection=Selection(array="x"))
    source = csv_file(tmp_path, "clip,f\na,1\n")
    with pytest.raises(ConfigError, match=r"--array is for \.npz"):
        import_features(source, tmp_path / "store", array)


def test_a_clip_that_cannot_be_a_file_name_fails_and_the_others_go_on(tmp_path):
    source = csv_file(tmp_path, "clip,f\n../up,1\na,1\n")
    assert "clip id '../up'" in failure(tmp_path, source)
    assert stores.open(tmp_path / "store").clips() == ["a"]


@pytest.fixture
def labels(tmp_path):
    store = stores.create(tmp_path / "labels", label_spec())
    for clip, frames in (("a", 4), ("b", 6), ("z", 3)):
        store.write(clip, label_arrays(frames, label_spec()), LABEL_ATTRS)
    return store.path


def test_like_gives_the_length_and_says_what_does_not_match(tmp_path, labels):
    clips = {"a": np.ones((4, 2)), "b": np.ones((5, 2)), "stranger": np.ones((3, 2))}
    source = write(tmp_path / "source", "npz", "file", clips)
    report = import_features(source, tmp_path / "store", replace(OPTIONS, like=labels))
    store = stores.open(tmp_path / "store")
    assert store.read("b", "valid").tolist() == [True] * 5 + [False]
    assert (report.written, report.lacking) == (("a", "b"), ("z",))
    assert [clip.clip for clip in report.failed] == ["stranger"]
    assert "has no such clip" in report.failed[0].reason


def test_a_clip_longer_than_the_one_it_must_be_like_fails_with_both_lengths(tmp_path, labels):
    source = write(tmp_path / "source", "npz", "file", {"a": np.ones((5, 2))})
    reason = failure(tmp_path, source, replace(OPTIONS, like=labels))
    assert "5 rows, but the clip has 4 frames" in reason
    folder = one(tmp_path / "source", features=np.ones((2, 2)), frame=[0, 9])
    reason = failure(tmp_path, folder, replace(OPTIONS, like=labels))
    assert "row 1: found frames up to 9, but the clip has 4" in reason


def test_what_is_told_of_the_origin_is_recorded_and_the_rest_is_unknown(tmp_path):
    source = write(tmp_path / "source", "csv", "file", clips_of())
    weights = tmp_path / "best.onnx"
    weights.write_bytes(b"weights")
    options = replace(
        OPTIONS, backbone="vit", weights_file=weights, trained_on=("AffectNet",), image_size=224
    )
    import_features(source, tmp_path / "store", options)
    store = stores.open(tmp_path / "store")
    spec = store.spec
    assert (spec.stream, spec.backbone, spec.weights, spec.image_size) == ("theirs", "vit", "best.onnx", 224)
    assert spec.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (spec.mean, spec.std, spec.interpolation, spec.decoder) == (None, None, "unknown", "unknown")
    assert store.record("a").attrs == {
        "imported": {
            "file": "all.csv",
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "reader": "csv",
            "columns": ["f0", "f1", "f2", "f3", "f4"],
            "importer": 1,
        },
        "missing": 1,
        "not_finite": 1,
    }
    assert str(tmp_path) not in (store.record_path("a")).read_text()
    with pytest.raises(SpecMismatch, match="backbone is 'vit', wanted 'unknown'"):
        import_features(source, tmp_path / "store", OPTIONS)
    with pytest.raises(ConfigError, match="leave out --weights-sha256"):
        import_features(source, tmp_path / "other", replace(options, weights_sha256="0" * 64))
    with pytest.raises(StoreError, match="weights_sha256 is 'abc'"):
        import_features(source, tmp_path / "other", replace(OPTIONS, weights_sha256="abc"))


def test_many_columns_are_recorded_by_number_and_digest(tmp_path):
    import_features(write(tmp_path / "source", "csv", "file", clips_of(dim=65)), tmp_path / "store", OPTIONS)
    columns = stores.open(tmp_path / "store").record("a").attrs["imported"]["columns"]
    assert columns["count"] == 65
    assert len(columns["sha256"]) == 64


def test_a_label_store_is_no_target(tmp_path, labels):
    with pytest.raises(SpecMismatch, match="holds labels: expected a feature store"):
        import_features(write(tmp_path / "source", "npz", "file", clips_of()), labels, OPTIONS)


@pytest.mark.parametrize("shape", ["folder", "file"])
def test_a_repeated_import_writes_nothing_and_a_changed_file_is_imported_again(tmp_path, shape):
    clips = clips_of()
    source = write(tmp_path / "source", "npz", shape, clips)
    import_features(source, tmp_path / "store", OPTIONS)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    again = import_features(source, tmp_path / "store", OPTIONS)
    assert (again.written, sorted(again.unchanged)) == ((), sorted(clips))
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}

    clips["a"] = clips["a"] + 1
    if shape == "folder":
        np.savez(source / "a.npz", features=clips["a"])
    else:
        np.savez(source, **clips)
    changed = import_features(source, tmp_path / "store", OPTIONS)
    assert sorted(changed.written) == (["a"] if shape == "folder" else sorted(clips))
    assert digests(tmp_path / "store") == expected(clips)


def test_other_options_import_the_same_file_again(tmp_path):
    source = one(tmp_path, features=np.ones((2, 1)), frame=[1, 2])
    import_features(source, tmp_path / "store", OPTIONS)
    import_features(source, tmp_path / "store", replace(OPTIONS, selection=Selection(first_frame=1)))
    assert stores.open(tmp_path / "store").record("a").frames == 2


@pytest.mark.parametrize(("kind", "shape"), [("npy", "folder"), ("csv", "file"), ("h5", "file")])
def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path, kind, shape):
    clips = clips_of()
    source = write(tmp_path / "source", kind, shape, clips)

    def interrupt(step, total, completed):
        if step == "import" and completed == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_features(source, tmp_path / "store", OPTIONS, interrupt)
    assert len(stores.open(tmp_path / "store").clips()) == 2
    report = import_features(source, tmp_path / "store", OPTIONS)
    assert (len(report.written), len(report.unchanged)) == (1, 2)
    assert digests(tmp_path / "store") == expected(clips)


@pytest.mark.parametrize("kind", ["npz", "zarr"])
def test_a_file_that_changes_while_it_is_read_is_not_committed(tmp_path, kind, monkeypatch):
    original = array_files.read_one

    def read_one(path, selection):
        rows = original(path, selection)
        write_arrays(path, {"features": np.zeros((2, 1))})
        return rows

    monkeypatch.setattr(array_files, "read_one", read_one)
    source = one(tmp_path, kind, features=np.ones((2, 1)))
    assert "changed while it was read" in failure(tmp_path, source)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "csv", "parquet"])
def test_a_truncated_file_fails_its_clip_and_the_others_are_imported(tmp_path, kind):
    clips = clips_of()
    source = write(tmp_path / "source", kind, "folder", clips)
    path = source / f"b_left.{kind}"
    data = path.read_bytes()
    path.write_bytes(
        data[: len(data) // 2 - (data[: len(data) // 2][::-1].index(b"\n") - 3 if kind == "csv" else 0)]
    )
    assert failure(tmp_path, source).startswith(f"b_left: {path}")
    del clips["b_left"]
    assert digests(tmp_path / "store") == expected(clips)


def test_one_damaged_array_in_a_file_of_many_clips_fails_alone(tmp_path):
    clips = clips_of()
    source = tmp_path / "all.npz"
    np.savez(source, **clips)
    data = bytearray(source.read_bytes())
    data[data.index(clips["a"].tobytes()) + 3] ^= 1
    source.write_bytes(data)
    assert f"a: {source}: Bad CRC-32" in failure(tmp_path, source)
    assert stores.open(tmp_path / "store").clips() == ["b_left", "video.3"]


def test_pickles_are_never_loaded(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    np.save(folder / "a.npy", np.array([{}, []], object), allow_pickle=True)
    assert "pickles are never loaded" in failure(tmp_path, folder)
    source = one(tmp_path / "source", features=np.array([[{}]], object))
    assert "pickles are never loaded" in failure(tmp_path, source)
    zarr.create_array(tmp_path / "zarr/a.zarr", data=np.ones((2, 2)), zarr_format=2)
    metadata = json.loads((tmp_path / "zarr/a.zarr/.zarray").read_text())
    metadata["compressor"] = {"id": "pickle", "protocol": 4}
    (tmp_path / "zarr/a.zarr/.zarray").write_text(json.dumps(metadata))
    assert "pickle" in failure(tmp_path, tmp_path / "zarr")


def header(shape, dtype="<f4", version=(1, 0)):
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (header((2**40, 2**20)) + bytes(8), "damaged"),
        (header((2, 2)) + bytes(15), "16 bytes by its header, but 15 bytes follow"),
        (header((-1, 2)) + bytes(16), ""),
        (header((2,), [("x", "<f4"), ("y", "<f4")]) + bytes(16), "expected numbers"),
        (header((2, 2)).replace(b"}", b"(") + bytes(16), "header"),
        (header((2, 2), "<q9") + bytes(16), "descr"),
        (b"PK\x03\x04", "magic"),
        (b"", "EOF"),
    ],
)
def test_a_damaged_header_is_refused_before_memory_is_taken(tmp_path, data, told):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a.npy").write_bytes(data)
    reason = failure(tmp_path, tmp_path / "source")
    assert reason.startswith(f"a: {tmp_path / 'source/a.npy'}: ")
    assert told in reason


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "zarr", "csv", "parquet"])
def test_a_clip_over_the_limit_is_refused(tmp_path, kind):
    source = write(tmp_path / "source", kind, "folder", {"a": np.ones((999, 4))})
    options = replace(OPTIONS, selection=Selection(max_bytes=2**10))
    assert "the limit for a clip is 1024" in failure(tmp_path, source, options)


def test_an_archive_of_other_things_than_arrays_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    with zipfile.ZipFile(tmp_path / "source/a.npz", "w") as archive:
        archive.writestr("evil.pkl", b"")
    assert "holds 'evil.pkl'" in failure(tmp_path, tmp_path / "source")


def soft(file, path):
    file["other"] = np.ones((2, 2))
    file["features"] = h5py.SoftLink("/other")


def external(file, path):
    with h5py.File(path.parent.parent / "other.h5", "w") as other:
        other["features"] = np.ones((2, 2))
    file["features"] = h5py.ExternalLink("../other.h5", "features")


def external_storage(file, path):
    (path.parent.parent / "raw").write_bytes(bytes(32))
    file.create_dataset("features", (2, 2), "f8", external=[(str(path.parent.parent / "raw"), 0, 32)])


def virtual(file, path):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("../other.h5", "features", (2, 2))
    file.create_virtual_dataset("features", layout)


def strings(file, path):
    file["features"] = [["a", "b"]]


def ragged(file, path):
    file.create_dataset("features", (2,), h5py.vlen_dtype(np.float32))


def bomb(file, path):
    file.create_dataset("features", (2**36, 2**10), "f4", chunks=(1, 2**10))


def unwritten(file, path):
    data = file.create_dataset("features", (64, 4), "f4", chunks=(8, 4), fillvalue=1)
    data[:56] = 0


def group(file, path):
    file.create_group("features")


def latin(file, path):
    file.id.links.create_soft(b"\xe9", b"x")


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (soft, "'features' is a soft or external link"),
        (external, "'features' is a soft or external link"),
        (external_storage, "virtual or external storage"),
        (virtual, "virtual or external storage"),
        (strings, "expected numbers"),
        (ragged, "expected numbers"),
        (bomb, "takes 281474976710656 bytes"),
        (unwritten, "never written in full"),
        (group, "'features' is a group"),
        (latin, "a name that is not UTF-8"),
    ],
)
@pytest.mark.parametrize("shape", ["folder", "file"])
def test_hdf5_that_leads_elsewhere_or_makes_values_up_is_refused(tmp_path, build, told, shape):
    folder = tmp_path / "source"
    folder.mkdir()
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        if shape == "file":
            file["z"] = np.ones((2, 2))
            build(file.create_group("a"), path)
        else:
            build(file, path)
    options = replace(OPTIONS, selection=Selection(max_bytes=2**29))
    assert told in failure(tmp_path, path if shape == "file" else folder, options)
    assert (tmp_path / "store").exists() == (shape == "file")


@pytest.mark.parametrize(("kind", "shape"), FORMS)
def test_flipped_bytes_end_in_an_error_or_in_a_store_that_verifies(tmp_path, kind, shape):
    source = write(tmp_path / "source", kind, shape, clips_of())
    path = source if shape == "file" else source / f"a.{kind}"
    if kind == "zarr":
        path = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    data = path.read_bytes()
    dice = random.Random(0)
    for trial in range(12):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(damaged)
        store = tmp_path / f"store{trial}"
        try:
            report = import_features(source, store, OPTIONS)
        except CorpusError:
            continue
        assert report.written or report.failed
        if report.written:
            assert stores.open(store).clips() == sorted(report.written)


def test_the_importer_imports_no_torch():
    code = "import sys, extract.importing.source_files; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_every_format_of_the_table_of_readers_is_in_these_tests():
    assert {f".{kind}" for kind, _ in FORMS} | {".hdf5"} == set(SUFFIXES)


def test_the_attributes_are_plain_json(tmp_path):
    import_features(write(tmp_path / "source", "npz", "file", clips_of()), tmp_path / "store", OPTIONS)
    document = json.loads(stores.open(tmp_path / "store").record_path("a").read_text())
    assert document["attrs"]["imported"]["columns"] is None
