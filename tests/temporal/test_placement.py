import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import scaled, with_features
from hypothesis import given, settings
from hypothesis import strategies as st
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
import temporal
from stores.errors import ConfigError
from temporal.data import placement
from temporal.data.minibatch import minibatches
from temporal.data.placement import HostFeatures, StoreFeatures, choose, free_memory, read_ahead
from temporal.data.projection import Projection, locate
from temporal.data.reduced import open_reduced, write_reduced
from temporal.data.scaling import centred
from temporal.data.windows import batches, cut, epoch_order
from temporal.settings import Run, Training

CPU = torch.device("cpu")
SPEC = feature_spec(8)
CLIPS = {"b": ("train", 70), "a": ("train", 11), "c": ("train", 300), "v": ("validation", 57),
         "w": ("validation", 20)}  # fmt: skip
TINY = Training(window=24, hop=15, batch_size=3, epochs=2, channels=5, levels=2, kernel_size=3)
RUNS = [Run(("V", "AU"), attention=True, lr=1e-2), Run(("EXPR",), seed=1, lr=1e-2)]


def write_stores(folder, spec, clips, backend="hdf5"):
    features, labels = (
        stores.create(folder / "f", spec, backend),
        stores.create(folder / "l", label_spec(), backend),
    )
    for seed, (clip, (split, frames)) in enumerate(clips.items()):
        features.write(clip, feature_arrays(frames, spec, seed), {})
        labels.write(clip, label_arrays(frames, label_spec(), seed), {**LABEL_ATTRS, "split": split})
    return features, labels


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return {kind: write_stores(tmp_path_factory.mktemp(kind), SPEC, CLIPS, kind) for kind in ("hdf5", "zarr")}


def elsewhere(bank, kind, features):
    """The bank with its features in another place; host memory is staged as it would be for a GPU."""

    def moved(split):
        if kind == "host":
            return with_features(split, HostFeatures(split.streams["face"].features, CPU))
        return with_features(split, StoreFeatures(features, split.clips, split.offsets, CPU))

    return replace(bank, train=moved(bank.train), validation=moved(bank.validation))


@pytest.mark.parametrize(("kind", "backend"), [("host", "hdf5"), ("store", "hdf5"), ("store", "zarr")])
def test_batches_are_the_same_bit_for_bit_wherever_the_features_lie(pairs, kind, backend):
    pair = pairs[backend]
    plain = temporal.load_bank(*pair, placement="device")
    other = elsewhere(plain, kind, pair[0])
    windows = cut(plain.train.offsets, 24, 15)
    pieces = list(batches(epoch_order(len(windows), 0, 1), 3))
    first, second = (centred(bank.train).streams["face"].centres for bank in (plain, other))
    assert torch.equal(first, second)
    maps = [scaled(bank.train) for bank in (plain, other)]
    assert torch.equal(maps[0]["face"].mean, maps[1]["face"].mean)
    assert torch.equal(maps[0]["face"].std, maps[1]["face"].std)
    ours, theirs = (
        list(minibatches(bank.train, windows, pieces, linear))
        for bank, linear in zip((plain, other), maps, strict=True)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.features["face"].numpy().tobytes() == b.features["face"].numpy().tobytes()
        assert torch.equal(a.usable(), b.usable())
        assert torch.equal(a.rows, b.rows)
        assert (a.mask is None) == (b.mask is None)


@pytest.mark.parametrize("settings", [{}, {"centre": True}, {"pca": 3}])
def test_training_gives_the_same_bytes_wherever_the_features_lie(pairs, tmp_path, settings):
    training, pair = replace(TINY, **settings), pairs["hdf5"]
    banks = [temporal.load_bank(*pair, placement=p) for p in ("device", "host", "store")]
    assert isinstance(banks[2].train.streams["face"].features, StoreFeatures)
    banks.append(elsewhere(banks[0], "host", pair[0]))  # on a CPU host memory is the device's
    if projection := Projection(3, centre=False, standardise=True) if "pca" in settings else None:
        labels = pair[1]
        division = {clip: labels.record(clip).attrs["split"] for clip in labels.clips()}
        write_reduced(banks[0], "face", locate(*pair, division, tmp_path, projection))
        banks += [
            open_reduced({"face": pair[0]}, labels, tmp_path, projection, division=division, placement=p)
            for p in ("device", "host", "store")
        ]
    first, *others = (temporal.fit(bank, RUNS, training) for bank in banks)
    for results in others:
        for a, b in zip(first, results, strict=True):
            assert a.history == b.history
            weights = [result.model.network.state_dict() for result in (a, b)]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
            for clip, tasks in a.predictions.items():
                assert all(np.array_equal(values, b.predictions[clip][t]) for t, values in tasks.items())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["host", "store"])
def test_batches_on_a_gpu_are_the_same_wherever_the_features_lie(pairs, kind):
    plain, other = (
        temporal.load_bank(*pairs["hdf5"], device="cuda", placement=place) for place in ("device", kind)
    )
    windows = cut(plain.train.offsets, 24, 15)
    pieces = list(batches(epoch_order(len(windows), 0, 1), 3))
    linear = scaled(plain.train)
    ours, theirs = (list(minibatches(bank.train, windows, pieces, linear)) for bank in (plain, other))
    assert all(torch.equal(a.features["face"], b.features["face"]) for a, b in zip(ours, theirs, strict=True))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_rows_in_any_order_are_those_of_the_store(tmp_path_factory, data):
    features = _small_store(tmp_path_factory)
    offsets = (0, 5, 12, 13, 30)
    found = StoreFeatures(features, ("a", "b", "c", "d"), offsets, CPU)
    whole = torch.from_numpy(np.concatenate([features.read(clip) for clip in "abcd"]))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 9)))
    rows = data.draw(st.lists(st.integers(0, 29), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    index = torch.tensor(rows).view(shape)
    assert torch.equal(found[index], whole[index])
    first = data.draw(st.integers(0, 30))
    part = slice(first, data.draw(st.integers(first, 30)))
    assert torch.equal(found[part], whole[part])


def _small_store(factory, kept=[]):  # noqa: B006  (one store for all examples)
    if not kept:
        store = stores.create(factory.mktemp("small") / "f", SPEC)
        for seed, (clip, frames) in enumerate(zip("abcd", (5, 7, 1, 17), strict=True)):
            store.write(clip, feature_arrays(frames, SPEC, seed), {})
        kept.append(store)
    return kept[0]


def test_what_was_fetched_is_not_overwritten_by_what_is_fetched_next(bank):
    features = HostFeatures(bank.train.streams["face"].features, CPU)
    first = features[torch.tensor([[0, 1]])]
    kept = first.clone()
    features[torch.tensor([[5, 6]])]
    assert torch.equal(first, kept)


def test_reading_ahead_keeps_the_order_and_delivers_what_fails():
    class Failing(HostFeatures):
        def __getitem__(self, rows):
            if rows.start == 3:
                raise ConfigError("row 3")
            return super().__getitem__(rows)

    pieces = read_ahead(Failing(torch.arange(5.0)[:, None], CPU), [slice(i, i + 1) for i in range(5)])
    assert [next(pieces).item() for _ in range(3)] == [0.0, 1.0, 2.0]
    with pytest.raises(ConfigError, match="row 3"):
        next(pieces)


def test_the_next_piece_is_fetched_while_the_caller_works():
    asked = []

    class Watched(HostFeatures):
        def __getitem__(self, rows):
            asked.append(rows.start)
            return super().__getitem__(rows)

    pieces = read_ahead(Watched(torch.arange(5.0)[:, None], CPU), [slice(i, i + 1) for i in range(3)])
    next(pieces)
    while len(asked) < 2:  # by another thread
        pass
    assert asked == [0, 1]
    assert len(list(pieces)) == 2


@pytest.mark.parametrize(
    ("free", "expected"), [((100, 100), "device"), ((10, 100), "host"), ((10, 10), "store")]
)
def test_auto_takes_the_nearest_memory_in_which_features_leave_room(monkeypatch, caplog, free, expected):
    sizes = dict(zip(("cuda", "cpu"), free, strict=True))
    monkeypatch.setattr(placement, "free_memory", lambda device: sizes[device.type])
    caplog.set_level(logging.INFO)
    assert choose("auto", 70, torch.device("cuda")) == expected
    assert f"bank: {expected} (" in caplog.text
    assert "free: " in caplog.text


def test_a_place_that_is_too_small_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(placement, "free_memory", lambda device: 2**30)
    with pytest.raises(ConfigError, match=r"device was asked for.*4\.00 GiB of features.*1\.0 GiB of host"):
        choose("device", 2**32, CPU)
    assert choose("store", 2**32, CPU) == "store"


def write_group(folder, name, membership, files):
    """Writes a control group as the kernel shows it to its members."""
    (folder / "membership").write_text(f"{membership}\n")
    (folder / "fs" / name).mkdir(parents=True)
    for file, content in files.items():
        (folder / "fs" / name / file).write_text(f"{content}\n")


def test_the_limit_of_a_control_group_counts_and_its_idle_file_pages_do_not(tmp_path):
    v2 = {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 300\ninactive_file 400"}
    write_group(tmp_path, "job", "0::/job", v2)
    (tmp_path / "fs/memory.max").write_text("max\n")
    assert list(placement._group_limits(tmp_path / "membership", tmp_path / "fs")) == [700]
    v1 = {
        "memory.limit_in_bytes": "500",
        "memory.usage_in_bytes": "450",
        "memory.stat": "total_inactive_file 50",
    }
    write_group(tmp_path, "memory/old", "9:cpu:/x\n5:memory:/old", v1)
    assert list(placement._group_limits(tmp_path / "membership", tmp_path / "fs")) == [100]
    assert list(placement._group_limits(tmp_path / "none", tmp_path / "fs")) == []
    assert placement._available(tmp_path / "none") > 2**20


def test_the_free_memory_of_this_machine_is_less_than_its_memory():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory(CPU) < whole


CHILD = r"""
import re, sys
import stores, temporal, torch
from pathlib import Path
from temporal.data.minibatch import minibatches
from temporal.data.scaling import statistics
from temporal.data.windows import batches, cut, epoch_order
torch.set_num_threads(1)

def peak_after(labels):
    folder = Path(sys.argv[1])
    bank = temporal.load_bank(stores.open(folder / "f"), stores.open(folder / labels), placement="store")
    linear = {"face": statistics(bank.train, "face")}
    windows = cut(bank.train.offsets, 100, 100)
    for batch in minibatches(bank.train, windows, batches(epoch_order(len(windows), 0, 1), 4), linear):
        pass
    # Of this program alone; getrusage also counts what forked it.
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])

few = peak_after("few")
print(peak_after("all") - few)
"""


def test_memory_of_the_store_backed_bank_does_not_grow_with_the_features(tmp_path):
    spec, frames, clips = feature_spec(2048), 2000, 16
    features = stores.create(tmp_path / "f", spec)
    few, everything = (stores.create(tmp_path / name, label_spec()) for name in ("few", "all"))
    arrays, marks = feature_arrays(frames, spec), label_arrays(frames, label_spec())
    for number in range(clips):
        features.write(f"clip{number}", arrays, {})
        for labels in (few, everything) if number < 3 else (everything,):
            split = "train" if number else "validation"
            labels.write(f"clip{number}", marks, {**LABEL_ATTRS, "split": split})
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        check=True,
        capture_output=True,
        # With the threshold fixed, freed arrays are given back: what is counted is what was in use.
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    assert int(done.stdout) < (clips - 3) * frames * 2048 * 2 / 10
