"""What the campaigns are run on: the two backends of ``stores``, and two usual ways of keeping features.

Not a benchmark of speed. The two peers are what extraction scripts do, with their libraries' own defaults:

- ``h5py append loop``: one HDF5 file, one resizable dataset per clip, appended in batches, flushed after
  every clip and closed at the end; a clip is skipped if its dataset has all its rows, otherwise it is deleted
  and made again.
- ``zarr-python default``: one group, one array per clip with default chunks and codecs, written in batches; a
  clip is skipped if its array exists.

A clip counts as committed for a peer when its last batch is written and, for h5py, flushed.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import zarr
from store_specs import feature_spec

import stores
from stores.digest import Array
from stores.errors import StoreError

Clips = Mapping[str, Array]
Done = Callable[[str], None]

BATCH = 16


class Subject(Protocol):
    """One way of keeping clips of features under a folder.

    Attributes:
        name: as tables print it.
        refusals: exceptions by which it may refuse to go on.
    """

    name: str
    refusals: tuple[type[Exception], ...]

    def write(self, path: Path, clips: Clips, done: Done, *, replace: bool = False) -> None:
        """Writes what is missing of ``clips``, with ``replace`` all; ``done(clip)`` after each one kept."""

    def read(self, path: Path, clip: str) -> Array | None:
        """Returns the features of a clip; None if there is no such clip; raises if it cannot be read."""


class Ours:
    """A store of one backend, written clip by clip."""

    refusals = (StoreError,)

    def __init__(self, backend: stores.BackendName) -> None:
        self.backend = backend
        self.name = f"ours-{backend}"

    def write(self, path: Path, clips: Clips, done: Done, *, replace: bool = False) -> None:
        store = stores.create(path, spec_of(clips), self.backend)
        for clip, features in clips.items():
            if replace or not store.has(clip):
                store.write(clip, arrays_of(features), {"clip": clip}, f"source of {clip}")
            done(clip)

    def read(self, path: Path, clip: str) -> Array | None:
        if not (path / "store.json").exists():
            return None
        store = stores.open(path)
        return store.read(clip) if clip in store.clips() else None


class H5pyAppendLoop:
    """See the module."""

    name = "h5py append loop"
    refusals = (Exception,)

    def write(self, path: Path, clips: Clips, done: Done, *, replace: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        with h5py.File(path / "features.h5", "a") as file:
            for clip, features in clips.items():
                if clip in file:
                    if not replace and len(file[clip]) >= len(features):
                        done(clip)
                        continue
                    del file[clip]
                dataset = file.create_dataset(
                    clip,
                    shape=(0, features.shape[1]),
                    maxshape=(None, features.shape[1]),
                    dtype=features.dtype,
                )
                for start in range(0, len(features), BATCH):
                    batch = features[start : start + BATCH]
                    dataset.resize(start + len(batch), axis=0)
                    dataset[start:] = batch
                file.flush()
                done(clip)

    def read(self, path: Path, clip: str) -> Array | None:
        if not (path / "features.h5").exists():
            return None
        with h5py.File(path / "features.h5", "r") as file:
            return file[clip][:] if clip in file else None


class ZarrDefault:
    """See the module."""

    name = "zarr-python default"
    refusals = (Exception,)

    def write(self, path: Path, clips: Clips, done: Done, *, replace: bool = False) -> None:
        _one_zarr_thread()
        group = zarr.open_group(path, mode="a")
        for clip, features in clips.items():
            if replace or clip not in group:
                array = group.create_array(
                    clip, shape=features.shape, dtype=features.dtype, overwrite=replace
                )
                for start in range(0, len(features), BATCH):
                    array[start : start + BATCH] = features[start : start + BATCH]
            done(clip)

    def read(self, path: Path, clip: str) -> Array | None:
        _one_zarr_thread()
        if not path.exists():
            return None
        try:
            group = zarr.open_group(path, mode="r")
        except FileNotFoundError:  # nothing has been written: the group's own document is the first file
            return None
        return np.asarray(group[clip][:]) if clip in group else None


def _one_zarr_thread() -> None:
    # So that "the n-th write" is one and the same in every run; the files are the same.
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})


SUBJECTS: dict[str, Subject] = {
    subject.name: subject for subject in (Ours("hdf5"), Ours("zarr"), H5pyAppendLoop(), ZarrDefault())
}
OURS = ("ours-hdf5", "ours-zarr")
PEERS = ("h5py append loop", "zarr-python default")


def make_clips(frames: Mapping[str, int], dim: int, seed: int) -> dict[str, Array]:
    """Returns clips of float16 features without a zero row: what was never written cannot pass for data."""
    random = np.random.default_rng(seed)
    return {clip: random.uniform(0.5, 2.0, (count, dim)).astype(np.float16) for clip, count in frames.items()}


def spec_of(clips: Clips) -> stores.FeatureSpec:
    return feature_spec(next(iter(clips.values())).shape[1])


def arrays_of(features: Array) -> dict[str, Array]:
    """Returns the arrays of a feature clip of ``stores``; all frames are valid."""
    count = len(features)
    return {"features": features, "frame": np.arange(count, dtype=np.int32), "valid": np.ones(count, bool)}


def copy_tree(source: Path, target: Path) -> Path:
    """Copies a folder as it is, symbolic links included."""
    return shutil.copytree(source, target, symlinks=True)
