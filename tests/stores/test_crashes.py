"""Writers that die or fail at every step: what is committed stays, what is half-written does not exist."""

import contextlib
import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import store_specs
from store_specs import feature_arrays, feature_spec

import stores
from stores import commit
from stores.errors import SpecMismatch, StoreError

BACKENDS = ("hdf5", "zarr")
SPEC = feature_spec(8)
OLD, NEW = feature_arrays(40, SPEC, 1), feature_arrays(50, SPEC, 2)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it, nothing after it may run."""


def _fail_at(monkeypatch, names, number, error):
    """Makes call ``number`` (from 0) of the named functions of os raise ``error``; later calls do too."""
    calls = []

    def wrap(real):
        def call(*arguments, **keywords):
            calls.append(real)
            if len(calls) > number:
                raise error
            return real(*arguments, **keywords)

        return call

    for name in names:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return calls


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_between_any_two_steps_of_a_rewrite_a_clip_is_old_or_new_but_never_absent(
    tmp_path, monkeypatch, backend
):
    base = stores.create(tmp_path / "base", SPEC, backend)
    for clip in ("beside", "clip"):
        base.write(clip, OLD)
    outcomes, killed = set(), True
    for step in itertools.count():
        store = stores.open(shutil.copytree(base.path, tmp_path / str(step)))
        with monkeypatch.context() as patch:
            calls = _fail_at(patch, ("replace", "fsync", "unlink", "rmdir"), step, Killed())
            with contextlib.suppress(Killed):
                store.write("clip", NEW)
            killed = len(calls) > step
        outcomes.add(_state(store))
        np.testing.assert_array_equal(stores.open(store.path).read("beside"), OLD["features"])
        report = stores.verify(store.path)
        assert (report.damaged, report.missing) == ((), ())
        # The next run makes the clip again, whatever was left.
        again = stores.create(store.path, SPEC, backend)
        again.write("clip", NEW)
        np.testing.assert_array_equal(again.read("clip"), NEW["features"])
        assert stores.verify(store.path).ok
        if not killed:
            break
    assert outcomes == {"old", "new"}


def _state(store):
    fresh = stores.open(store.path)
    if not fresh.has("clip"):
        return "absent"
    values = fresh.read("clip")
    for name, arrays in (("old", OLD), ("new", NEW)):
        if np.array_equal(values, arrays["features"]):
            return name
    return "mixed"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_a_clean_error_and_leaves_no_temporaries(tmp_path, monkeypatch, backend, code):
    store = stores.create(tmp_path / "store", SPEC, backend)
    store.write("beside", OLD)
    with monkeypatch.context() as patch:
        _fail_at(patch, ("fsync",), 0, OSError(code, os.strerror(code)))
        with pytest.raises(StoreError, match=r"'clip' was not written to .*store/clips: .*untouched"):
            store.write("clip", NEW)
    assert store.clips() == ["beside"]
    assert stores.verify(store.path).ok


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "store", SPEC)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"'clip' needs \d+ bytes at .*, 1000 are free: make room"):
        store.write("clip", NEW)
    assert list((store.path / "clips").iterdir()) == []
    monkeypatch.undo()
    store.write("clip", NEW)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"the copy of .*store needs \d+ bytes at .*copy, 1000 are free"):
        stores.convert(store.path, tmp_path / "copy", "zarr")
    assert list((tmp_path / "copy" / "clips").iterdir()) == []


def test_a_disk_that_returns_other_bytes_is_noticed_before_the_commit(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "store", SPEC)
    store.write("clip", OLD)
    write_file = commit.write_file

    def lose_a_bit(path, blocks):
        data = bytearray(b"".join(blocks))
        data[1000] ^= 1  # among the features
        write_file(path, [data])

    monkeypatch.setattr("stores.commit.write_file", lose_a_bit)
    with pytest.raises(StoreError, match=r"does not hold what was written to it: check the disk: .*CRC-32C"):
        store.write("clip", NEW)
    np.testing.assert_array_equal(store.read("clip"), OLD["features"])


WRITER = """
import sys, stores
from store_specs import feature_arrays, feature_spec
spec = feature_spec(512)
store = stores.create(sys.argv[1], spec, sys.argv[2])
number = 0
while True:
    store.write(f"clip{number % 7}", feature_arrays(400 + number % 50, spec, number))
    number += 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_writer_killed_in_its_loop_leaves_a_store_that_verifies(tmp_path, backend):
    path = tmp_path / "store"
    for delay in (0.0, 0.017):
        command = [sys.executable, "-c", WRITER, str(path), backend]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(store_specs.__file__).parent)
        with writer:
            while int(writer.stdout.readline()) < 8:  # so that clips are being rewritten
                pass
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        report = stores.verify(path)
        assert (report.damaged, report.missing) == ((), ())
        assert report.clips >= 6
        for finding in report.foreign:
            assert "killed" in finding.reason
        # The entry of the next writer clears what the killed one left, except data that it will write again.
        stores.create(path, feature_spec(512), backend)
        assert not [p for p in (path / "clips").iterdir() if p.name.startswith(".tmp-")]
    assert stores.verify(path, repair=True).missing == ()
    assert stores.verify(path).ok


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_running_writer_keeps_its_temporaries_when_another_opens_the_store(tmp_path, monkeypatch, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    seen = []
    read_back = stores.writing._read_back

    def open_meanwhile(*arguments):
        stores.create(store.path, SPEC, backend)
        seen.append(stores.verify(store.path, repair=True).ok)
        read_back(*arguments)

    monkeypatch.setattr("stores.writing._read_back", open_meanwhile)
    store.write("clip", OLD)
    assert seen == [True]
    np.testing.assert_array_equal(store.read("clip"), OLD["features"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_temporary_taken_for_abandoned_before_it_is_locked_is_made_again(tmp_path, monkeypatch, backend):
    store = stores.create(tmp_path / "store", SPEC, backend)
    real, taken = os.open, []

    def open_late(path, *arguments, **keywords):
        if not taken:
            taken.append(path)
            commit.remove(path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", open_late)
    store.write("clip", OLD)
    monkeypatch.undo()
    assert taken
    assert stores.verify(store.path).ok


def test_a_leftover_that_its_own_writer_removes_meanwhile_does_not_stop_the_next(tmp_path, monkeypatch):
    store = stores.create(tmp_path / "store", SPEC, "zarr")
    displaced = commit._temporary_name(store.path / "clips", "clip.zarr")
    displaced.mkdir()
    real = shutil.rmtree

    def removed_twice(path):
        real(path)
        real(path)

    monkeypatch.setattr(shutil, "rmtree", removed_twice)
    stores.create(store.path, SPEC, "zarr")
    assert not displaced.exists()


def test_a_killed_creation_is_taken_up_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _fail_at(patch, ("link",), 0, Killed())
        with pytest.raises(Killed):
            stores.create(tmp_path / "store", SPEC)
    with pytest.raises(StoreError, match="there is no store"):
        stores.open(tmp_path / "store")
    assert stores.create(tmp_path / "store", SPEC).clips() == []


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_two_creators_of_one_store_the_first_decides(tmp_path, monkeypatch, hard_links):
    path = tmp_path / "store"
    require_empty = stores.store._require_empty
    meanwhile = [feature_spec(8), None]

    def create_meanwhile(folder):
        require_empty(folder)
        spec = meanwhile.pop(0)
        if spec is not None:
            stores.create(path, spec)

    monkeypatch.setattr("stores.store._require_empty", create_meanwhile)
    if not hard_links:
        monkeypatch.setattr(os, "link", _no_hard_links)
        assert stores.create(path, SPEC).spec == SPEC
        return
    with pytest.raises(SpecMismatch, match="dim is 8, wanted 9"):
        stores.create(path, feature_spec(9))
    assert stores.open(path).spec == SPEC
    assert stores.verify(path).ok


def _no_hard_links(*arguments, **keywords):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_verify_tells_damaged_missing_and_foreign_apart(tmp_path):
    store = stores.create(tmp_path / "store", SPEC)
    for clip in ("good", "damaged", "gone", "altered"):
        store.write(clip, OLD)
    store.data_path("damaged").write_bytes(b"x" * store.record("damaged").data_bytes)
    store.data_path("gone").unlink()
    text = store.record_path("altered").read_text()
    store.record_path("altered").write_text(text.replace('"source_digest": ""', '"source_digest": "x"'))
    clips = store.path / "clips"
    shutil.copy(store.data_path("good"), clips / "unrecorded.h5")
    for foreign in (
        clips / "notes.txt",
        clips / "good.zarr",
        clips / ".tmp-0-0-x.h5",
        store.path / "thumbs.db",
    ):
        foreign.touch()
    report = stores.verify(store.path, repair=True)
    assert not report.ok
    assert report.clips == 4
    assert [finding.name for finding in report.damaged] == ["altered", "damaged"]
    assert [finding.name for finding in report.missing] == ["gone"]
    assert [finding.name for finding in report.foreign] == [
        "clips/.tmp-0-0-x.h5",
        "clips/good.zarr",
        "clips/notes.txt",
        "clips/unrecorded.h5",
        "thumbs.db",
    ]
    assert store.clips() == ["good"]
    after = stores.verify(store.path)
    assert [finding.name for finding in after.foreign] == ["clips/good.zarr", "clips/notes.txt", "thumbs.db"]
    assert not after.ok
    assert (after.damaged, after.missing, after.removed) == ((), (), ())
