"""Static clips: no row is context of another, batches are full, and nothing changes where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DIM, make_split

import stores
from stores.testing import feature_spec, label_spec
from temporal import Bank, Split, load_bank
from temporal.bank import gather, identity
from temporal.evaluate import predict
from temporal.losses import Targets, categorical_loss, ccc_loss, gather_targets, objective
from temporal.models.tcn import TCN, WeightNormConv1d
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.training import fit
from temporal.windows import IMAGES_PER_WINDOW, batches, batches_alike, cut, epoch_batches, epoch_order

OFFSETS = (0, 40, 240, 265)  # the second of three clips is static
SIZES = {task: spec.size(label_spec()) for task, spec in TASKS.items()}


def test_every_row_of_a_static_clip_is_a_window_of_its_own():
    windows = cut(OFFSETS, 12, 10, {1})
    assert windows.start[windows.static].tolist() == list(range(40, 240))
    assert set(windows.frames[windows.static]) == {1}
    plain = cut((0, 40, 65), 12, 10)
    assert np.array_equal(windows.frames[~windows.static], plain.frames)


def test_without_static_clips_an_epoch_is_what_it_always_was():
    windows = cut(OFFSETS, 12, 10)
    for epoch in range(3):
        before = list(batches(epoch_order(len(windows), 7, epoch), 8))
        for a, b in zip(epoch_batches(windows, 8, 7, epoch), before, strict=True):
            assert np.array_equal(a, b)


def test_a_batch_holds_windows_or_images_and_images_fill_it():
    windows = cut(OFFSETS, 12, 10, {1})
    pieces = epoch_batches(windows, 2, 0, 1)
    assert sorted(np.concatenate(pieces)) == list(range(len(windows)))
    kinds = [set(windows.static[piece]) for piece in pieces]
    assert all(len(kind) == 1 for kind in kinds)
    sizes = sorted(len(piece) for piece, kind in zip(pieces, kinds, strict=True) if kind == {True})
    assert sizes == [200 - 2 * IMAGES_PER_WINDOW, 2 * IMAGES_PER_WINDOW]
    again = epoch_batches(windows, 2, 0, 1)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    assert len(batches_alike(windows, np.arange(len(windows)), 2)) == len(pieces)


@pytest.mark.parametrize("causal", [True, False])
def test_one_image_is_convolved_like_a_clip_of_one_padded_frame(causal):
    torch.manual_seed(0)
    conv = WeightNormConv1d(3, 4, 5, 2, causal=causal)
    x = torch.randn(6, 3, 1)
    longer = torch.cat([torch.zeros(6, 3, 20), x, torch.zeros(6, 3, 20)], dim=-1)
    torch.testing.assert_close(conv(x), conv(longer)[..., 20:21])


def network(features, mask):
    torch.manual_seed(3)
    tcn = TCN(DIM, [7, 7], 3, causal=False)
    return {"EXPR": tcn(features.transpose(1, 2), mask).transpose(1, 2).unsqueeze(0)}


def test_a_static_row_is_predicted_from_itself_alone():
    split = replace(make_split([5, 30, 4], 3), static=frozenset({1}))
    windows = cut(split.offsets, 12, 10, split.static)
    whole = predict(network, split, windows, identity(DIM), 2)["EXPR"][0]
    changed = split.features.clone()
    changed[5:35] = changed[5:35].flip(0)
    turned = predict(network, replace(split, features=changed), windows, identity(DIM), 2)["EXPR"][0]
    # Missing rows stay where they are, so those that are there before and after are compared.
    both = split.valid[5:35] & split.valid[5:35].flip(0)
    torch.testing.assert_close(turned[5:35].flip(0)[both], whole[5:35][both])
    torch.testing.assert_close(turned[:5], whole[:5])
    # What a clip of one frame gets, the row of a shard gets.
    single = Split(("one",), (0, 1), split.features[9:10], split.valid[9:10], {})
    alone = predict(network, single, cut((0, 1), 12, 10), identity(DIM), 2)["EXPR"][0]
    torch.testing.assert_close(alone[0], whole[9])


def test_a_batch_of_images_has_no_padding():
    split = replace(make_split([5, 30], 3), static=frozenset({1}))
    windows = cut(split.offsets, 12, 10, split.static)
    batch = gather(split, windows, np.flatnonzero(windows.static), identity(DIM))
    assert batch.mask is None
    assert batch.features.shape == (30, 1, DIM)


def test_a_table_is_trained_and_scored_on_static_and_moving_clips_together(tiny):
    train = replace(make_split([40, 90, 25], 1), static=frozenset({1}))
    validation = replace(make_split([30, 50], 2), static=frozenset({1}))
    bank = Bank(train, validation, feature_spec(DIM, "float32"), label_spec())
    tiny = replace(tiny, epochs=2)
    runs = [Run(("V", "EXPR"), attention=True, seed=s, dropout=0.1, lr=1e-2) for s in (0, 1)]
    together = fit(bank, runs, tiny)
    assert all(result.status == "done" for result in together)
    assert together[0].predictions["clip1"]["EXPR"].shape[0] == 50
    rows = slice(*train.offsets[1:3])
    model = together[0].model
    shard = [train.features[rows].numpy(), train.valid[rows].numpy()]
    static = model.predict(*shard, static=True)["EXPR"]
    reversed_rows = model.predict(*(array[::-1].copy() for array in shard), static=True)["EXPR"]
    np.testing.assert_allclose(static[::-1], reversed_rows, atol=1e-6)
    assert np.abs(model.predict(*shard)["EXPR"] - static).max() > 1e-3
    alone = fit(bank, runs[1:], tiny)[0]
    assert alone.score == pytest.approx(together[1].score, abs=1e-5)


def weighted(split, weights):
    return replace(split, weight=torch.from_numpy(np.repeat(weights, np.diff(split.offsets))))


def test_losses_are_the_weighted_sum_over_labels_by_the_number_of_labels():
    split = weighted(make_split([20, 30], 1), np.array([0.25, 1.5], np.float32))
    rows = torch.arange(50).view(5, 10)
    targets = gather_targets(split, rows, split.valid[rows], SIZES)
    plain = gather_targets(replace(split, weight=None), rows, split.valid[rows], SIZES)
    logits = torch.randn(5, 10, SIZES["EXPR"], generator=torch.Generator().manual_seed(0))
    ours = categorical_loss(logits, targets.values["EXPR"], targets.known["EXPR"], torch.ones(SIZES["EXPR"]))
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.values["EXPR"].flatten(), reduction="none"
    ).view(5, 10)
    known = plain.known["EXPR"]
    expected = (each * known * split.weight[rows]).sum() / known.sum()
    torch.testing.assert_close(ours * targets.share["EXPR"], expected)


def test_a_weight_matters_also_where_all_frames_of_a_batch_have_the_same():
    training, labels = Training(), label_spec()
    split = make_split([20], 1)
    rows = torch.arange(20).view(2, 10)
    logits = {task: torch.randn(2, 10, size) for task, size in SIZES.items()}
    plain = objective(split, labels, training)(logits, gather_targets(split, rows, split.valid[rows], SIZES))
    half = weighted(split, np.array([0.5], np.float32))
    targets = gather_targets(half, rows, half.valid[rows], SIZES)
    torch.testing.assert_close(objective(half, labels, training)(logits, targets), 0.5 * plain)


def test_weighted_ccc_has_weighted_moments():
    random = np.random.default_rng(0)
    p, t, w = random.normal(size=30), random.normal(size=30), random.integers(0, 4, 30)
    repeated = [np.repeat(x, w) for x in (p, t)]
    one = torch.ones(1, int(w.sum()), dtype=torch.float64)
    expected = ccc_loss(*(torch.from_numpy(x)[None] for x in repeated), one)
    found = ccc_loss(*(torch.from_numpy(x)[None] for x in (p, t, w.astype(float))))
    torch.testing.assert_close(found, expected)


def test_without_weights_targets_are_zeros_and_ones():
    split = make_split([20], 1)
    targets = gather_targets(split, torch.arange(20)[None], split.valid[None], SIZES)
    assert isinstance(targets, Targets)
    assert targets.share is None
    assert set(targets.known["AU"].unique().tolist()) == {0.0, 1.0}


def test_static_clips_and_weights_are_read_from_the_label_store(tmp_path):
    features = stores.create(tmp_path / "features", feature_spec(4))
    labels = stores.create(tmp_path / "labels", label_spec())
    kinds = {"a": {"static": True, "weight": 0.5}, "b": {}, "c": {"split": "validation"}}
    for clip, attrs in kinds.items():
        frames = np.arange(3, dtype=np.int32)
        vectors = np.zeros((3, 4), np.float16)
        features.write(clip, {"features": vectors, "frame": frames, "valid": np.ones(3, bool)})
        arrays = {name: np.zeros(3, np.float32) for name in ("valence", "arousal")}
        arrays |= {"expression": np.zeros(3, np.int8), "au": np.zeros((3, SIZES["AU"]), np.int8)}
        labels.write(clip, arrays, {"split": "train", "fps": 30.0, "subject": "", "corpus": "x"} | attrs)
    bank = load_bank(features, labels)
    assert bank.train.static == {0}
    assert bank.train.weight.tolist() == [0.5] * 3 + [1.0] * 3
    assert bank.validation.static == frozenset()
    assert bank.validation.weight is None
