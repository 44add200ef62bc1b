import json
from dataclasses import replace

import numpy as np
import pytest

import stores
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
        found, straight = model.predict_arrays(features, valid), result.model.predict_arrays(features, valid)
        assert list(found) == list(result.run.tasks)
        for task, values in found.items():
            assert np.array_equal(values, straight[task])
            np.testing.assert_allclose(values, result.predictions[name][task], atol=1e-5)


def test_features_of_missing_crops_do_not_matter(bank, result):
    features, valid = clip(bank)
    spoilt = np.where(valid[:, None], features, np.nan)
    expected = result.model.predict_arrays(features, valid)
    assert all(
        np.array_equal(values, expected[t])
        for t, values in result.model.predict_arrays(spoilt, valid).items()
    )


@pytest.mark.parametrize("entry", ["load", "predict", "predict_arrays"])
def test_a_wrong_feature_spec_is_refused_naming_both(bank, result, tmp_path, entry):
    other = replace(bank.feature_specs["face"], weights="imagenet1k_v2")
    temporal.save(result, tmp_path / "model")
    store = stores.create(tmp_path / "store", other)
    calls = {
        "load": lambda: temporal.load(tmp_path / "model", other),
        "predict": lambda: result.model.predict(store, "clip0"),
        "predict_arrays": lambda: result.model.predict_arrays(*clip(bank), spec=other),
    }
    with pytest.raises(SpecMismatch, match=r"weights: model 'rendered', features 'imagenet1k_v2'"):
        calls[entry]()


@pytest.mark.parametrize("by_name", [False, True])
def test_a_clip_of_a_store_is_predicted_as_the_run_predicted_it(bank, result, tmp_path, by_name):
    store = stores.create(tmp_path, bank.feature_specs["face"])
    for index, name in enumerate(bank.validation.clips):
        features, valid = clip(bank, index)
        frame = np.arange(len(valid), dtype=np.int32)
        store.write(name, {"features": features, "frame": frame, "valid": valid})
        found = result.model.predict({"face": store} if by_name else store, name)
        for task, values in result.predictions[name].items():
            np.testing.assert_allclose(found[task], values, atol=1e-5)
    assert not bank.validation.valid.all()
    with pytest.raises(SpecMismatch, match="'face'"):
        result.model.predict({"audio": store}, name)


def test_a_model_and_a_result_say_what_they_are_in_a_line(result):
    assert repr(result.model) == "<TrainedModel A+AU+EXPR+Attn, seed 0: tcn, window 12, reads face (6)>"
    assert repr(result).startswith("<RunResult A+AU+EXPR+Attn, seed 0: done, score ")
    assert "boom" in repr(replace(result, status="failed", reason="boom"))


def test_wrong_inputs_are_refused(bank, result):
    features, valid = clip(bank)
    with pytest.raises(ConfigError, match=r"expects \(T, 6\)"):
        result.model.predict_arrays(features[:, :4], valid)
    with pytest.raises(ConfigError, match="one flag per frame"):
        result.model.predict_arrays(features, valid[:3])
    features = features.copy()
    features[3, 1] = np.inf
    with pytest.raises(ConfigError, match="frame 3"):
        result.model.predict_arrays(features, np.ones(len(features), bool))


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
    with pytest.raises(FormatVersionError, match="train the run again"):
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
