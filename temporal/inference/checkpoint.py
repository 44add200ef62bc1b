"""Trained models on disk: ``model.safetensors`` and ``config.json`` in one folder, loaded strictly.

Not a pickle: nothing in a checkpoint is executed, and whatever does not fit exactly is refused.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from stores import FeatureSpec, LabelSpec, documents
from stores.commit import replace_file
from stores.documents import Json
from stores.errors import ConfigError, FacetsError, FormatVersionError, SpecMismatch, StoreError
from temporal.data.bank import Standardiser
from temporal.inference.model import TrainedModel
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.fused import build
from temporal.train.outcome import RunResult

FORMAT, VERSION = "facets-model", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
STANDARDISER = ("standardiser.mean", "standardiser.std")
COMPONENTS = "standardiser.components"


def save(result: RunResult, folder: str | Path) -> None:
    """Writes the model of a finished run; ``config.json`` comes last, so a folder with one is complete.

    Raises:
        ConfigError: the run failed, so there is no model.
    """
    model = result.model
    if model is None:
        msg = f"run {result.run.name}, seed {result.run.seed} has no model to save: {result.reason}"
        raise ConfigError(msg)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tensors = dict(model.network.state_dict())
    tensors.update(zip(STANDARDISER, (model.standardiser.mean, model.standardiser.std), strict=True))
    if model.standardiser.components is not None:
        tensors[COMPONENTS] = model.standardiser.components
    config: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "feature_spec": model.feature_spec.to_json(),
        "feature_digest": model.feature_spec.digest(),
        "label_spec": model.label_spec.to_json(),
        "run": asdict(model.run),
        "training": asdict(model.training),
        "thresholds": dict(model.thresholds),
    }
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    replace_file(path / WEIGHTS, weights)
    replace_file(path / CONFIG, documents.render(config))


def load(folder: str | Path, features: FeatureSpec | None = None) -> TrainedModel:
    """Loads a model onto the CPU.

    Args:
        folder: what ``save`` wrote.
        features: spec of the features it will be used on, checked if given.

    Raises:
        StoreError: a file is missing or damaged, or does not fit the other exactly.
        FormatVersionError: written by another version of the format.
        SpecMismatch: ``features`` is not what the model was trained on.
    """
    path = Path(folder)
    try:
        config = documents.read(path / CONFIG)
        tensors = load_tensors((path / WEIGHTS).read_bytes())
    except (OSError, SafetensorError) as error:
        msg = f"no model in {path}: {error}; expected {CONFIG} and {WEIGHTS}, which 'facets sweep' writes"
        raise StoreError(msg) from error
    if (config.get("format"), config.get("version")) != (FORMAT, VERSION):
        found = (config.get("format"), config.get("version"))
        msg = f"{path / CONFIG} is of format {found}, expected {(FORMAT, VERSION)}: you may need to update"
        raise FormatVersionError(msg)
    try:
        model = _build(config, tensors)
    except (KeyError, TypeError, RuntimeError, FacetsError) as error:
        detail = " ".join(str(error).split())
        msg = f"damaged model in {path}: {type(error).__name__}: {detail}; train the run again"
        raise StoreError(msg) from error
    if features is not None:
        model.check(features)
    return model


def _build(config: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> TrainedModel:
    feature_spec = FeatureSpec.from_json(config["feature_spec"])
    label_spec = LabelSpec.from_json(config["label_spec"])
    if feature_spec.digest() != config["feature_digest"]:
        msg = f"feature spec has digest {feature_spec.digest()}, {config['feature_digest']} is recorded"
        raise SpecMismatch(msg)
    run, training = Run(**config["run"]), Training(**config["training"])
    mean, std = (tensors.pop(name) for name in STANDARDISER)
    components = tensors.pop(COMPONENTS) if training.pca else None
    shapes = tuple(mean.shape), tuple(std.shape), None if components is None else tuple(components.shape)
    dim = feature_spec.dim
    expected = (dim,), (dim,), (dim, training.pca) if training.pca else None
    if shapes != expected:
        msg = f"standardiser has shapes {shapes}, expected {expected}"
        raise StoreError(msg)
    standardiser = Standardiser(mean, std, components)
    sizes = {task: TASKS[task].size(label_spec) for task in run.tasks}
    network = build(standardiser.dim, sizes, training, attention=run.attention)
    network.load_state_dict(tensors, strict=True)
    thresholds = {task: tuple(values) for task, values in config["thresholds"].items()}
    return TrainedModel(network, standardiser, feature_spec, label_spec, run, training, thresholds)
