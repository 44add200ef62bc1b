"""Prediction of clips by a finished run: kept predictions, its model, and files that do not fit."""

import numpy as np
import pytest
from store_specs import feature_arrays, feature_spec, label_arrays, label_spec
from submission_runs import DIM, make_features, make_run, random_predictions

import stores
from pipeline.prediction.finished import open_run, predictor
from stores.editions import edition
from stores.errors import ConfigError, SpecMismatch, StoreError


@pytest.fixture
def predict(tmp_path):
    """Predicts a clip of nine frames by a run whose kept predictions of V a function may change."""

    def predict(change, frames=9):
        predictions = random_predictions(edition("abaw6"), "V", {"clip": [True] * 9})
        change(predictions["clip"]["V"])
        make_run(tmp_path, "run", edition("abaw6"), predictions)
        features = make_features(tmp_path / "features", {"clip": [True] * frames})
        return predictor(open_run(tmp_path, "run"), features, "cpu")("clip")["V"], predictions["clip"]["V"]

    return predict


def test_kept_predictions_are_read_as_they_are(predict):
    assert np.array_equal(*predict(lambda values: None))


def test_predictions_that_are_no_numbers_are_refused_with_clip_and_frame(predict):
    with pytest.raises(StoreError, match="V of clip clip, frame 4"):
        predict(lambda values: values.__setitem__(4, np.nan))


def test_predictions_of_other_features_are_refused(predict):
    with pytest.raises(StoreError, match=r"9 predictions of V.*face 8 frames"):
        predict(lambda values: None, frames=8)


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished run 123"):
        open_run(tmp_path, "123")


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", b"{}"), ("config.json", b"{"), ("predictions.h5", b"no HDF5")],
    ids=["empty config", "cut config", "predictions"],
)
def test_a_damaged_file_of_a_run_is_named_with_what_to_do(tmp_path, predict, file, content):
    predict(lambda values: None)
    (tmp_path / "run" / file).write_bytes(content)
    with pytest.raises(StoreError, match=file):
        predictor(open_run(tmp_path, "run"), {"face": stores.open(tmp_path / "features")}, "cpu")


def test_other_clips_are_predicted_by_the_model_and_scored_ones_read_from_the_run(trained_run):
    folder, features, result = trained_run
    run = open_run(folder / "runs", "0123456789ab")
    assert (run.tasks, run.thresholds) == (("V", "A", "AU", "EXPR"), (0.5,) * 12)
    predicted = predictor(run, {"face": features}, "cpu")
    straight = result.model.predict_arrays(features.read("c"), features.read("c", "valid"))
    for task in run.tasks:
        assert np.array_equal(predicted("b")[task], result.predictions["b"][task])
        assert np.array_equal(predicted("c")[task], straight[task])


def test_shards_of_independent_images_are_predicted_image_by_image(trained_run, tmp_path):
    folder, features, result = trained_run
    run = open_run(folder / "runs", "0123456789ab")
    labels = stores.create(tmp_path / "labels", label_spec())
    attrs = {"split": "test", "fps": 1.0, "subject": "", "corpus": "expw", "static": True}
    labels.write("c", label_arrays(20, label_spec()), attrs)
    predicted = predictor(run, {"face": features}, "cpu", labels)("c")["V"]
    rows, valid = features.read("c"), features.read("c", "valid")
    alone = [result.model.predict_arrays(rows[i : i + 1], valid[i : i + 1])["V"][0] for i in range(20)]
    np.testing.assert_allclose(predicted, alone, atol=1e-6)
    assert np.abs(predicted - predictor(run, {"face": features}, "cpu")("c")["V"]).max() > 1e-3


def test_a_model_of_other_features_is_refused(trained_run, tmp_path):
    spec = feature_spec(DIM + 1, "float32")
    other = stores.create(tmp_path / "other", spec)
    other.write("c", feature_arrays(20, spec))
    run = open_run(trained_run[0] / "runs", "0123456789ab")
    with pytest.raises(SpecMismatch, match="dim: model 4, features 5"):
        predictor(run, {"face": other}, "cpu")("c")
