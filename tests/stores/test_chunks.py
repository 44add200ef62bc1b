"""Reading by position: any pieces of a file in any order, whatever the system gives per call."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_specs import feature_arrays, feature_spec

import stores
from stores.backends import chunks
from stores.backends.chunks import Location, OpenFile, StoredArray, checksums, crc32c
from stores.errors import StoreError
from stores.layout import ArrayLayout

DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("chunks") / "data"
    path.write_bytes(DATA)
    return OpenFile(path)


def test_crc32c_is_the_one_of_rfc_3720():
    # Appendix B.4: 32 bytes of zeros, of ones, and 0 to 31.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(memoryview(bytearray(range(32)))) == 0x46DD794E
    assert crc32c(np.arange(32, dtype=np.uint8)) == 0x46DD794E


@settings(deadline=None, max_examples=200)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 700)).filter(lambda p: sum(p) <= len(DATA)),
        max_size=12,
    ),
    call_bytes=st.integers(1, 2000),
    most=st.integers(1, 300),
)
def test_any_pieces_are_gathered_whatever_the_limits_of_a_call_are(file, pieces, call_bytes, most):
    buffers = [memoryview(bytearray(length)) for _, length in pieces]
    real = os.preadv

    def preadv(descriptor, targets, offset):
        # A system that gives at most so many bytes at a time.
        count = 0
        for target in targets:
            part = target[: most - count]
            count += real(descriptor, [part], offset + count) if part else 0
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "MAX_CALL_BYTES", call_bytes)
        patch.setattr(os, "preadv", preadv)
        file.gather([(offset, buffer) for (offset, _), buffer in zip(pieces, buffers, strict=True)])
    for (offset, length), buffer in zip(pieces, buffers, strict=True):
        assert bytes(buffer) == DATA[offset : offset + length]


def test_reading_past_the_end_says_where_the_file_ends(file):
    with pytest.raises(StoreError, match=f"ends at byte {len(DATA)}, expected {len(DATA) + 10} at least"):
        file.read(len(DATA) - 20, 30)
    with pytest.raises(StoreError, match="ends at byte"):
        file.read(len(DATA) + 5, 1)


def test_an_input_error_of_the_disk_is_a_store_error_that_names_the_file(file, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(StoreError, match=f"{file.path} cannot be read at byte 7: Input/output error"):
        file.read(7, 1)


def test_every_chunk_is_read_whole_and_checked_once_then_only_the_rows_that_are_asked_for(
    tmp_path, monkeypatch
):
    layout = ArrayLayout((300, 2048), "float16", ("frame", "feature"))
    values = feature_arrays(300, feature_spec(2048))["features"]
    (tmp_path / "data").write_bytes(values.tobytes())
    step = layout.chunk_frames * layout.row_bytes
    location = Location(OpenFile(tmp_path / "data"), range(0, layout.nbytes, step))
    stored = StoredArray(location, layout, checksums(values, layout))
    read = []
    real = os.preadv

    def preadv(descriptor, buffers, offset):
        read.append(sum(map(len, buffers)))
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    for start, stop in ((120, 140), (120, 140), (0, 300), (100, 290)):
        np.testing.assert_array_equal(stored.read(start, stop), values[start:stop])
    row = layout.row_bytes
    assert read == [128 * row, 128 * row, 20 * row, 44 * row, 256 * row, 190 * row]


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_any_flipped_bit_of_the_values_is_an_error_of_the_windows_that_touch_its_chunk(tmp_path, backend):
    spec = feature_spec(1024)
    arrays = feature_arrays(700, spec)
    store = stores.create(tmp_path / "store", spec, backend)
    store.write("a", arrays)
    data = store.data_path("a")
    path = data if backend == "hdf5" else data / "features" / "c.0.0"
    content = bytearray(path.read_bytes())
    valid = 512 + int(arrays["valid"][512:].argmax())  # any other row is zeros, of which there are many
    row = arrays["features"][valid].tobytes()
    position = content.index(row) + 77
    for bit in range(8):
        content[position] ^= 1 << bit
        path.write_bytes(content)
        fresh = stores.open(store.path)
        np.testing.assert_array_equal(fresh.read("a", "features", 0, 512), arrays["features"][:512])
        for start, stop in ((0, 700), (512, 513), (650, 700)):
            with pytest.raises(StoreError, match=r"chunk 2 \(frames 512:700\) fails its CRC-32C") as caught:
                fresh.read("a", "features", start, stop)
            assert any("facets verify --repair" in note for note in caught.value.__notes__)
        content[position] ^= 1 << bit


def test_many_windows_are_read_as_one_by_one(tmp_path):
    spec = feature_spec(16)
    store = stores.create(tmp_path / "store", spec)
    arrays = {clip: feature_arrays(90, spec, seed) for seed, clip in enumerate("abc")}
    for clip, values in arrays.items():
        store.write(clip, values)
    windows = [(clip, start, stop) for clip in "cab" for start, stop in ((0, 30), (60, None), (5, 5))]
    for (clip, start, stop), window in zip(windows, store.read_many(windows), strict=True):
        np.testing.assert_array_equal(window, arrays[clip]["features"][start:stop])
    np.testing.assert_array_equal(store.read_many([("a", 3, 9)], "valid")[0], arrays["a"]["valid"][3:9])
    assert store.read_many([]) == []
    with pytest.raises(StoreError, match="clip 'd' is not in the store"):
        store.read_many([("a", 0, 1), ("d", 0, 1)])
