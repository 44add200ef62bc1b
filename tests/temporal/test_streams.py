"""Several streams: a replica reads its own alone; a loss of soft labels and a sampler are one line each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DIM, make_split
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
import temporal
from stores.errors import ConfigError, StoreError
from temporal import Bank, Run, SoftLabels, Stream, load_bank
from temporal.registries import FUSIONS, LOSSES, SAMPLERS, Choice, Parameter
from temporal.train import losses, sampling
from temporal.train.resume import StateFile

SPECS = {"face": feature_spec(DIM, "float32"), "audio": feature_spec(9, "float32")}
RUNS = [
    Run(("V", "AU"), seed=1, streams=("face",), dropout=0.2),
    Run(("A", "EXPR"), attention=True, seed=2, streams=("audio",)),
    Run(("A", "AU"), attention=True, seed=3),
]


def two(split, seed):
    other = make_split(np.diff(split.offsets), seed, dim=9, missing=0.4).streams["face"]
    return replace(split, streams={**split.streams, "audio": Stream(other.features, other.valid)})


@pytest.fixture(scope="module")
def pair():
    train, validation = two(make_split([40, 9, 33, 25], 1), 5), two(make_split([30, 7], 2), 6)
    return Bank(train, validation, SPECS, label_spec())


def assert_alike(a, b):
    assert (a.status, a.best_epoch) == (b.status, b.best_epoch) == ("done", b.best_epoch)
    for clip, tasks in a.predictions.items():
        for task, values in tasks.items():
            np.testing.assert_allclose(values, b.predictions[clip][task], atol=2e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_replica_on_some_streams_equals_the_same_run_trained_alone(pair, tiny, fusion):
    training = replace(tiny, epochs=3, fusion=fusion)
    for run, result in zip(RUNS, temporal.fit(pair, RUNS, training), strict=True):
        assert_alike(result, temporal.fit(pair, [run], training)[0])
        names = run.streams or ("face", "audio")
        assert set(result.model.feature_specs) == set(names)


@pytest.mark.parametrize("losses", [{}, {"AU": "balanced"}, {"EXPR": "balanced"}], ids=str)
def test_a_run_on_one_stream_equals_one_on_a_bank_that_has_nothing_else(pair, tiny, losses):
    # Balanced losses count the labels of frames at which the run itself sees something.
    training = replace(tiny, epochs=2, losses=losses)
    found = temporal.fit(pair, RUNS, training)
    for run, result in zip(RUNS[:2], found, strict=False):
        (name,) = run.streams
        only = replace(
            pair,
            train=replace(pair.train, streams={name: pair.train.streams[name]}),
            validation=replace(pair.validation, streams={name: pair.validation.streams[name]}),
            feature_specs={name: SPECS[name]},
        )
        assert result.run == run
        assert_alike(result, temporal.fit(only, [replace(run, streams=())], training)[0])


def test_runs_of_other_streams_share_no_stack_and_no_state_if_a_loss_counts_labels(pair, tiny, tmp_path):
    training = replace(tiny, epochs=1, losses={"AU": "balanced"})
    state = StateFile(tmp_path / "state", {})
    temporal.fit(pair, RUNS[:1] * 2, training, state=state)
    with pytest.raises(ConfigError, match="3 runs of 3 kinds"):
        temporal.fit(pair, RUNS, training, state=state)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_nan_in_a_stream_changes_nothing_for_a_replica_that_does_not_read_it(pair, tiny, fusion):
    training = replace(tiny, epochs=2, fusion=fusion, standardise=False)
    audio = pair.train.streams["audio"]
    broken = replace(audio, features=torch.full_like(audio.features, torch.nan))
    spoilt = replace(pair, train=replace(pair.train, streams={**pair.train.streams, "audio": broken}))
    before, after = temporal.fit(pair, RUNS, training), temporal.fit(spoilt, RUNS, training)
    assert [result.status for result in after] == ["done", "failed", "failed"]
    for clip, tasks in before[0].predictions.items():
        for task, values in tasks.items():
            assert np.array_equal(values, after[0].predictions[clip][task])


def test_a_stream_that_is_not_read_has_exactly_zero_gradient(pair, tiny):
    from temporal.data.minibatch import gather
    from temporal.data.scaling import statistics
    from temporal.data.windows import cut
    from temporal.train.fused import Stack
    from temporal.train.targets import gather_targets, objective

    sizes = {task: spec.size(pair.label_spec) for task, spec in temporal.TASKS.items()}
    stack = Stack(pair.train.dims, sizes, RUNS, tiny, torch.device("cpu"))
    maps = {name: statistics(pair.train, name) for name in SPECS}
    batch = gather(pair.train, cut(pair.train.offsets, 12, 10), np.arange(4), maps)
    usable = torch.stack([batch.usable(run.streams) for run in RUNS])
    targets = gather_targets(pair.train, batch.rows, usable, sizes)
    goal = objective(pair.train, pair.label_spec, tiny)
    stack.step(batch.features, batch.mask, targets, goal, torch.ones(3, dtype=torch.bool), 1.0)
    sizes_of = [shape.numel() for shape in stack.shapes.values()]
    moments = dict(zip(stack.shapes, torch.split(stack.first_moment, sizes_of, dim=1), strict=True))
    for name, readers in (("face", [True, False, True]), ("audio", [False, True, True])):
        moved = moments[f"projection.{name}.weight"].abs().amax(1) > 0
        assert moved.tolist() == readers


def test_a_model_of_two_streams_is_saved_loaded_and_asked_for_both(pair, tiny, tmp_path):
    result = temporal.fit(pair, RUNS[2:], replace(tiny, epochs=2))[0]
    temporal.save(result, tmp_path)
    model = temporal.load(tmp_path, SPECS)
    streams = pair.validation.streams
    features = {name: stream.features[:30].numpy() for name, stream in streams.items()}
    valid = {name: stream.valid[:30].numpy() for name, stream in streams.items()}
    for task, values in model.predict_arrays(features, valid).items():
        np.testing.assert_allclose(values, result.predictions["clip0"][task], atol=1e-5)
    with pytest.raises(ConfigError, match="by name"):
        model.predict_arrays(features["face"], valid["face"])
    with pytest.raises(ConfigError, match="reads the streams"):
        model.predict_arrays({"face": features["face"]}, {"face": valid["face"]})


@pytest.mark.parametrize(
    ("run", "changes", "told"),
    [
        (Run(("A",), streams=("sound",)), {}, "stream 'sound': .*face, audio"),
        (Run(("A",)), {"projection": 0}, "streams face, audio .*training.projection"),
    ],
)
def test_a_stream_that_is_not_there_or_cannot_be_joined_is_one_line(pair, tiny, run, changes, told):
    with pytest.raises(ConfigError, match=told):
        temporal.fit(pair, [run], replace(tiny, **changes))


def test_stores_that_do_not_go_together_are_one_line(tmp_path):
    labels = stores.create(tmp_path / "l", label_spec())
    found = {name: stores.create(tmp_path / name, spec) for name, spec in SPECS.items()}
    for clip, split in (("a", "train"), ("b", "train"), ("c", "validation")):
        labels.write(clip, label_arrays(11, label_spec()), {**LABEL_ATTRS, "split": split})
        for name, store in found.items():
            frames = 10 if (clip, name) == ("b", "audio") else 11
            store.write(clip, feature_arrays(frames, SPECS[name]), {})
    with pytest.raises(StoreError, match="clip b: 10 frames of stream audio, 11 of labels"):
        load_bank(found, labels)
    with pytest.raises(ConfigError, match="'audio' has no store"):
        load_bank({**found, "audio": None}, labels)
    bank = load_bank(found, labels, division={"a": "validation", "c": "train"})
    assert (bank.train.clips, bank.validation.clips) == (("c",), ("a",))
    assert bank.train.dims == {"face": DIM, "audio": 9}
    assert len(repr(bank)) < 200
    with pytest.raises(ConfigError, match="division names clip z"):
        load_bank(found, labels, division={"z": "train"})


def test_a_soft_label_reaches_a_loss_that_is_one_function_and_one_line(pair, tiny, monkeypatch):
    seen = []

    def distilled(train, task, labels, *, share):
        def loss(batch):
            seen.append((tuple(batch.soft.shape), tuple(batch.soft_weight.shape)))
            each = (torch.sigmoid(batch.logits) - batch.soft).square().mean(-1)
            return share * (each * batch.soft_weight).sum()

        return loss

    monkeypatch.setattr(losses, "distilled", distilled, raising=False)
    line = Choice("temporal.train.losses:distilled", (), {"share": Parameter(1.0, "of the loss", ge=0)})
    monkeypatch.setitem(LOSSES["binary"], "distilled", line)
    frames = pair.train.frames
    soft = {"AU": SoftLabels(torch.rand(frames, 12), torch.ones(frames))}
    taught = replace(pair, train=replace(pair.train, soft=soft))
    results = [
        temporal.fit(
            taught, RUNS[:1], replace(tiny, epochs=2, losses={"AU": {"name": "distilled", "share": s}})
        )
        for s in (0.0, 1.0)
    ]
    assert seen[0] == ((2, 12, 12), (2, 12))
    assert results[0][0].history[-1]["losses"]["AU"] == 0.0 < results[1][0].history[-1]["losses"]["AU"]


def test_a_sampler_with_a_parameter_is_one_function_and_one_line(pair, tiny, monkeypatch):
    asked = []

    def first(windows, train, tasks, labels, *, count):
        def order(data_seed, epoch):
            asked.append((data_seed, epoch))
            return np.arange(count, dtype=np.int64)

        return order

    monkeypatch.setattr(sampling, "first", first, raising=False)
    line = Choice("temporal.train.sampling:first", (), {"count": Parameter(4, "windows", ge=1)})
    monkeypatch.setitem(SAMPLERS, "first", line)
    temporal.fit(pair, RUNS[:1], replace(tiny, epochs=2, sampler={"name": "first", "count": 2}))
    assert asked == [(0, 1), (0, 2)]
    with pytest.raises(ConfigError, match="did you mean 'count'"):
        replace(tiny, sampler={"name": "first", "counts": 2})
