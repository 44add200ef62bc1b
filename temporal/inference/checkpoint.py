"""Trained models on disk: ``model.safetensors`` and ``config.json`` in one folder, loaded strictly.

Nothing in a checkpoint is executed, and whatever does not fit exactly is refused.
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
from temporal.data.scaling import Standardiser
from temporal.inference.model import TrainedModel
from temporal.models.network import build
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.outcome import RunResult

FORMAT, VERSION = "facets-model", 2
CONFIG, WEIGHTS = "config.json", "model.safetensors"
STANDARDISER = ("mean", "std")


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
    for name, standardiser in model.standardisers.items():
        for part in (*STANDARDISER, "components"):
            if (tensor := getattr(standardiser, part)) is not None:
                tensors[f"standardiser.{name}.{part}"] = tensor
    config: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "streams": {
            name: {"feature_spec": spec.to_json(), "feature_digest": spec.digest()}
            for name, spec in model.feature_specs.items()
        },
        "label_spec": model.label_spec.to_json(),
        "run": asdict(model.run),
        "training": asdict(model.training),
        "thresholds": dict(model.thresholds),
    }
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    replace_file(path / WEIGHTS, weights)
    replace_file(path / CONFIG, documents.render(config))


def load(folder: str | Path, features: FeatureSpec | Mapping[str, FeatureSpec] | None = None) -> TrainedModel:
    """Loads a model onto the CPU.

    Args:
        folder: what ``save`` wrote.
        features: spec of the features it will be used on, of each stream or of the only one, if known.

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
        msg = f"{path / CONFIG} is of format {found}, expected {(FORMAT, VERSION)}: train the run again"
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
    label_spec = LabelSpec.from_json(config["label_spec"])
    run, training = Run(**config["run"]), Training(**config["training"])
    specs, standardisers = {}, {}
    for name, stream in config["streams"].items():
        specs[name] = spec = FeatureSpec.from_json(stream["feature_spec"])
        if spec.digest() != stream["feature_digest"]:
            msg = f"feature spec has digest {spec.digest()}, {stream['feature_digest']} is recorded"
            raise SpecMismatch(msg)
        mean, std = (tensors.pop(f"standardiser.{name}.{part}") for part in STANDARDISER)
        components = tensors.pop(f"standardiser.{name}.components") if training.pca else None
        shapes = tuple(mean.shape), tuple(std.shape), None if components is None else tuple(components.shape)
        expected = (spec.dim,), (spec.dim,), (spec.dim, training.pca) if training.pca else None
        if shapes != expected:
            msg = f"standardiser has shapes {shapes}, expected {expected}"
            raise StoreError(msg)
        standardisers[name] = Standardiser(mean, std, components)
    sizes = {task: TASKS[task].size(label_spec) for task in run.tasks}
    dims = {name: standardiser.dim for name, standardiser in standardisers.items()}
    network = build(dims, sizes, training, attention=run.attention)
    network.load_state_dict(tensors, strict=True)
    thresholds = {task: tuple(values) for task, values in config["thresholds"].items()}
    return TrainedModel(network, standardisers, specs, label_spec, run, training, thresholds)
