"""Many processes and threads on one store: writers exclude each other, readers never see a half."""

import errno
import fcntl
import logging
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from store_specs import feature_arrays, feature_spec

import stores
from stores import commit
from stores.errors import StoreError

BACKENDS = ("hdf5", "zarr")
SPEC = feature_spec(512)
LENGTHS = (700, 1100)
SPAWN = multiprocessing.get_context("spawn")


def version(seed):
    """The two versions of a clip have different lengths, and so different sizes."""
    return feature_arrays(LENGTHS[seed], SPEC, seed)


def rewrite(path, start, times):
    store = stores.open(path)
    for number in range(times):
        store.write("clip", version((start + number) % 2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_readers_beside_two_rewriters_see_one_version_or_the_other_whole(tmp_path, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    store.write("clip", version(0))
    known = {len(arrays["features"]): arrays["features"] for arrays in map(version, (0, 1))}
    writers = [SPAWN.Process(target=rewrite, args=(store.path, start, 10)) for start in (0, 1)]
    for writer in writers:
        writer.start()
    seen = set()
    reads = 0
    while any(writer.is_alive() for writer in writers) or reads < 10:
        # A handle that stays open, and a fresh one.
        for reader in (store, stores.open(store.path)):
            record = reader.record("clip")
            assert reader.has("clip")
            values = reader.read("clip")
            np.testing.assert_array_equal(values, known[len(values)])
            seen.add((record.frames, record.data))
            reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert {frames for frames, _ in seen} == set(LENGTHS)
    assert {name for _, name in seen} == {
        f"clip{suffix}" for suffix in ((".h5", ".hdf5"), (".zarr", ".zarr3"))[BACKENDS.index(backend)]
    }
    assert stores.verify(store.path).ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_verification_beside_a_rewriter_finds_nothing_wrong_and_repairs_nothing(tmp_path, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    store.write("clip", version(0))
    writer = SPAWN.Process(target=rewrite, args=(store.path, 1, 10))
    writer.start()
    rounds = 0
    while writer.is_alive() or rounds < 3:
        report = stores.verify(store.path, repair=True)
        assert (report.damaged, report.missing) == ((), ())
        rounds += 1
    writer.join()
    assert writer.exitcode == 0
    assert stores.verify(store.path).ok
    assert store.clips() == ["clip"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_of_one_process_write_one_clip_at_once(tmp_path, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    threads = [threading.Thread(target=store.write, args=("clip", version(n % 2))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = store.read("clip")
    np.testing.assert_array_equal(values, version(LENGTHS.index(len(values)))["features"])
    assert stores.verify(store.path).ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_spawned_process_reads_what_its_parent_has_open(tmp_path, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    store.write("clip", version(0))
    store.read("clip")
    with SPAWN.Pool(2) as pool:
        for start, values in zip(
            range(0, 700, 70),
            pool.starmap(
                store.read, [("clip", "features", start, start + 70) for start in range(0, 700, 70)]
            ),
            strict=True,
        ):
            np.testing.assert_array_equal(values, version(0)["features"][start : start + 70])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_version_that_is_open_stays_readable_while_the_clip_is_rewritten(tmp_path, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    store.write("clip", version(0))
    opened = store.open_clip("clip")
    for seed in (1, 0, 1):
        store.write("clip", version(seed))
    np.testing.assert_array_equal(opened.arrays["features"].read(0, LENGTHS[0]), version(0)["features"])
    assert len(store.read("clip")) == LENGTHS[1]


def test_a_clip_that_is_rewritten_while_it_is_opened_is_opened_again(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "store", SPEC)
    store.write("clip", version(0))
    record, turns = stores.Store.record, []

    def rewritten_meanwhile(self, clip):
        found = record(self, clip)
        turns.append(found.frames)
        if len(turns) == 1:
            stores.open(store.path).write("clip", version(1))
        return found

    monkeypatch.setattr(stores.Store, "record", rewritten_meanwhile)
    np.testing.assert_array_equal(store.read("clip"), version(1)["features"])
    assert turns == [LENGTHS[0], LENGTHS[1]]


def test_a_child_forked_in_the_middle_of_a_commit_does_not_keep_the_store_locked(tmp_path):
    store = stores.create(tmp_path / "store", SPEC)
    with commit.exclusive(store.path / "store.json"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        store.write("clip", version(0))  # would wait for the child, for a minute
        still_there = os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert still_there
    assert store.clips() == ["clip"]


def test_without_locks_a_store_is_still_written_and_its_owner_is_warned_once(tmp_path, monkeypatch, caplog):
    store = stores.create(tmp_path / "store", SPEC)

    def no_locks(*arguments):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING):
        for seed in (0, 1, 0):
            store.write("clip", version(seed))
    assert [record.message for record in caplog.records] == [
        f"the file system of {store.path} has no locks (Operation not supported):"
        " do not let two processes write one clip"
    ]
    assert stores.verify(store.path).ok


def test_a_store_that_may_not_be_written_says_so(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "store", SPEC)
    real = os.open

    def read_only(path, flags, *arguments, **keywords):
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StoreError, match=r"'clip' was not written to .*Read-only file system"):
        store.write("clip", version(0))
    monkeypatch.undo()
    assert stores.verify(store.path).ok
