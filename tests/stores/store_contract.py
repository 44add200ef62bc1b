"""The contract that every store backend keeps, as tests to subclass: real stores on a real file system."""

import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

from stores.backends import BackendName
from stores.conversion import convert
from stores.description import describe
from stores.digest import Array, array_digest
from stores.errors import SpecMismatch, StoreError
from stores.store import Store, create, open
from stores.verification import verify


class StoreContract:
    """The tests that a backend must pass; subclass it and set ``backend``."""

    backend: BackendName

    def new_store(self, folder: Path, dim: int = 8) -> Store:
        """Returns a new feature store of the backend under test."""
        return create(folder / "store", feature_spec(dim), self.backend)

    def test_what_is_written_is_what_is_read(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        arrays = feature_arrays(50, feature_spec(8))
        record = store.write("video59_right", arrays, {"note": ["a", 1, None]}, "abc")
        assert store.record("video59_right") == record
        assert (record.frames, record.source_digest, record.attrs) == (50, "abc", {"note": ["a", 1, None]})
        assert store.clips() == ["video59_right"]
        for name, array in arrays.items():
            read = store.read("video59_right", name)
            assert read.dtype == array.dtype
            assert read.flags.c_contiguous
            assert read.flags.writeable
            np.testing.assert_array_equal(read, array)
            assert record.arrays[name].sha256 == array_digest(array)

    def test_label_clips_keep_their_unknowns(self, tmp_path: Path) -> None:
        store = create(tmp_path / "labels", label_spec(), self.backend)
        arrays = label_arrays(33, label_spec())
        store.write("a", arrays, LABEL_ATTRS)
        for name, array in arrays.items():
            np.testing.assert_array_equal(store.read("a", name), array)
        assert store.record("a").attrs == LABEL_ATTRS

    def test_windows_equal_slices_across_chunk_borders(self, tmp_path: Path) -> None:
        spec = feature_spec(2048)
        store = create(tmp_path / "store", spec, self.backend)
        arrays = feature_arrays(300, spec)
        store.write("a", arrays)
        for start, stop in (
            (0, 300),
            (0, 128),
            (127, 129),
            (128, 256),
            (255, 300),
            (299, 300),
            (7, 7),
            (300, 300),
        ):
            np.testing.assert_array_equal(
                store.read("a", "features", start, stop), arrays["features"][start:stop]
            )

    def test_windows_outside_of_the_clip_are_refused(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        store.write("a", feature_arrays(5, feature_spec(8)))
        for start, stop in ((-1, 3), (0, 6), (4, 2), (6, 6)):
            with pytest.raises(StoreError, match="not within"):
                store.read("a", "features", start, stop)
        with pytest.raises(StoreError, match="no array 'valence'"):
            store.read("a", "valence")

    def test_a_clip_without_a_commit_record_does_not_exist(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        store.write("a", feature_arrays(5, feature_spec(8)))
        store.read("a")
        store.record_path("a").unlink()
        assert store.clips() == []
        assert not store.has("a")
        with pytest.raises(StoreError, match="no commit record"):
            store.read("a")

    def test_rewriting_a_clip_replaces_it_for_every_reader(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        other = open(store.path)
        for seed, frames in ((1, 9), (2, 9), (3, 70)):
            arrays = feature_arrays(frames, feature_spec(8), seed)
            store.write("a", arrays)
            np.testing.assert_array_equal(store.read("a"), arrays["features"])
            np.testing.assert_array_equal(other.read("a"), arrays["features"])
        assert verify(store.path).ok

    def test_equal_arrays_give_equal_bytes(self, tmp_path: Path) -> None:
        arrays = feature_arrays(300, feature_spec(2048))
        trees = []
        for name in ("one", "two"):
            store = create(tmp_path / name, feature_spec(2048), self.backend)
            store.write("a", arrays)
            trees.append(_tree(store.path))
        assert trees[0] == trees[1]

    def test_a_store_travels_to_other_processes_and_threads(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        arrays = feature_arrays(40, feature_spec(8))
        store.write("a", arrays)
        copy = pickle.loads(pickle.dumps(store))
        results: list[Array] = []
        threads = [threading.Thread(target=lambda: results.append(copy.read("a"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == len(threads)
        for result in results:
            np.testing.assert_array_equal(result, arrays["features"])

    def test_create_opens_an_equal_store_and_refuses_any_other(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        store.write("a", feature_arrays(5, feature_spec(8)))
        assert self.new_store(tmp_path).clips() == ["a"]
        with pytest.raises(SpecMismatch, match="dim is 8, wanted 9"):
            create(store.path, feature_spec(9), self.backend)
        with pytest.raises(SpecMismatch, match="kind is 'features', wanted 'labels'"):
            create(store.path, label_spec(), self.backend)

    def test_verify_finds_any_flipped_bit_and_repair_removes_the_clip(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        for clip in ("a", "b"):
            store.write(clip, feature_arrays(20, feature_spec(8)))
        arrays = feature_arrays(20, feature_spec(8))
        values = arrays["features"][arrays["valid"].argmax()].tobytes()
        files = [path for path in [store.data_path("a"), *store.data_path("a").rglob("*")] if path.is_file()]
        (path,) = [path for path in files if values in path.read_bytes()]
        data = bytearray(path.read_bytes())
        data[data.index(values) + 5] ^= 1
        path.write_bytes(data)
        report = verify(store.path, repair=True)
        assert [finding.name for finding in report.damaged] == ["a"]
        assert store.clips() == ["b"]
        assert verify(store.path).ok
        store.write("a", feature_arrays(20, feature_spec(8)))
        assert verify(store.path).ok

    def test_a_truncated_clip_is_found_without_reading_it_all(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        store.write("a", feature_arrays(20, feature_spec(8)))
        files = [path for path in [store.data_path("a"), *store.data_path("a").rglob("*")] if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:-1])
        assert [finding.name for finding in verify(store.path, depth="quick").damaged] == ["a"]
        with pytest.raises(StoreError, match=r"takes .* bytes"):
            open(store.path).read("a")

    def test_a_symbolic_link_in_place_of_data_is_refused(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        store.write("a", feature_arrays(20, feature_spec(8)))
        outside = tmp_path / "outside"
        store.data_path("a").rename(outside)
        store.data_path("a").symlink_to(outside)
        with pytest.raises(StoreError, match="symbolic links are refused"):
            open(store.path).read("a")
        verify(store.path, repair=True)
        assert outside.exists()
        assert store.clips() == []

    def test_conversion_there_and_back_keeps_every_digest(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        for number in range(3):
            store.write(
                f"clip{number}", feature_arrays(100 + number, feature_spec(8), number), {"n": number}, "s"
            )
        other: BackendName = "zarr" if self.backend == "hdf5" else "hdf5"
        there = convert(store.path, tmp_path / "there", other)
        back = convert(there.path, tmp_path / "back", self.backend)
        assert _tree(back.path) == _tree(store.path)
        for clip in store.clips():
            assert there.record(clip).arrays == store.record(clip).arrays

    def test_describe_counts_frames_and_bytes(self, tmp_path: Path) -> None:
        store = self.new_store(tmp_path)
        arrays = feature_arrays(100, feature_spec(8))
        store.write("a", arrays)
        found = describe(store.path)
        assert (found.clips, found.frames, found.known) == (1, 100, {"features": int(arrays["valid"].sum())})
        on_disk = sum(path.stat().st_size for path in (store.path / "clips").rglob("*") if path.is_file())
        assert found.bytes == on_disk


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        os.fspath(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
