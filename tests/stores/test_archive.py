"""Stores of every format version that ever was, as they were written then: they are read for ever.

Never write the files below ``archive/`` anew. A new version of the format adds a folder of its own.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import plain_reader
import pytest
from store_specs import LABEL_ATTRS, feature_spec, label_spec

import stores
from stores.errors import FormatVersionError

ARCHIVE = Path(__file__).parent / "archive"
BACKENDS = ("hdf5", "zarr")
# One frame, a few frames, and two chunks that were written over a shorter version.
FRAMES = {"one": 1, "few": 19, "rewritten": 300}


def features(frames, dim=1024):
    """Values that anybody can recompute; every eleventh frame is not valid."""
    frame, feature = np.arange(frames), np.arange(dim)
    values = ((frame[:, None] * 7 + feature * 13) % 97 / 8).astype(np.float16)
    valid = frame % 11 != 3
    values[~valid] = 0
    return {"features": values, "frame": frame.astype(np.int32), "valid": valid}


def labels(frames):
    """Values that anybody can recompute, some of each unknown."""
    frame, unit = np.arange(frames), np.arange(12)
    valence = ((frame * 5 % 33 - 16) / 16).astype(np.float32)
    valence[frame % 7 == 2] = np.nan
    return {
        "valence": valence,
        "arousal": -valence,
        "expression": (frame % 8 - 1).astype(np.int8),
        "au": ((frame[:, None] + unit) % 3 - 1).astype(np.int8),
    }


KINDS = {"features": (features, feature_spec(1024), {}), "labels": (labels, label_spec(), LABEL_ATTRS)}


def write_archive(folder: Path) -> None:
    """Writes what the archive of the current version holds; run once per version, by hand."""
    for kind, (values, spec, attrs) in KINDS.items():
        for backend in BACKENDS:
            store = stores.create(folder / f"{kind}-{backend}", spec, backend)
            store.write("rewritten", values(5), attrs)
            for clip, frames in FRAMES.items():
                store.write(clip, values(frames), attrs, "what it was made from")


@pytest.fixture(params=[(kind, backend) for kind in KINDS for backend in BACKENDS], ids="-".join)
def archived(request):
    kind, backend = request.param
    values, spec, attrs = KINDS[kind]
    return ARCHIVE / "v1" / f"{kind}-{backend}", values, spec, attrs


def test_a_store_of_version_1_is_read_and_verifies(archived):
    path, values, spec, attrs = archived
    store = stores.open(path)
    assert store.spec == spec
    assert store.clips() == sorted(FRAMES)
    for clip, frames in FRAMES.items():
        record = store.record(clip)
        assert (record.frames, record.attrs, record.source_digest) == (frames, attrs, "what it was made from")
        for name, wanted in values(frames).items():
            read = store.read(clip, name)
            assert read.dtype == wanted.dtype
            np.testing.assert_array_equal(read, wanted)
    for depth in ("full", "sampled", "quick"):
        assert stores.verify(path, depth=depth).ok


def test_the_document_of_the_format_is_enough_to_read_version_1(archived):
    path, values, _, _ = archived
    read = plain_reader.read_store(path)
    assert sorted(read) == sorted(FRAMES)
    for clip, frames in FRAMES.items():
        wanted = values(frames)
        assert sorted(read[clip]) == sorted(wanted)
        for name, array in wanted.items():
            shape, data = read[clip][name]
            assert shape == array.shape
            assert data == array.tobytes()


def test_what_is_written_today_has_the_digests_and_names_of_version_1(archived, tmp_path):
    path, _, _, _ = archived
    write_archive(tmp_path)
    today, then = stores.open(tmp_path / path.name), stores.open(path)
    for clip in FRAMES:
        new, old = today.record(clip), then.record(clip)
        # The size may change with the library that writes the file, nothing else.
        assert (new.arrays, new.attrs, new.spec_sha256, new.data) == (
            old.arrays,
            old.attrs,
            old.spec_sha256,
            old.data,
        )


def test_a_copy_of_version_1_in_the_other_backend_has_the_same_digests(archived, tmp_path):
    path, _, _, _ = archived
    there = stores.open(path)
    copy = stores.convert(path, tmp_path / "copy", "zarr" if there.backend == "hdf5" else "hdf5")
    for clip in FRAMES:
        assert copy.record(clip).arrays == there.record(clip).arrays


def test_h5py_users_find_every_dimension_named_and_scaled():
    for kind, names in (("features", ["frame", "feature"]), ("labels", ["frame", "action_unit"])):
        store = stores.open(ARCHIVE / "v1" / f"{kind}-hdf5")
        with h5py.File(store.data_path("few"), "r") as file:
            for name, layout in store.spec.layout(19).items():
                for axis, dim in enumerate(layout.dims):
                    assert file[name].dims[axis].label == dim
                    if dim != name:
                        assert file[name].dims[axis][dim] == file[dim]
            for dim in names:
                assert file[dim].is_scale
            np.testing.assert_array_equal(file["frame"], np.arange(19))
            if kind == "features":
                np.testing.assert_array_equal(file["feature"], np.arange(1024))
            else:
                assert [name.decode() for name in file["action_unit"]] == list(store.spec.au_names)


def test_an_unknown_version_is_refused_with_advice(archived, tmp_path):
    path, _, _, _ = archived
    store = tmp_path / "later"
    shutil.copytree(path, store)
    document = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(FormatVersionError, match="version 2, this code knows 1: use the release of FACETS"):
        stores.open(store)


def test_the_plain_reader_is_independent_and_notices_damage(tmp_path):
    source = Path(plain_reader.__file__).read_text()
    assert "import stores" not in source
    assert "from stores" not in source
    assert plain_reader.crc32c(b"123456789") == 0xE3069283
    store = tmp_path / "store"
    shutil.copytree(ARCHIVE / "v1" / "features-zarr", store)
    shard = store / "clips" / "few.zarr" / "features" / "c.0.0"
    content = bytearray(shard.read_bytes())
    content[7] ^= 16
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="chunk 0 of 'features' fails its CRC"):
        plain_reader.read_store(store)
