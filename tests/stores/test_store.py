"""Creating, opening, writing and reading, where backends do not differ."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from stores import documents
from stores.errors import FormatVersionError, SpecMismatch, StoreError

BACKENDS = ("hdf5", "zarr")


@pytest.fixture
def store(tmp_path):
    return stores.create(tmp_path / "store", feature_spec(8))


def test_a_spec_mismatch_names_every_field_with_both_values_and_what_to_do(store):
    other = feature_spec(9, "float32")
    with pytest.raises(SpecMismatch) as caught:
        stores.create(store.path, other)
    for part in (
        "dtype is 'float16', wanted 'float32'",
        "dim is 8, wanted 9",
        "delete this store",
        str(store.path),
    ):
        assert part in str(caught.value)


def test_another_backend_is_refused_with_advice_to_convert(store):
    with pytest.raises(StoreError, match="facets convert"):
        stores.create(store.path, store.spec, "zarr")


def test_an_unknown_format_version_is_refused_with_advice(store):
    file = store.path / "store.json"
    document = json.loads(file.read_text())
    document["version"] = 2
    file.write_text(json.dumps(document))
    with pytest.raises(FormatVersionError, match="format version 2, this code knows 1: use the release"):
        stores.open(store.path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "\x00",
        '{"format": "facets-store", "format": "facets-store"}',
        '{"format": NaN}',
        "[" * 100_000,
        '{"format": "other", "version": 1}',
        '{"format": "facets-store", "version": 1}',
        '{"format": "facets-store", "version": 1, "kind": "x", "backend": "hdf5", "spec": {}}',
        '{"format": "facets-store", "version": 1, "kind": "labels", "backend": "hdf5", "spec": {}}',
        '{"format": "facets-store", "version": 1, "kind": [], "backend": "hdf5", "spec": {}}',
    ],
)
def test_a_damaged_description_is_a_store_error(store, text):
    (store.path / "store.json").write_text(text)
    with pytest.raises(StoreError):
        stores.open(store.path)


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        stores.open(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"holds thesis\.tex; choose another"):
        stores.create(tmp_path, feature_spec())
    with pytest.raises(StoreError, match="unknown backend 'npz': expected hdf5 or zarr"):
        stores.create(tmp_path / "new", feature_spec(), "npz")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "clip",
    ["", ".", "..", ".hidden", "a/b", "../a", "a..b", "a\\b", "a\x00b", "a\nb", "é" * 101, "\ud800", 3, None],
)
def test_a_hostile_clip_id_is_refused_everywhere(store, clip):
    for use in (
        store.has,
        store.record,
        store.read,
        lambda c: store.write(c, feature_arrays(3, feature_spec(8))),
    ):
        with pytest.raises(StoreError, match="clip id"):
            use(clip)


@pytest.mark.parametrize(
    "clip", ["video59_right", "4-30-1920x1080", "é" * 100, "a.h5", "a.json", "a b", "x" * 200]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_plain_clip_id_is_kept_as_it_is(tmp_path, backend, clip):
    store = stores.create(tmp_path / "store", feature_spec(8), backend)
    store.write(clip, feature_arrays(3, feature_spec(8)))
    store.write("a", feature_arrays(4, feature_spec(8)))
    assert store.clips() == sorted(["a", clip])
    assert len(store.read(clip)) == 3
    assert stores.verify(store.path).ok


def _set(name, index, value):
    def change(arrays):
        arrays[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("valid"), "has exactly"),
        (lambda a: a.update(extra=np.zeros(9)), "has exactly"),
        (lambda a: a.update(features=a["features"].astype("f4")), r"float32 \(9, 8\), expected float16"),
        (lambda a: a.update(features=a["features"].astype(">f2")), "expected float16"),
        (lambda a: a.update(features=a["features"][:, :7]), r"\(9, 7\), expected float16 \(9, 8\)"),
        (lambda a: a.update(valid=a["valid"][:8]), r"'valid' is bool \(8,\), expected bool \(9,\)"),
        (lambda a: a.update(frame=list(range(9))), "'frame' is list"),
        (lambda a: a.update(features=a["features"][:0]), "no frames"),
        (_set("frame", 4, 7), "'frame' is wrong at frame 4"),
        (_set("features", (5, 2), np.nan), "'features' is wrong at frame 5 .*finite"),
        (_set("features", (3, 2), np.inf), "'features' is wrong at frame 3 .*finite"),
        (_set("valid", 0, False), "'features' is wrong at frame 0 .*row of zeros"),
    ],
)
def test_features_that_break_a_promise_are_refused_and_nothing_is_left(store, change, match):
    arrays = feature_arrays(9, feature_spec(8))
    arrays["features"][:] = 1
    arrays["valid"][:] = True
    change(arrays)
    with pytest.raises(StoreError, match=f"'wart'.*{match}"):
        store.write("wart", arrays)
    assert list((store.path / "clips").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set("valence", 2, -5), r"'valence' is wrong at frame 2 .*\[-1, 1\]"),
        (_set("arousal", 2, np.inf), "'arousal' is wrong at frame 2"),
        (_set("expression", 6, 7), "'expression' is wrong at frame 6 .*0 to 6"),
        (_set("expression", 6, -2), "'expression' is wrong at frame 6"),
        (_set("au", (1, 3), 2), "'au' is wrong at frame 1"),
    ],
)
def test_labels_outside_of_their_range_are_refused(tmp_path, change, match):
    store = stores.create(tmp_path / "labels", label_spec())
    arrays = label_arrays(9, label_spec())
    change(arrays)
    with pytest.raises(StoreError, match=match):
        store.write("wart", arrays, LABEL_ATTRS)


@pytest.mark.parametrize(
    ("attrs", "match"),
    [
        ({**LABEL_ATTRS, "split": "val"}, "'split' is 'val', expected train or validation or test"),
        ({**LABEL_ATTRS, "fps": 0}, "'fps' is 0"),
        ({key: value for key, value in LABEL_ATTRS.items() if key != "subject"}, "'subject' is None"),
        ({**LABEL_ATTRS, "x": float("nan")}, "as JSON"),
        ({**LABEL_ATTRS, "x": {1, 2}}, "as JSON"),
        ({**LABEL_ATTRS, 3: 4}, "as JSON|key is no string"),
        ({**LABEL_ATTRS, "video": 3}, "attribute .video. is 3"),
        ({**LABEL_ATTRS, "scored": "no"}, "attribute .scored. is .no."),
        ({**LABEL_ATTRS, "x": "y" * 2**20}, "attributes take"),
    ],
)
def test_attributes_that_break_a_promise_are_refused(tmp_path, attrs, match):
    store = stores.create(tmp_path / "labels", label_spec())
    with pytest.raises(StoreError, match=match):
        store.write("wart", label_arrays(9, label_spec()), attrs)


def test_a_record_of_another_spec_is_refused(tmp_path):
    one = stores.create(tmp_path / "one", feature_spec(8))
    two = stores.create(tmp_path / "two", feature_spec(8, "float32"))
    one.write("a", feature_arrays(3, one.spec))
    for path in (one.data_path("a"), one.record_path("a")):
        (two.path / "clips" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="different specs never mix"):
        two.read("a")


@pytest.mark.parametrize("note", ['"\\ud800"', "1e999", "NaN"])
def test_a_record_that_canonical_json_cannot_hold_is_damage_not_a_crash(store, note):
    store.write("a", feature_arrays(3, store.spec), {"note": "x"})
    path = store.record_path("a")
    path.write_text(path.read_text().replace('"x"', note))
    with pytest.raises(StoreError, match="not a valid JSON document"):
        store.read("a")
    assert [finding.name for finding in stores.verify(store.path).damaged] == ["a"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_record_of_more_frames_than_its_data_can_hold_is_refused(tmp_path, backend):
    store = stores.create(tmp_path / "store", feature_spec(8), backend)
    record = store.write("a", feature_arrays(3, store.spec))
    frames = 2**60
    bomb = {name: replace(array, shape=(frames, *array.shape[1:])) for name, array in record.arrays.items()}
    store.record_path("a").write_bytes(replace(record, frames=frames, arrays=bomb).render())
    with pytest.raises(StoreError, match=f"its {frames} frames take"):
        store.read("a")


def test_damaged_data_names_the_repair(store):
    store.write("a", feature_arrays(3, store.spec))
    store.data_path("a").unlink()
    with pytest.raises(StoreError, match="cannot be read") as caught:
        store.read("a")
    assert any("facets verify --repair" in note for note in caught.value.__notes__)


def test_a_label_record_without_a_split_is_refused(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "labels", label_spec())
    monkeypatch.setattr("stores.contents._check_label_attrs", lambda clip, attrs: None)
    store.write("a", label_arrays(3, store.spec), {})
    monkeypatch.undo()
    with pytest.raises(StoreError, match="'split' is None"):
        store.record("a")


def test_strided_arrays_are_written_by_value(store):
    arrays = feature_arrays(9, feature_spec(8))
    strided = dict(arrays, features=np.asfortranarray(arrays["features"]))
    assert store.write("a", arrays).arrays == store.write("b", strided).arrays


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_window_of_any_clip_equals_the_numpy_slice(backend, data):
    frames = data.draw(st.integers(1, 700))
    spec = feature_spec(
        data.draw(st.sampled_from([1, 3, 1024])), data.draw(st.sampled_from(["float16", "float32"]))
    )
    with tempfile.TemporaryDirectory() as folder:
        store = stores.create(folder, spec, backend)
        arrays = feature_arrays(frames, spec, seed=frames)
        store.write("a", arrays)
        for _ in range(10):
            start = data.draw(st.integers(0, frames))
            stop = data.draw(st.integers(start, frames))
            for name, array in arrays.items():
                np.testing.assert_array_equal(store.read("a", name, start, stop), array[start:stop])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_process_reads_right_beside_its_parent(tmp_path, backend):
    spec = feature_spec(2048)
    store = stores.create(tmp_path / "store", spec, backend)
    arrays = feature_arrays(600, spec)
    store.write("a", arrays)
    store.read("a")  # the handle is open when the process forks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is the point
        with multiprocessing.get_context("fork").Pool(2) as pool:
            reads = pool.starmap_async(
                store.read, [("a", "features", start, start + 60) for start in range(0, 540, 9)]
            )
            for start in range(0, 540, 9):
                here = store.read("a", "features", start, start + 60)
                np.testing.assert_array_equal(here, arrays["features"][start : start + 60])
            for start, there in zip(range(0, 540, 9), reads.get(60), strict=True):
                np.testing.assert_array_equal(there, arrays["features"][start : start + 60])


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_mapped_store_reads_the_same_and_checks_the_same(tmp_path, backend):
    spec = feature_spec(2048)
    arrays = feature_arrays(300, spec)
    stores.create(tmp_path / "s", spec, backend).write("a", arrays)
    store = pickle.loads(pickle.dumps(stores.open(tmp_path / "s", mapped=True)))
    assert store.mapped
    for start, stop in ((0, 300), (0, 300), (120, 140), (7, 7), (127, 300)):  # the second time it is mapped
        window = store.read("a", start=start, stop=stop)
        np.testing.assert_array_equal(window, arrays["features"][start:stop])
        window[:] = 0  # the caller's own: the file is not touched
    with next(path for path in store.data_path("a").parent.rglob("*") if _holds(path, arrays)).open(
        "r+b"
    ) as f:
        f.truncate(4096)
    with pytest.raises(StoreError, match="ends at byte"):  # not SIGBUS
        store.read("a")
    with pytest.raises(StoreError):
        stores.open(tmp_path / "s", mapped=True).read("a")


def _holds(path, arrays):
    return path.is_file() and path.stat().st_size > arrays["features"].nbytes


def test_more_clips_are_read_than_handles_stay_open(store):
    for number in range(70):
        store.write(f"{number:03}", feature_arrays(3, store.spec, number))
    for _ in range(2):
        for number in range(70):
            np.testing.assert_array_equal(
                store.read(f"{number:03}"), feature_arrays(3, store.spec, number)["features"]
            )
    assert len(store._open) == stores.store.OPEN_CLIPS


def test_progress_is_reported_per_clip(store, tmp_path):
    for clip in "abc":
        store.write(clip, feature_arrays(3, store.spec))
    calls = []

    def progress(step, total, completed):
        calls.append((step, total, completed))

    stores.verify(store.path, progress=progress)
    stores.convert(store.path, tmp_path / "copy", "zarr", progress=progress)
    stores.describe(store.path, progress=progress)
    assert calls == [(step, 3, n) for step in ("verify", "convert", "info") for n in (1, 2, 3)]


def test_a_conversion_resumes_and_refuses_its_own_source(store, tmp_path):
    for clip in "ab":
        store.write(clip, feature_arrays(3, store.spec))
    copy = stores.convert(store.path, tmp_path / "copy", "zarr")
    before = copy.record_path("a").stat().st_ino
    copy.record_path("b").unlink()
    stores.convert(store.path, tmp_path / "copy", "zarr")
    assert copy.record_path("a").stat().st_ino == before
    assert copy.clips() == ["a", "b"]
    with pytest.raises(StoreError, match="onto itself"):
        stores.convert(store.path, store.path, "hdf5")


def test_a_document_is_never_read_through_a_link_a_pipe_or_past_its_limit(tmp_path):
    real, link, pipe, big = (tmp_path / name for name in ("real", "link", "pipe", "big"))
    real.write_text("{}")
    link.symlink_to(real)
    os.mkfifo(pipe)
    with big.open("wb") as file:
        file.truncate(documents.MAX_BYTES + 1)
    assert documents.read(real) == {}
    for path in (link, pipe, big, tmp_path):
        with pytest.raises(StoreError, match="cannot read"):
            documents.read(path)


def test_importing_stores_imports_no_file_format_no_dask_and_no_torch():
    code = (
        "import sys, stores; heavy = {'h5py', 'zarr', 'dask', 'torch', 'click', 'pytest'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"
