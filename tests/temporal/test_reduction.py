import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import scaled, with_features
from sklearn.decomposition import PCA
from store_specs import LABEL_ATTRS, feature_arrays, feature_spec, label_arrays, label_spec

import stores
import temporal
from stores.errors import ConfigError, StoreError
from temporal.data import reduction
from temporal.data.projection import Projection, locate
from temporal.data.reduced import open_reduced, write_reduced
from temporal.data.reduction import fit_axes, prepared
from temporal.data.scaling import centred, rows_of_clips, statistics
from temporal.settings import Run, Training

SPEC = feature_spec(8)
CLIPS = {"a": ("train", 30), "b": ("train", 41), "v": ("validation", 25)}
DIVISION = {clip: split for clip, (split, _) in CLIPS.items()}
THREE = Projection(3, centre=False, standardise=True)
RUN = Run(("V", "EXPR"), lr=1e-2)


@pytest.fixture
def pair(tmp_path):
    features, labels = stores.create(tmp_path / "f", SPEC), stores.create(tmp_path / "l", label_spec())
    for seed, (clip, (split, frames)) in enumerate(CLIPS.items()):
        features.write(clip, feature_arrays(frames, SPEC, seed), {})
        labels.write(clip, label_arrays(frames, label_spec(), seed), {**LABEL_ATTRS, "split": split})
    return features, labels


def write(pair, folder, projection=THREE):
    """As stage 1 does it."""
    write_reduced(temporal.load_bank(*pair), "face", locate(*pair, DIVISION, folder, projection))


def opened(pair, folder, projection=THREE, **places):
    """As stage 2 does it."""
    features, labels = pair
    return open_reduced({"face": features}, labels, folder, projection, division=DIVISION, **places)


def valid_rows(split):
    rows = torch.cat([x[split.valid[rows]] for _, rows, x in rows_of_clips(split, "face")])
    return rows.double().numpy()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("centre", [True, False])
def test_axes_are_those_of_scikit_learn(bank, standardise, centre):
    split = centred(bank.train) if centre else bank.train
    found = fit_axes(split, "face", standardise=standardise)
    x = valid_rows(split)
    x = (x - x.mean(0)) / (x.std(0) if standardise else 1.0)
    expected = PCA(svd_solver="full").fit(x)
    np.testing.assert_allclose(found.explained_variance.numpy(), expected.explained_variance_, rtol=1e-5)
    for count in (1, 3, 5):
        between = found.components[:count].double().numpy() @ expected.components_[:count].T
        assert np.linalg.svd(between, compute_uv=False).min() > 1 - 1e-6
    assert (found.components.gather(1, found.components.abs().argmax(1, keepdim=True)) > 0).all()


def test_many_blocks_give_the_axes_of_one(bank, monkeypatch):
    whole = fit_axes(bank.train, "face", standardise=True)
    monkeypatch.setattr(reduction, "BLOCK", 8)
    pieces = fit_axes(bank.train, "face", standardise=True)
    torch.testing.assert_close(whole.explained_variance, pieces.explained_variance, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(whole.components, pieces.components, rtol=0, atol=1e-4)


def test_reduced_features_have_a_mean_variance_of_one_and_are_not_whitened(bank):
    axes = fit_axes(bank.train, "face", standardise=True)
    reduced = axes.first(3)(bank.train.streams["face"].features, bank.train.valid)
    assert not reduced[~bank.train.valid].any()
    variances = reduced[bank.train.valid].var(0)
    assert variances.mean().item() == pytest.approx(1.0, rel=1e-4)
    expected = axes.explained_variance[:3] / axes.explained_variance[:3].mean()
    torch.testing.assert_close(variances, expected.float(), rtol=1e-4, atol=0)


def test_the_axes_never_see_a_validation_frame(bank):
    training = Training(pca=3)
    other = with_features(bank.validation, 1e3 * torch.randn_like(bank.validation.streams["face"].features))
    first, second = (prepared(b, training)[0] for b in (bank, replace(bank, validation=other)))
    assert torch.equal(first.reduction["face"].components, second.reduction["face"].components)
    assert torch.equal(first.reduction["face"].mean, second.reduction["face"].mean)
    assert torch.equal(first.train.streams["face"].features, second.train.streams["face"].features)


def test_neither_crops_that_are_missing_nor_their_features_change_the_axes(bank):
    split = bank.train
    spoilt = torch.where(split.valid[:, None], split.streams["face"].features, 1e6)
    first, second = (fit_axes(s, "face", standardise=True) for s in (split, with_features(split, spoilt)))
    assert torch.equal(first.components, second.components)


def test_centred_features_have_no_mean_over_the_valid_frames_of_any_clip(bank):
    split = centred(bank.train)
    for _, rows, x in rows_of_clips(split, "face"):
        valid = split.valid[rows]
        assert x[valid].mean(0).abs().max() < 1e-5
        plain = bank.train.streams["face"].features[rows][valid]
        torch.testing.assert_close(x[valid], plain - plain.mean(0), rtol=0, atol=1e-5)
    assert split.streams["face"].centres.shape == (4, 6)


def same_features(first, second):
    """Whether two banks have the same training features, and the same validation features."""
    pairs = ((first.train, second.train), (first.validation, second.validation))
    return [torch.equal(*(split.streams["face"].features for split in pair)) for pair in pairs]


def test_a_store_of_reduced_features_is_made_once_and_holds_the_numbers_of_a_reduction_in_memory(
    pair, tmp_path
):
    write(pair, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write(pair, tmp_path)
    bank = opened(pair, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == made
    axes, store = (name for name in names(tmp_path) if name.startswith("f."))
    assert axes.startswith("f.axes-")
    assert store.startswith("f.pca3-")
    kept = stores.open(tmp_path / store)
    assert (kept.spec.dim, kept.spec.stream, kept.spec.dtype) == (3, f"{SPEC.stream}.pca3", "float32")
    assert stores.verify(kept.path).ok
    training = Training(pca=3)
    on_disk, linear = prepared(bank, training)
    in_memory, _ = prepared(temporal.load_bank(*pair), training)
    assert (linear["face"].dim, on_disk.train.dims, on_disk.feature_specs) == (3, {"face": 3}, {"face": SPEC})
    assert all(same_features(on_disk, in_memory))
    assert torch.equal(on_disk.reduction["face"].components, in_memory.reduction["face"].components)


def test_each_stream_is_reduced_to_its_own_axes(pair, tmp_path):
    sound = stores.create(tmp_path / "s", feature_spec(6))
    for seed, (clip, (_, frames)) in enumerate(CLIPS.items()):
        sound.write(clip, feature_arrays(frames, sound.spec, seed + 7), {})
    streams = {"face": pair[0], "sound": sound}
    bank = temporal.load_bank(streams, pair[1])
    for name, store in streams.items():
        write_reduced(bank, name, locate(store, pair[1], DIVISION, tmp_path, THREE))
    found = open_reduced(streams, pair[1], tmp_path, THREE, division=DIVISION)
    in_memory, _ = prepared(bank, Training(pca=3))
    for name, stream in found.train.streams.items():
        assert torch.equal(stream.features, in_memory.train.streams[name].features)


def test_training_writes_no_file(pair, tiny, tmp_path):
    before = names(tmp_path)
    temporal.fit(temporal.load_bank(*pair), [RUN], replace(tiny, epochs=1, pca=3))
    assert names(tmp_path) == before


def test_what_the_axes_were_fitted_on_is_kept_with_them(pair, tmp_path):
    from safetensors import safe_open

    write(pair, tmp_path, replace(THREE, centre=True))
    (path,) = tmp_path.glob("f.axes-*")
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        assert file.get_tensor("explained_variance").shape == (8,)
    (header,) = metadata.values()
    told = stores.documents.parse(header.encode(), "header")
    provenance = told["provenance"]
    assert provenance["feature_digest"] == SPEC.digest()
    assert list(provenance["clips"]) == ["a", "b"]
    assert provenance["clips"]["a"]["features"] == pair[0].record("a").arrays["features"].sha256
    assert (provenance["centre"], provenance["standardise"]) == (True, True)
    assert "torch" in told["versions"]


def test_the_same_fit_is_the_same_file(pair, tmp_path):
    def axes(folder):
        write(pair, folder)
        (path,) = folder.glob("*.safetensors")
        return path.name, path.read_bytes()

    assert axes(tmp_path / "one") == axes(tmp_path / "two")


def test_reduced_features_that_are_missing_are_refused_in_one_line(pair, tmp_path):
    with pytest.raises(StoreError, match=r"3 of 3 clips .*pca: 3.* run facets features") as refused:
        opened(pair, tmp_path)
    assert "\n" not in str(refused.value)
    write(pair, tmp_path)
    with pytest.raises(StoreError, match="run facets features"):
        opened(pair, tmp_path, replace(THREE, pca=2))


def test_stale_axes_are_never_used_and_new_ones_are_made(pair, tmp_path):
    write(pair, tmp_path)
    before = opened(pair, tmp_path)
    pair[0].write("a", feature_arrays(30, SPEC, 99), {})
    with pytest.raises(StoreError, match="run facets features"):
        opened(pair, tmp_path)
    write(pair, tmp_path)
    after = opened(pair, tmp_path)
    assert not torch.equal(before.reduction["face"].components, after.reduction["face"].components)
    assert len(list(tmp_path.glob("f.axes-*"))) == len(list(tmp_path.glob("f.pca3-*"))) == 2
    fresh, _ = prepared(temporal.load_bank(*pair), Training(pca=3))
    assert torch.equal(fresh.reduction["face"].components, after.reduction["face"].components)
    assert all(same_features(fresh, after))


def test_a_validation_clip_that_changed_is_reduced_again_by_the_same_axes(pair, tmp_path):
    write(pair, tmp_path)
    before = opened(pair, tmp_path)
    pair[0].write("v", feature_arrays(25, SPEC, 99), {})
    with pytest.raises(StoreError, match=r"1 of 3 clips .*\(v is the first\)"):
        opened(pair, tmp_path)
    write(pair, tmp_path)
    after = opened(pair, tmp_path)
    assert torch.equal(before.reduction["face"].components, after.reduction["face"].components)
    assert same_features(before, after) == [True, False]
    assert len(list(tmp_path.glob("f.pca3-*"))) == 1


def test_damaged_axes_are_refused_by_name(pair, tmp_path):
    write(pair, tmp_path)
    (path,) = tmp_path.glob("f.axes-*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"f\.axes-.*delete it"):
        write(pair, tmp_path)


def test_axes_of_other_features_are_refused_whatever_their_name(pair, tmp_path):
    write(pair, tmp_path)
    (old,) = tmp_path.glob("f.axes-*")
    pair[0].write("a", feature_arrays(30, SPEC, 99), {})
    write(pair, tmp_path)
    (new,) = set(tmp_path.glob("f.axes-*")) - {old}
    old.replace(new)
    with pytest.raises(StoreError, match="axes of other features"):
        write(pair, tmp_path)


@pytest.mark.parametrize("changes", [{"pca": 2}, {"pca": 0}, {"centre": True}, {"standardise": False}])
def test_features_that_were_reduced_by_other_settings_are_refused(pair, tiny, tmp_path, changes):
    write(pair, tmp_path)
    with pytest.raises(ConfigError, match=r"reduced by pca: 3.*training asks for"):
        temporal.fit(opened(pair, tmp_path), [RUN], replace(tiny, **{"pca": 3, **changes}))


def test_fewer_frames_than_axes_are_refused(bank, tiny):
    few = torch.zeros_like(bank.train.valid)
    few[:4] = True
    with pytest.raises(ConfigError, match="5 axes were asked for, there are 4 axes"):
        prepared(
            replace(bank, train=with_features(bank.train, bank.train.streams["face"].features, few)),
            replace(tiny, pca=5),
        )


def test_more_axes_than_dimensions_are_refused(bank, tiny):
    with pytest.raises(ConfigError, match="7 axes were asked for of stream face of 6 dimensions"):
        temporal.fit(bank, [RUN], replace(tiny, pca=7))


def test_one_bank_serves_every_setting_of_a_sweep_and_keeps_nothing_of_them(pair, tiny):
    bank = temporal.load_bank(*pair)
    raw = bank.train.streams["face"].features.clone()
    for settings in ({}, {"pca": 2}, {"centre": True}, {"standardise": False}, {"pca": 2, "centre": True}):
        (result,) = temporal.fit(bank, [RUN], replace(tiny, epochs=1, **settings))
        assert result.status == "done"
        assert math.isfinite(result.score)
    assert torch.equal(bank.train.streams["face"].features, raw)
    assert bank.train.streams["face"].centres is None
    assert not bank.reduction


@pytest.mark.parametrize(
    ("pca", "centre", "standardise", "kept"),
    [
        (0, False, False, False),
        (0, True, True, False),
        (3, False, True, True),
        (3, True, True, True),
        (3, True, False, True),
        (3, True, True, False),
    ],
)
def test_a_saved_model_predicts_from_features_as_extracted(
    pair, tiny, tmp_path, standardise, centre, pca, kept
):
    bank = temporal.load_bank(*pair)
    if kept:
        projection = Projection(pca, centre, standardise)
        write(pair, tmp_path, projection)
        bank = opened(pair, tmp_path, projection)
    training = replace(tiny, epochs=2, standardise=standardise, centre=centre, pca=pca)
    (result,) = temporal.fit(bank, [RUN], training)
    temporal.save(result, tmp_path / "run")
    model = temporal.load(tmp_path / "run", SPEC)
    assert model.training == training
    features, valid = (pair[0].read("v", name) for name in ("features", "valid"))
    found, straight = model.predict_arrays(features, valid), result.model.predict_arrays(features, valid)
    for task, values in result.predictions["v"].items():
        assert np.array_equal(found[task], straight[task])
        np.testing.assert_allclose(found[task], values, atol=1e-5)


def test_a_model_of_centred_features_does_not_care_for_an_offset_of_the_clip(bank, tiny):
    training = replace(tiny, epochs=1, centre=True)
    (result,) = temporal.fit(bank, [RUN], training)
    features = bank.validation.streams["face"].features[:30].numpy()
    valid = bank.validation.valid[:30].numpy()
    plain, moved = (result.model.predict_arrays(features + offset, valid) for offset in (0.0, 5.0))
    np.testing.assert_allclose(plain["V"], moved["V"], atol=1e-4)


def test_a_checkpoint_whose_projection_does_not_fit_is_refused(bank, tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    (result,) = temporal.fit(bank, [RUN], replace(tiny, epochs=1, pca=3))
    temporal.save(result, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["standardiser.face.components"] = tensors["standardiser.face.components"][:, :2].contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(StoreError, match=r"standardiser has shapes .*\(6, 2\).*expected .*\(6, 3\)"):
        temporal.load(tmp_path)
    del tensors["standardiser.face.components"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(StoreError, match=r"standardiser\.face\.components"):
        temporal.load(tmp_path)


def test_statistics_do_not_depend_on_the_size_of_the_pieces(bank):
    whole, pieces = scaled(bank.train)["face"], statistics(bank.train, "face", chunk=3)
    torch.testing.assert_close(whole.mean, pieces.mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(whole.std, pieces.std, rtol=1e-6, atol=0)
