import json
from dataclasses import replace

import numpy as np
import pytest

import temporal
from stores.errors import ConfigError, FormatVersionError, SpecMismatch, StoreError
from temporal.settings import Run, Training


@pytest.fixture(scope="module")
def result(bank):
    tiny = Training(
        window=12,
        hop=10,
        batch_size=2,
        epochs=2,
        channels=5,
        levels=2,
        kernel_size=3,
        projection=4,
        causal=False,
    )
    return temporal.fit(bank, [Run(("A", "AU", "EXPR"), attention=True, loss_weights={"AU": 0.5})], tiny)[0]


def clip(bank, index=0):
    split = bank.validation
    first, end = split.offsets[index : index + 2]
    return split.streams["face"].features[first:end].numpy(), split.valid[first:end].numpy()


def test_a_saved_model_predicts_what_it_predicted_in_training(bank, result, tmp_path):
    temporal.save(result, tmp_path)
    model = temporal.load(tmp_path, bank.feature_specs["face"])
    assert (model.run, model.training, model.label_spec) == (
        result.run,
        result.model.training,
        bank.label_spec,
    )
    for index, name in enumerate(bank.validation.clips):
        features, valid = clip(bank, index)
        found, straight = model.predict(features, valid), result.model.predict(features, valid)
        assert list(found) == list(result.run.tasks)
        for task, values in found.items():
            assert np.array_equal(values, straight[task])
            np.testing.assert_allclose(values, result.predictions[name][task], atol=1e-5)


def test_features_of_missing_crops_do_not_matter(bank, result):
    features, valid = clip(bank)
    spoilt = np.where(valid[:, None], features, np.nan)
    expected = result.model.predict(features, valid)
    assert all(
        np.array_equal(values, expected[t]) for t, values in result.model.predict(spoilt, valid).items()
    )


def test_a_wrong_feature_spec_is_refused_naming_both(bank, result, tmp_path):
    temporal.save(result, tmp_path)
    other = replace(bank.feature_specs["face"], weights="imagenet1k_v2")
    with pytest.raises(SpecMismatch, match=r"weights: model 'rendered', features 'imagenet1k_v2'"):
        temporal.load(tmp_path, other)


def test_wrong_inputs_are_refused(bank, result):
    features, valid = clip(bank)
    with pytest.raises(ConfigError, match=r"expects \(T, 6\)"):
        result.model.predict(features[:, :4])
    with pytest.raises(ConfigError, match="one flag per frame"):
        result.model.predict(features, valid[:3])
    features = features.copy()
    features[3, 1] = np.inf
    with pytest.raises(ConfigError, match="frame 3"):
        result.model.predict(features)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_checkpoint_is_refused(result, tmp_path, missing):
    temporal.save(result, tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(StoreError, match=missing):
        temporal.load(tmp_path)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(result, tmp_path):
    temporal.save(result, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    edit(tmp_path, training={**config["training"], "channels": 6})
    with pytest.raises(StoreError, match="size mismatch"):
        temporal.load(tmp_path)
    face = {"face": {**config["streams"]["face"], "feature_digest": "0" * 64}}
    edit(tmp_path, training=config["training"], streams=face)
    with pytest.raises(StoreError, match="digest"):
        temporal.load(tmp_path)
    edit(tmp_path, version=1)
    with pytest.raises(FormatVersionError, match="update"):
        temporal.load(tmp_path)


def test_damaged_weights_are_refused(result, tmp_path):
    temporal.save(result, tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match="no model in"):
        temporal.load(tmp_path)


def test_a_failed_run_has_nothing_to_save(result, tmp_path):
    with pytest.raises(ConfigError, match="boom"):
        temporal.save(replace(result, status="failed", reason="boom", model=None), tmp_path)
