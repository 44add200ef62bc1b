"""Static clips: no row is context of another, batches are full, and nothing changes where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DIM, make_split, plain, with_features
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
from temporal import Bank, Split, Stream, load_bank
from temporal.data.minibatch import gather, minibatches
from temporal.data.placement import HostFeatures, StoreFeatures
from temporal.data.projection import Projection, locate
from temporal.data.reduction import prepared
from temporal.data.scaling import centred
from temporal.data.windows import IMAGES_PER_WINDOW, batches, batches_alike, cut, epoch_batches, epoch_order
from temporal.inference.frames import predict
from temporal.models.multiscale_tcn import MultiScaleConv1d
from temporal.models.tcn import TCN, WeightNormConv1d
from temporal.settings import MODELS, Run, Training
from temporal.tasks import TASKS
from temporal.train.estimate import estimate
from temporal.train.fit import fit
from temporal.train.losses import categorical_loss, ccc_loss
from temporal.train.memory import Shapes, footprint
from temporal.train.targets import Targets, gather_targets, objective

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
        for a, b in zip(
            epoch_batches(windows, epoch_order(len(windows), 7, epoch), 8, 7, epoch), before, strict=True
        ):
            assert np.array_equal(a, b)


def test_a_batch_holds_windows_or_images_and_images_fill_it():
    windows = cut(OFFSETS, 12, 10, {1})
    pieces = epoch_batches(windows, epoch_order(len(windows), 0, 1), 2, 0, 1)
    assert sorted(np.concatenate(pieces)) == list(range(len(windows)))
    kinds = [set(windows.static[piece]) for piece in pieces]
    assert all(len(kind) == 1 for kind in kinds)
    sizes = sorted(len(piece) for piece, kind in zip(pieces, kinds, strict=True) if kind == {True})
    assert sizes == [200 - 2 * IMAGES_PER_WINDOW, 2 * IMAGES_PER_WINDOW]
    again = epoch_batches(windows, epoch_order(len(windows), 0, 1), 2, 0, 1)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    assert len(batches_alike(windows, np.arange(len(windows)), 2)) == len(pieces)


@pytest.mark.parametrize("convolution", [WeightNormConv1d, MultiScaleConv1d])
@pytest.mark.parametrize("causal", [True, False])
def test_one_image_is_convolved_like_a_clip_of_one_padded_frame(causal, convolution):
    torch.manual_seed(0)
    conv = convolution(3, 4, 5, 2, causal=causal)
    x = torch.randn(6, 3, 1)
    longer = torch.cat([torch.zeros(6, 3, 20), x, torch.zeros(6, 3, 20)], dim=-1)
    torch.testing.assert_close(conv(x), conv(longer)[..., 20:21])


def network(streams, mask):
    torch.manual_seed(3)
    tcn = TCN(DIM, [7, 7], 3, causal=False)
    return {"EXPR": tcn(streams["face"].transpose(1, 2), mask).transpose(1, 2).unsqueeze(0)}


def test_a_static_row_is_predicted_from_itself_alone():
    split = replace(make_split([5, 30, 4], 3), static=frozenset({1}))
    windows = cut(split.offsets, 12, 10, split.static)
    whole = predict(network, split, windows, plain(DIM), 2)["EXPR"][0]
    changed = split.streams["face"].features.clone()
    changed[5:35] = changed[5:35].flip(0)
    turned = predict(network, with_features(split, changed), windows, plain(DIM), 2)["EXPR"][0]
    # Missing rows stay where they are, so those that are there before and after are compared.
    both = split.valid[5:35] & split.valid[5:35].flip(0)
    torch.testing.assert_close(turned[5:35].flip(0)[both], whole[5:35][both])
    torch.testing.assert_close(turned[:5], whole[:5])
    # What a clip of one frame gets, the row of a shard gets.
    face = split.streams["face"]
    single = Split(("one",), (0, 1), {"face": Stream(face.features[9:10], face.valid[9:10])}, {})
    alone = predict(network, single, cut((0, 1), 12, 10), plain(DIM), 2)["EXPR"][0]
    torch.testing.assert_close(alone[0], whole[9])


def test_a_batch_of_images_has_no_padding():
    split = replace(make_split([5, 30], 3), static=frozenset({1}))
    windows = cut(split.offsets, 12, 10, split.static)
    batch = gather(split, windows, np.flatnonzero(windows.static), plain(DIM))
    assert batch.mask is None
    assert batch.features["face"].shape == (30, 1, DIM)


def test_a_table_is_trained_and_scored_on_static_and_moving_clips_together(tiny):
    train = replace(make_split([40, 90, 25], 1), static=frozenset({1}))
    validation = replace(make_split([30, 50], 2), static=frozenset({1}))
    bank = Bank(train, validation, {"face": feature_spec(DIM, "float32")}, label_spec())
    tiny = replace(tiny, epochs=2)
    runs = [Run(("V", "EXPR"), attention=True, seed=s, dropout=0.1, lr=1e-2) for s in (0, 1)]
    together = fit(bank, runs, tiny)
    assert all(result.status == "done" for result in together)
    assert together[0].predictions["clip1"]["EXPR"].shape[0] == 50
    rows = slice(*train.offsets[1:3])
    model = together[0].model
    shard = [train.streams["face"].features[rows].numpy(), train.valid[rows].numpy()]
    static = model.predict_arrays(*shard, static=True)["EXPR"]
    reversed_rows = model.predict_arrays(*(array[::-1].copy() for array in shard), static=True)["EXPR"]
    np.testing.assert_allclose(static[::-1], reversed_rows, atol=1e-6)
    assert np.abs(model.predict_arrays(*shard)["EXPR"] - static).max() > 1e-3
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
    assert not targets.share
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


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A feature store and a label store: of three training clips and two for validation one is static."""
    folder, spec = tmp_path_factory.mktemp("pair"), feature_spec(8)
    features, labels = stores.create(folder / "f", spec), stores.create(folder / "l", label_spec())
    for seed, (clip, frames) in enumerate({"a": 30, "b": 141, "c": 25, "v": 20, "w": 33}.items()):
        attrs = {"split": "validation" if clip in "vw" else "train"}
        if clip in "bw":
            attrs |= {"static": True, "weight": 0.5}
        features.write(clip, feature_arrays(frames, spec, seed), {})
        labels.write(clip, label_arrays(frames, label_spec(), seed), LABEL_ATTRS | attrs)
    return features, labels


def staged(split):
    return with_features(split, HostFeatures(split.streams["face"].features, torch.device("cpu")))


@pytest.mark.parametrize("settings", [{"centre": True}, {"pca": 3, "centre": True}])
def test_static_and_weighted_clips_train_to_the_same_bytes_wherever_the_features_lie(pair, tiny, settings):
    training = replace(tiny, epochs=2, **settings)
    banks = [load_bank(*pair, placement=place) for place in ("device", "store")]
    assert isinstance(banks[1].train.streams["face"].features, StoreFeatures)
    banks.append(replace(banks[0], train=staged(banks[0].train), validation=staged(banks[0].validation)))
    runs = [Run(("V", "AU"), attention=True, lr=1e-2), Run(("EXPR",), seed=1, dropout=0.1, lr=1e-2)]
    first, *others = (fit(bank, runs, training) for bank in banks)
    for results in others:
        for a, b in zip(first, results, strict=True):
            assert a.status == "done"
            assert a.history == b.history
            weights = [result.model.network.state_dict() for result in (a, b)]
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
            for clip, tasks in a.predictions.items():
                assert all(np.array_equal(values, b.predictions[clip][t]) for t, values in tasks.items())


def test_nothing_is_taken_from_static_rows_where_clips_are_centred(pair):
    before_it = load_bank(*pair).train
    split = centred(before_it)
    centres = split.streams["face"].centres
    assert not centres[1].any()
    windows = cut(split.offsets, 12, 10, split.static)
    pieces = batches_alike(windows, np.arange(len(windows)), 4)
    single = plain(split.dims["face"])
    for chosen, seen, before in zip(
        pieces, minibatches(split, windows, pieces, single), minibatches(before_it, windows, pieces, single),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(seen.features["face"], before.features["face"]) == windows.static[chosen[0]]
    moving = centred(replace(before_it, static=frozenset())).streams["face"].centres
    assert moving[1].abs().max() > 0
    assert torch.equal(moving[[0, 2]], centres[[0, 2]])


def test_a_trained_model_predicts_centred_shards_as_in_training(pair, tiny):
    bank = load_bank(*pair)
    result = fit(bank, [Run(("EXPR",), lr=1e-2)], replace(tiny, epochs=2, centre=True))[0]
    arrays = [pair[0].read("w", name) for name in ("features", "valid")]
    alone = result.model.predict_arrays(*arrays, static=True)["EXPR"]
    np.testing.assert_allclose(alone, result.predictions["w"]["EXPR"], atol=1e-6)


def test_axes_of_centred_features_are_not_those_of_the_same_clips_as_videos(pair):
    bank = load_bank(*pair)
    videos = replace(
        bank,
        train=replace(bank.train, static=frozenset()),
        validation=replace(bank.validation, static=frozenset()),
    )
    axes = {}
    for centre in (True, False):
        for name, each in (("static", bank), ("videos", videos)):
            axes[centre, name] = (
                prepared(each, Training(pca=3, centre=centre))[0].reduction["face"].components
            )
    assert not torch.equal(axes[True, "static"], axes[True, "videos"])
    assert torch.equal(axes[False, "static"], axes[False, "videos"])


def test_axes_of_centred_features_have_another_name_if_a_clip_is_static(pair, tmp_path):
    features, labels = pair
    splits = {clip: labels.record(clip).attrs["split"] for clip in labels.clips()}
    videos = stores.create(tmp_path / "l", label_spec())
    for seed, clip in enumerate(labels.clips()):
        frames = labels.record(clip).frames
        videos.write(clip, label_arrays(frames, label_spec(), seed), LABEL_ATTRS | {"split": splits[clip]})
    for centre in (True, False):
        projection = Projection(3, centre, standardise=True)
        ours, theirs = (
            locate(features, each, splits, tmp_path, projection).axes for each in (labels, videos)
        )
        assert (ours != theirs) == centre


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("causal", [True, False])
def test_every_model_trains_on_images_and_predicts_each_from_itself_alone(tiny, model, causal):
    train, validation = (replace(make_split([20, 90], s), static=frozenset({1})) for s in (1, 2))
    bank = Bank(train, validation, {"face": feature_spec(DIM, "float32")}, label_spec())
    training = replace(tiny, epochs=1, model=model, causal=causal, channels=6, attention_heads=1)
    runs = [Run(("V", "EXPR"), attention=True, dropout=0.1), Run(("AU",), seed=1)]
    result = fit(bank, runs, training)[0]
    assert result.status == "done"
    x, valid = train.streams["face"].features[20:].numpy(), train.valid[20:].numpy()
    whole = result.model.predict_arrays(x, valid, static=True)["EXPR"]
    backwards = result.model.predict_arrays(x[::-1].copy(), valid[::-1].copy(), static=True)["EXPR"]
    np.testing.assert_allclose(backwards[::-1], whole, atol=1e-6)
    alone = result.model.predict_arrays(x[7:8], valid[7:8])["EXPR"]
    np.testing.assert_allclose(alone[0], whole[7], atol=1e-6)


def test_the_footprint_is_that_of_the_larger_kind_of_minibatch():
    run, features = [Run(("V", "AU"))], {"face": feature_spec(32)}
    for window in (8, 100):  # fewer and more frames than there are images in their place
        training = Training(window=window, hop=8, batch_size=4, channels=16, levels=2, kernel_size=3)
        moving, static, both = (
            footprint(run, training, Shapes([50, 50], [50], features, label_spec(), images))
            for images in (frozenset(), frozenset({0, 1}), frozenset({1}))
        )
        assert (moving.replica < static.replica) == (moving.shared < static.shared) == (window == 8)
        assert both.replica == max(moving.replica, static.replica)
        assert both.shared == max(moving.shared, static.shared)


def test_the_estimate_counts_images_as_training_reads_them():
    training = Training(window=16, hop=8, batch_size=4, epochs=5, channels=4, levels=2, kernel_size=3)
    shapes = Shapes(
        [40, 600, 7], [30, 9], {"face": feature_spec(8)}, label_spec(), frozenset({1}), frozenset({1})
    )
    cost = estimate([Run(("V",))], training, shapes)
    assert cost.windows == 4 + 600 + 1
    assert cost.frames == 4 * 16 + 600 + 7
    assert cost.steps == 2 + 3
