"""Dask arrays over stores, and the statistics that are computed with them."""

import multiprocessing
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from stores.arrays import store_array
from stores.errors import StoreError
from stores.statistics import Moments, moments

BACKENDS = ("hdf5", "zarr")
SCHEDULERS = ("synchronous", "threads", "processes")
FRAMES = (5, 700, 3, 90)


def filled(folder, backend="hdf5", dim=16, frames=FRAMES):
    """A store of clips of some lengths, and all its features and valid flags end to end."""
    store = stores.create(folder / "store", feature_spec(dim), backend)
    written = []
    for number, length in enumerate(frames):
        arrays = feature_arrays(length, store.spec, number)
        arrays["features"][arrays["valid"]] += np.arange(dim, dtype=np.float16)
        arrays["features"][:, 0] = 0
        store.write(f"clip{number}", arrays)
        written.append(arrays)
    return store, *(np.concatenate([arrays[name] for arrays in written]) for name in ("features", "valid"))


@pytest.fixture
def store(tmp_path):
    return stores.create(tmp_path / "store", feature_spec(8))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dask_array_is_lazy_chunked_by_frames_and_equal(tmp_path, backend):
    store = stores.create(tmp_path / "store", feature_spec(8), backend)
    arrays = feature_arrays(1000, store.spec)
    store.write("a", arrays)
    lazy = store_array(store, clips=["a"], frames_per_task=400)
    assert lazy.chunks == ((400, 400, 200), (8,))
    assert lazy.dtype == np.float16
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), arrays["features"])
    np.testing.assert_array_equal(
        lazy[395:405, 2:4].compute(scheduler="sync"), arrays["features"][395:405, 2:4]
    )
    np.testing.assert_array_equal(
        store_array(store, "valid", ["a"]).compute(scheduler="sync"), arrays["valid"]
    )


@pytest.mark.parametrize(
    "key",
    [np.s_[::3], np.s_[::-1], np.s_[700:100:-7, 2:5], np.s_[5], np.s_[-1, 3], np.s_[[3, 7, 900]], np.s_[9:9]],
    ids=str,
)
def test_a_dask_array_is_indexed_like_the_array_it_stands_for(store, key):
    arrays = feature_arrays(1000, store.spec)
    store.write("a", arrays)
    lazy = store_array(store, clips=["a"], frames_per_task=400)
    np.testing.assert_array_equal(lazy[key].compute(scheduler="sync"), arrays["features"][key])


def test_clips_lie_end_to_end_in_the_order_asked_for(tmp_path):
    store, features, valid = filled(tmp_path)
    np.testing.assert_array_equal(store_array(store, frames_per_task=100).compute(), features)
    np.testing.assert_array_equal(store_array(store, "valid").compute(), valid)
    both = store_array(store, clips=["clip3", "clip0"])
    np.testing.assert_array_equal(both.compute(), np.concatenate([features[-90:], features[:5]]))
    assert store_array(store, clips=[]).compute().shape == (0, 16)
    assert store_array(store, clips=[], valid_only=True).compute().shape == (0, 16)


def test_short_clips_share_a_task_and_long_ones_are_cut(tmp_path):
    store, _, _ = filled(tmp_path, frames=(2,) * 20 + (95,))
    assert store_array(store, frames_per_task=50).chunks[0] == (50, 50, 35)
    assert store_array(store).numblocks == (1, 1)


def test_valid_frames_only_have_a_known_shape_and_are_indexed_like_an_array(tmp_path):
    store, features, valid = filled(tmp_path)
    lazy = store_array(store, valid_only=True, frames_per_task=100)
    assert lazy.shape == (valid.sum(), 16)
    assert lazy.dtype == np.float16
    for key in (np.s_[:], np.s_[3:500:7], np.s_[::-1], np.s_[-1, 2], np.s_[[1, 400, 600]]):
        np.testing.assert_array_equal(lazy[key].compute(scheduler="sync"), features[valid][key])
    frame = store_array(store, "frame", valid_only=True, frames_per_task=100)
    assert frame.shape == (valid.sum(),)
    assert frame[0].compute() == np.flatnonzero(valid)[0]


def test_arrays_of_other_blocks_or_other_contents_are_never_taken_for_each_other(tmp_path):
    store, _, _ = filled(tmp_path, frames=(9, 9))
    names = {store_array(store, frames_per_task=5).name, store_array(store).name}
    names |= {store_array(store, clips=["clip0"]).name, store_array(store, clips=["clip1"]).name}
    store.write("clip0", feature_arrays(9, store.spec, 7))
    names.add(store_array(store, clips=["clip0"]).name)
    assert len(names) == 5


def test_what_is_not_in_the_store_is_refused_when_the_array_is_made(tmp_path):
    store, _, _ = filled(tmp_path, frames=(3,))
    with pytest.raises(StoreError, match="no array 'valence', only features, frame, valid"):
        store_array(store, "valence")
    with pytest.raises(StoreError, match="'nobody' is not in the store"):
        store_array(store, clips=["nobody"])
    labels = stores.create(tmp_path / "labels", label_spec())
    labels.write("a", label_arrays(9, label_spec()), LABEL_ATTRS)
    assert store_array(labels, "au").shape == (9, 12)
    with pytest.raises(StoreError, match="no array 'features'"):
        moments(labels)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_statistics_are_the_same_with_every_scheduler(tmp_path, scheduler):
    store, features, valid = filled(tmp_path)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, spawn) if scheduler == "processes" else ThreadPoolExecutor(2)
    with pool, dask.config.set(scheduler=scheduler, pool=pool):
        assert_right(store, features, valid)


def test_statistics_are_the_same_on_a_distributed_cluster_of_processes(tmp_path):
    store, features, valid = filled(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # distributed is none of ours
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # not dask's default port, which another test may have taken
                host="127.0.0.1",
            ) as cluster,
            Client(cluster) as client,
        ):
            assert_right(store, features, valid)
            lazy = store_array(store, frames_per_task=100)
            np.testing.assert_array_equal(client.compute(lazy).result(60), features)


def assert_right(store, features, valid):
    known = features[valid].astype(np.float64)
    found = moments(store, frames_per_task=100)
    assert found.frames == valid.sum()
    np.testing.assert_allclose(found.mean, known.mean(axis=0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found.std, known.std(axis=0), rtol=1e-13)
    np.testing.assert_array_equal(found.minimum, known.min(axis=0))
    np.testing.assert_array_equal(found.maximum, known.max(axis=0))
    np.testing.assert_array_equal(found.zeros, (known == 0).sum(axis=0))
    assert found.dead.tolist() == [0]
    assert found.zero_share == (known == 0).mean()
    # A different order of the same blocks would already differ in the last bits.
    with dask.config.set(scheduler="synchronous"):
        alone = moments(store, frames_per_task=100)
    assert [alone.mean.tobytes(), alone.std.tobytes()] == [found.mean.tobytes(), found.std.tobytes()]


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_moments_of_parts_add_up_to_numpys_float64_moments_of_the_whole(data):
    frames = data.draw(st.integers(1, 60))
    dtype = data.draw(st.sampled_from([np.float16, np.float32]))
    # A mean far away from zero: a sum of squares would lose all digits of the deviation.
    offset = data.draw(st.sampled_from([0, 1, 1000] if dtype == np.float16 else [0, 1e4, 1e8]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = (random.standard_normal((frames, 3)) + offset).astype(dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=4)))
    parts = [Moments.of(part) for part in np.split(values, cuts)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    wide = values.astype(np.float64)
    assert total.frames == frames
    np.testing.assert_allclose(total.mean, wide.mean(axis=0), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(total.std, wide.std(axis=0), rtol=1e-7 if offset else 1e-12, atol=1e-12)
    np.testing.assert_array_equal(total.minimum, wide.min(axis=0))
    np.testing.assert_array_equal(total.maximum, wide.max(axis=0))
    np.testing.assert_array_equal(total.zeros, (wide == 0).sum(axis=0))


def test_moments_of_a_store_without_a_valid_frame_are_refused(store):
    with pytest.raises(StoreError, match="no valid frame"):
        moments(store)
    arrays = feature_arrays(9, store.spec)
    arrays["valid"][:] = False
    arrays["features"][:] = 0
    store.write("a", arrays)
    with pytest.raises(StoreError, match="no valid frame"):
        moments(store)


def test_moments_of_chosen_clips_are_of_these_alone(tmp_path):
    store, features, valid = filled(tmp_path)
    found = moments(store, clips=["clip3", "clip0"])
    known = np.concatenate([features[-90:][valid[-90:]], features[:5][valid[:5]]]).astype(np.float64)
    np.testing.assert_allclose(found.mean, known.mean(axis=0), rtol=1e-13, atol=1e-13)


def test_moments_of_a_store_take_the_memory_of_some_blocks(tmp_path):
    """64 MiB of features in blocks of 4 MiB; a thread holds one, and one more without the frames left out."""
    store = stores.create(tmp_path / "store", feature_spec(2048))
    arrays = feature_arrays(4096, store.spec)
    for clip in "abcd":
        store.write(clip, arrays)
    code = """
        import resource, sys
        import dask, stores, stores.statistics
        store = stores.open(sys.argv[1])
        def take(clips):
            with dask.config.set(scheduler="threads", num_workers=2):
                stores.statistics.moments(store, clips, frames_per_task=1024)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        one = take(["a"])
        print((take(None) - one) / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(store.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert float(run.stdout) < 16  # MiB more for 48 MiB more of features


def test_importing_stores_imports_neither_dask_nor_pandas():
    code = "import sys, stores; print(sorted({'dask', 'pandas', 'distributed'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"
