"""Any sequence of operations on a store, kills included, against a dict in memory (hypothesis)."""

import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_specs import feature_arrays, feature_spec

import stores
from stores.errors import StoreError

SPEC = feature_spec(6)
CLIPS = st.sampled_from(["a", "b", "video59_right"])
CONTENTS = st.tuples(st.integers(1, 40), st.integers(0, 2**16))  # frames, seed
# Every function of os that changes what is on a disk: a child dies before its n-th call.
DEADLY = ("open", "write", "writev", "fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")
FULL = os.environ.get("FACETS_FAULTS") == "full"
STEPS = 50


class StoreMachine(RuleBasedStateMachine):
    """A store and the dict that it must equal: clip to its content, or to two where a kill left it open."""

    backend: stores.BackendName

    def __init__(self):
        super().__init__()
        self.model = {}
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))

    def teardown(self):
        shutil.rmtree(self.folder)

    @initialize()
    def make(self):
        self.store = stores.create(self.folder / "store", SPEC, self.backend)

    @rule(clip=CLIPS, content=CONTENTS)
    def write(self, clip, content):
        record = self.store.write(clip, feature_arrays(content[0], SPEC, content[1]), {"is": [*content]})
        assert record == self.store.record(clip)
        self.model[clip] = content

    @precondition(lambda self: self.model)
    @rule(data=st.data(), content=CONTENTS)
    def overwrite(self, data, content):
        self.write(self._pick(data), content)

    @rule(clip=CLIPS, content=CONTENTS, call=st.integers(1, 60))
    def kill_during_write(self, clip, content, call):
        if _dies_writing(self.store, clip, content, call):
            found = self._content(clip)
            assert found in (self.model.get(clip), content)
            if found is not None:
                self.model[clip] = found
        else:
            self.model[clip] = content
        self._is_as_the_model(clip)

    @rule()
    def resume(self):
        self.store = stores.create(self.store.path, SPEC, self.backend)
        assert not list(self.store.path.rglob(".tmp-*"))

    @rule()
    def reopen(self):
        self.store = stores.open(self.store.path)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read_whole(self, data):
        self._is_as_the_model(self._pick(data))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read_window(self, data):
        clip = self._pick(data)
        frames, seed = self.model[clip]
        start = data.draw(st.integers(0, frames))
        stop = data.draw(st.integers(start, frames))
        for name, array in feature_arrays(frames, SPEC, seed).items():
            np.testing.assert_array_equal(self.store.read(clip, name, start, stop), array[start:stop])

    @rule(clip=CLIPS)
    def read_what_is_not_there(self, clip):
        if clip not in self.model:
            with pytest.raises(StoreError, match="has no commit record"):
                self.store.read(clip)

    @rule()
    def verify(self):
        report = stores.verify(self.store.path)
        assert (report.clips, report.damaged, report.missing) == (len(self.model), (), ())

    @rule()
    def repair(self):
        stores.verify(self.store.path, repair=True)
        assert stores.verify(self.store.path).ok

    @rule(backend=st.sampled_from(["hdf5", "zarr"]))
    def convert(self, backend):
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            copy = stores.convert(self.store.path, Path(folder, "copy"), backend)
            assert copy.clips() == self.store.clips()
            for clip in copy.clips():
                ours, theirs = self.store.record(clip), copy.record(clip)
                assert (ours.attrs, ours.arrays) == (theirs.attrs, theirs.arrays)

    @invariant()
    def the_clips_are_those_of_the_model(self):
        if hasattr(self, "store"):
            assert self.store.clips() == sorted(self.model)

    def _pick(self, data):
        return data.draw(st.sampled_from(sorted(self.model)))

    def _content(self, clip):
        """What the record says is there; None for no clip."""
        fresh = stores.open(self.store.path)
        return tuple(fresh.record(clip).attrs["is"]) if fresh.has(clip) else None

    def _is_as_the_model(self, clip):
        if clip not in self.model:
            assert not self.store.has(clip)
            return
        frames, seed = self.model[clip]
        for store in (self.store, stores.open(self.store.path)):
            assert store.record(clip).frames == frames
            for name, array in feature_arrays(frames, SPEC, seed).items():
                np.testing.assert_array_equal(store.read(clip, name), array)


def _dies_writing(store, clip, content, call):
    """Writes in a forked child that kills itself at a call; says whether it came to that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside the threads of the test runner
        child = os.fork()
    if child == 0:
        _write_and_die(store, clip, content, call)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"the writer ended with {code}"
    return code != 0


def _write_and_die(store, clip, content, call):
    calls = [0]

    def deadly(real):
        def wrapper(*arguments, **keywords):
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return wrapper

    code = 1
    try:
        for name in DEADLY:
            setattr(os, name, deadly(getattr(os, name)))
        store.write(clip, feature_arrays(content[0], SPEC, content[1]), {"is": [*content]})
        code = 0
    finally:
        os._exit(code)


class Hdf5Machine(StoreMachine):
    backend = "hdf5"


class ZarrMachine(StoreMachine):
    backend = "zarr"


SETTINGS = settings(
    max_examples=10_000 // STEPS if FULL else 6,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=not FULL,
    suppress_health_check=list(HealthCheck),
)
TestHdf5Machine = pytest.mark.timeout(1200)(Hdf5Machine.TestCase)
TestZarrMachine = pytest.mark.timeout(1200)(ZarrMachine.TestCase)
TestHdf5Machine.settings = SETTINGS
TestZarrMachine.settings = SETTINGS
