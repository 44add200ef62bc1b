"""What ``stores.describe`` counts, and that a damaged clip does not keep it from counting the others."""

import numpy as np
import pytest
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from stores.errors import StoreError

BACKENDS = ("hdf5", "zarr")


def feature_store(folder, backend="hdf5", clips="abcd"):
    store = stores.create(folder, feature_spec(8), backend)
    for number, clip in enumerate(clips):
        store.write(clip, feature_arrays(10 + number, store.spec, number), {}, "abc" if number else "")
    return store


def largest_file(store, clip):
    path = store.data_path(clip)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_description_counts_clips_frames_valid_frames_bytes_and_sources(tmp_path, backend):
    store = feature_store(tmp_path / "store", backend)
    found = stores.describe(store.path)
    valid = sum(int(store.read(clip, "valid").sum()) for clip in "abcd")
    assert (found.clips, found.frames, found.sources) == (4, 46, 3)
    assert found.known == {"features": valid}
    assert found.known_share == {"features": valid / 46}
    files = [path for path in (store.path / "clips").rglob("*") if path.is_file()]
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert (found.path, found.version, found.backend, found.spec) == (store.path, 1, backend, store.spec)
    assert (found.damaged, found.missing, found.foreign, found.splits) == ((), (), (), {})


def test_a_description_counts_what_is_known_per_task_and_the_splits(tmp_path):
    store = stores.create(tmp_path / "labels", label_spec())
    arrays = label_arrays(50, store.spec)
    arrays["au"][:10] = -1
    store.write("a", arrays, LABEL_ATTRS)
    found = stores.describe(store.path)
    assert found.splits == {"train": 1}
    assert found.known == {
        "valence": np.isfinite(arrays["valence"]).sum(),
        "arousal": np.isfinite(arrays["arousal"]).sum(),
        "expression": (arrays["expression"] >= 0).sum(),
        "au": 40,
    }
    assert found.known_share["au"] == 0.8


def test_an_empty_store_is_described(tmp_path):
    found = stores.describe(stores.create(tmp_path / "store", feature_spec(8)).path)
    assert (found.clips, found.frames, found.bytes) == (0, 0, 0)
    assert found.known_share == {"features": 0.0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_damaged_missing_and_foreign_files_are_listed_and_the_other_clips_counted(tmp_path, backend):
    store = feature_store(tmp_path / "store", backend, "abcde")
    file = largest_file(store, "b")
    file.write_bytes(file.read_bytes()[:-1])
    store.record_path("c").write_text("{")
    (store.path / "clips" / "notes.txt").touch()
    data = store.data_path("e")
    data.rename(store.path / "clips" / ("z" + data.suffix))
    found = stores.describe(store.path)
    assert (found.clips, found.frames) == (2, 10 + 13)
    assert [finding.name for finding in found.damaged] == ["b", "c"]
    assert [finding.name for finding in found.missing] == ["e"]
    assert {"clips/notes.txt", f"clips/z{data.suffix}"} <= {finding.name for finding in found.foreign}
    assert all(finding.reason for finding in (*found.damaged, *found.missing, *found.foreign))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flipped_bit_in_the_flags_that_are_counted_is_damage(tmp_path, backend):
    store = feature_store(tmp_path / "store", backend)
    flags = store.read("d", "valid").tobytes()
    path = store.data_path("d")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    (file,) = [file for file in files if flags in file.read_bytes()]
    content = bytearray(file.read_bytes())
    content[content.index(flags)] ^= 1
    file.write_bytes(content)
    found = stores.describe(store.path)
    assert [finding.name for finding in found.damaged] == ["d"]
    assert (found.clips, found.frames) == (3, 33)


def test_a_label_record_without_a_split_is_damage(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "labels", label_spec())
    store.write("good", label_arrays(3, store.spec), LABEL_ATTRS)
    monkeypatch.setattr("stores.contents._check_label_attrs", lambda clip, attrs: None)
    store.write("bad", label_arrays(3, store.spec), {})
    monkeypatch.undo()
    found = stores.describe(store.path)
    assert found.splits == {"train": 1}
    ((name, reason),) = [(finding.name, finding.reason) for finding in found.damaged]
    assert name == "bad"
    assert "'split' is None" in reason


def test_equal_clips_have_one_content_digest_in_every_backend_and_others_another(tmp_path):
    store = feature_store(tmp_path / "store")
    before = stores.describe(store.path).content_sha256
    stores.convert(store.path, tmp_path / "copy", "zarr")
    assert stores.describe(tmp_path / "copy").content_sha256 == before
    store.write("a", feature_arrays(10, store.spec, 9))
    assert stores.describe(store.path).content_sha256 != before


def test_only_what_is_no_store_cannot_be_described(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        stores.describe(tmp_path)
