"""Each file format as others see it, and the files that are refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import store_specs
import xarray
import zarr
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from stores.backends import backend_module
from stores.errors import StoreError

SPEC = feature_spec(2048)
ARRAYS = feature_arrays(300, SPEC)


@pytest.fixture
def hdf5_store(tmp_path):
    store = stores.create(tmp_path / "store", SPEC, "hdf5")
    store.write("a", ARRAYS)
    return store


@pytest.fixture
def zarr_store(tmp_path):
    store = stores.create(tmp_path / "store", SPEC, "zarr")
    store.write("a", ARRAYS)
    return store


def test_zarr_python_reads_every_array_of_a_clip(zarr_store, tmp_path):
    labels = stores.create(tmp_path / "labels", label_spec(), "zarr")
    label = label_arrays(77, label_spec())
    labels.write("a", label, LABEL_ATTRS)
    for store, arrays in ((zarr_store, ARRAYS), (labels, label)):
        group = zarr.open_group(store.data_path("a"), mode="r")
        assert sorted(group.array_keys()) == sorted(arrays)
        for name, array in arrays.items():
            assert group[name].dtype == array.dtype
            np.testing.assert_array_equal(group[name][:], array)
            np.testing.assert_array_equal(group[name][5:70], array[5:70])
            assert (
                len([path for path in (store.data_path("a") / name).iterdir() if path.name != "zarr.json"])
                == 1
            )


def test_zarr_python_notices_a_flipped_bit_in_a_chunk(zarr_store):
    shard = zarr_store.data_path("a") / "features" / "c.0.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_group(zarr_store.data_path("a"), mode="r")["features"][:]
    with pytest.raises(StoreError, match=r"chunk 0 \(frames 0:128\) fails its CRC-32C"):
        zarr_store.read("a")
    np.testing.assert_array_equal(zarr_store.read("a", "features", 128, 300), ARRAYS["features"][128:])


def test_xarray_opens_a_zarr_clip_with_named_dimensions(zarr_store):
    with xarray.open_zarr(zarr_store.data_path("a"), consolidated=False) as dataset:
        assert dataset["features"].dims == ("frame", "feature")
        assert dataset["valid"].dims == ("frame",)
        np.testing.assert_array_equal(
            dataset["features"].isel(frame=slice(10, 20)), ARRAYS["features"][10:20]
        )
        np.testing.assert_array_equal(dataset["frame"], ARRAYS["frame"])


def test_h5py_reads_every_array_of_a_clip_with_named_dimensions(hdf5_store):
    with h5py.File(hdf5_store.data_path("a"), "r") as file:
        assert file["features"].chunks == (128, 2048)
        assert file["features"].compression is None
        assert [dim.label for dim in file["features"].dims] == ["frame", "feature"]
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(file[name][:], array)


def test_hdf5_files_of_different_processes_are_equal(tmp_path):
    code = (
        "import sys, stores; from store_specs import *\n"
        "stores.create(sys.argv[1], feature_spec(64)).write('a', feature_arrays(5000, feature_spec(64)))"
    )
    for name in ("one", "two"):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=60, cwd=Path(store_specs.__file__).parent)
    one, two = ((tmp_path / name / "clips" / "a.h5").read_bytes() for name in ("one", "two"))
    assert one == two


def _link(kind):
    def make(file, outside):
        del file["features"]
        file["features"] = (
            h5py.SoftLink("/frame") if kind == "soft" else h5py.ExternalLink(outside, "/features")
        )

    return make


def _external(file, outside):
    del file["features"]
    file.create_dataset("features", (300, 2048), "f2", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])


def _virtual(file, outside):
    del file["features"]
    layout = h5py.VirtualLayout((300, 2048), "f2")
    layout[:] = h5py.VirtualSource(str(outside), "features", (300, 2048))
    file.create_virtual_dataset("features", layout)


def _replace(**arguments):
    def make(file, outside):
        del file["features"]
        file.create_dataset("features", **arguments)

    return make


def _group(file, outside):
    del file["features"]
    file.create_group("features")


@pytest.mark.parametrize(
    ("attack", "match"),
    [
        (_link("soft"), "soft or external link"),
        (_link("external"), "soft or external link"),
        (_external, "virtual, compact or external storage"),
        (_virtual, "virtual, compact or external storage"),
        (_replace(data=ARRAYS["features"], compression="gzip"), "1 filters"),
        (_replace(data=ARRAYS["features"], fletcher32=True), "1 filters"),
        (_replace(shape=(300, 2048), dtype=h5py.string_dtype()), "is object"),
        (_replace(shape=(300, 2048), dtype=h5py.ref_dtype), "is object"),
        (_replace(data=ARRAYS["features"].astype("f4")), "is float32"),
        (_replace(data=ARRAYS["features"].astype(">f2")), "is >f2"),
        (_replace(data=ARRAYS["features"][:299]), r"\(299, 2048\), expected float16 \(300, 2048\)"),
        (_replace(shape=(2**40, 2048), dtype="f2", chunks=(128, 2048)), r"1099511627776, 2048\)"),
        (_replace(shape=(300, 2048), dtype="f2", chunks=(128, 2048)), "holds 0 bytes"),
        (_replace(shape=(300, 2048), dtype="f2", maxshape=(None, None), chunks=(2**14, 2048)), "has chunks"),
        (_group, "is not a dataset"),
        (lambda file, outside: file.create_dataset("more", data=1), "holds 5 objects, expected 4"),
        (lambda file, outside: file.pop("frame"), "holds 3 objects, expected 4"),
        (lambda file, outside: file.move("frame", "fram"), "not a readable clip"),
    ],
)
def test_a_hostile_hdf5_file_is_refused_before_anything_is_read(hdf5_store, tmp_path, attack, match):
    path = hdf5_store.data_path("a")
    outside = tmp_path / "outside.h5"
    shutil.copy(path, outside)
    with h5py.File(path, "r+") as file:
        attack(file, outside)
    with pytest.raises(StoreError, match=match):
        backend_module("hdf5").locate(path, SPEC, 300)
    with pytest.raises(StoreError):
        stores.open(hdf5_store.path).read("a")


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"not HDF5 at all", bytes(4096)])
def test_what_is_not_hdf5_is_a_store_error(hdf5_store, data):
    path = hdf5_store.data_path("a")
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"not a readable clip|ends at byte"):
        backend_module("hdf5").locate(path, SPEC, 300)


def _metadata(clip, change):
    path = clip / "features" / "zarr.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(data_type={"name": "variable_length_utf8"}),
        lambda d: d.update(data_type="object", codecs=[{"name": "numcodecs.pickle"}]),
        lambda d: d["codecs"].append({"name": "gzip", "configuration": {"level": 5}}),
        lambda d: d.update(shape=[2**40, 2048]),
        lambda d: d.update(shape=[300.0, 2048]),
        lambda d: d.update(
            storage_transformers=[{"name": "reference", "configuration": {"path": "../../x"}}]
        ),
        lambda d: d.update(chunk_key_encoding={"name": "../../outside"}),
        lambda d: d.pop("shape"),
    ],
)
def test_zarr_metadata_that_this_format_does_not_write_is_refused(zarr_store, change):
    _metadata(zarr_store.data_path("a"), change)
    with pytest.raises(StoreError, match="not as this format writes it"):
        backend_module("zarr").locate(zarr_store.data_path("a"), SPEC, 300)
    with pytest.raises(StoreError):
        stores.open(zarr_store.path).read("a")


def test_a_zarr_clip_that_leaves_its_folder_or_lacks_a_file_is_refused(zarr_store, tmp_path):
    clip = zarr_store.data_path("a")
    shard = clip / "features" / "c.0.0"
    kept = tmp_path / "kept"
    shard.rename(kept)
    with pytest.raises(StoreError, match=r"holds \['zarr.json'\], expected"):
        zarr_store.open_clip("a")
    shard.symlink_to(kept)
    with pytest.raises(StoreError, match="symbolic links are refused"):
        zarr_store.open_clip("a")
    shard.unlink()
    kept.rename(shard)
    (clip / "features").rename(tmp_path / "features")
    (clip / "features").symlink_to(tmp_path / "features")
    with pytest.raises(StoreError, match="symbolic links are refused"):
        zarr_store.open_clip("a")


def test_a_shard_with_a_missing_chunk_is_refused_not_read_as_zeros(zarr_store):
    shard = zarr_store.data_path("a") / "features" / "c.0.0"
    data = bytearray(shard.read_bytes())
    data[-4 - 3 * 16 : -4 - 2 * 16] = b"\xff" * 16
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="not a complete shard"):
        zarr_store.read("a")
