import numpy as np
import pytest
import torch
from conftest import plain, scaled, with_features
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from stores.errors import ConfigError, SpecMismatch, StoreError
from temporal import load_bank
from temporal.data.minibatch import gather
from temporal.data.scaling import statistics
from temporal.data.windows import cut
from temporal.tasks import TASKS

SPEC, LABELS = feature_spec(8), label_spec()
CLIPS = {"b": ("train", 30), "a": ("train", 11), "v": ("validation", 17), "t": ("test", 9)}


@pytest.fixture
def pair(tmp_path):
    features, labels = stores.create(tmp_path / "f", SPEC), stores.create(tmp_path / "l", LABELS)
    for seed, (clip, (split, frames)) in enumerate(CLIPS.items()):
        features.write(clip, feature_arrays(frames, SPEC, seed), {})
        labels.write(clip, label_arrays(frames, LABELS, seed), {**LABEL_ATTRS, "split": split})
    features.write("unlabelled", feature_arrays(5, SPEC), {})
    return features, labels


def test_the_bank_holds_every_clip_of_its_split_as_stored(pair):
    features, labels = pair
    bank = load_bank(features, labels)
    assert bank.train.clips == ("a", "b")
    assert bank.validation.clips == ("v",)
    assert bank.train.offsets == (0, 11, 41)
    assert bank.train.streams["face"].features.dtype == torch.float16
    for clip, first, end in (("a", 0, 11), ("b", 11, 41)):
        assert np.array_equal(bank.train.streams["face"].features[first:end].numpy(), features.read(clip))
        assert np.array_equal(bank.train.valid[first:end].numpy(), features.read(clip, "valid"))
        for task in TASKS.values():
            stored = labels.read(clip, task.array)
            np.testing.assert_array_equal(bank.train.labels[task.array][first:end].numpy(), stored)
            known = np.isfinite(stored) if stored.dtype.kind == "f" else stored >= 0
            assert np.array_equal(bank.train.known(task)[first:end].numpy(), known)


def test_labelled_clips_without_features_are_named(pair):
    features, labels = pair
    labels.write("lost", label_arrays(4, LABELS), LABEL_ATTRS)
    with pytest.raises(StoreError, match=r"1 of 4 labelled clips \(lost\)"):
        load_bank(features, labels)


def test_a_clip_of_another_length_is_named_with_both_lengths(pair):
    features, labels = pair
    features.write("uneven", feature_arrays(5, SPEC), {})
    labels.write("uneven", label_arrays(4, LABELS), LABEL_ATTRS)
    with pytest.raises(StoreError, match="uneven: 5 frames of stream face, 4 of labels"):
        load_bank(features, labels)


def test_an_empty_split_and_swapped_stores_are_refused(pair, tmp_path):
    features, labels = pair
    with pytest.raises(SpecMismatch, match="face: labels and labels: features"):
        load_bank(labels, features)
    train_only = stores.create(tmp_path / "only", LABELS)
    train_only.write("a", label_arrays(11, LABELS), LABEL_ATTRS)
    with pytest.raises(ConfigError, match="validation"):
        load_bank(features, train_only)


def test_statistics_are_those_of_the_valid_training_frames(bank):
    valid = bank.train.streams["face"].features[bank.train.valid].double().numpy()
    found = statistics(bank.train, "face", chunk=7)
    np.testing.assert_allclose(found.mean.numpy(), valid.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.std.numpy(), valid.std(0), rtol=1e-5)


def test_a_constant_dimension_stays_finite(bank):
    features = bank.train.streams["face"].features.clone()
    features[:, 2] = 0.1
    split = with_features(bank.train, features)
    found = scaled(split)["face"]
    assert found.std[2] == 1.0
    assert found(features, split.valid)[:, 2].abs().max() < 1e-6


def test_gathered_windows_are_the_rows_of_their_clip_and_zero_elsewhere(bank):
    split = bank.train
    windows = cut(split.offsets, 12, 10)
    batch = gather(split, windows, np.arange(len(windows)), plain(6))
    for index, (start, frames) in enumerate(zip(windows.start, windows.frames, strict=True)):
        rows = slice(int(start), int(start + frames))
        expected = torch.where(split.valid[rows, None], split.streams["face"].features[rows], 0.0)
        assert torch.equal(batch.features["face"][index, :frames], expected)
        assert not batch.features["face"][index, frames:].any()
        assert torch.equal(batch.usable()[index, :frames], split.valid[rows])
        assert not batch.usable()[index, frames:].any()
        assert batch.mask[index].sum() == frames
    full = np.flatnonzero(windows.frames == 12)
    assert gather(split, windows, full, plain(6)).mask is None


def test_a_batch_is_no_longer_than_its_longest_window(bank):
    windows = cut(bank.train.offsets, 300, 200)
    batch = gather(bank.train, windows, np.array([1, 3]), plain(6))
    assert batch.features["face"].shape == (2, 25, 6)
    assert batch.mask.sum(1).tolist() == [9, 25]
