"""Any image model of timm, with its own preprocessing: ``timm:vit_base_patch16_224.augreg_in21k``.

timm is the extra ``timm``.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from extract.backbones import weights_file
from extract.backbones.backbone import LIBRARIES, Backbone
from extract.backbones.card import Card, digest_of, read_card
from extract.backbones.training_data import UNKNOWN
from stores.errors import ConfigError

FILE = "model.safetensors"
"""What timm's own repositories on the hub call their weights."""

INTERPOLATIONS = {"bilinear": "bilinear-antialias", "bicubic": "bicubic-antialias"}

DATASETS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "datacomp1b": "DataComp-1B",
    "datacompxl": "DataComp-XL",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "ig1b": "Instagram-1B",
    "jft": "JFT-300M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "metaclip": "MetaCLIP",
    "openai": "OpenAI-WIT",
    "webli": "WebLI",
    "yfcc100m": "YFCC-100M",
}
"""The words of timm's tags that name training data; the other words name recipes."""


def load(model: str, weights: str, image_size: int) -> Backbone:
    """Loads a model without its classifier.

    Args:
        model: as timm calls it, ``architecture`` or ``architecture.tag``; without a tag, timm's default one.
        weights: ``pretrained`` (downloaded once by huggingface_hub), or the path of a ``.safetensors`` or
            ``.pth`` file in timm's names, with or without the classifier. Mean and std are those of the
            model's configuration unless a card beside a local file says otherwise.
        image_size: input side in pixels; crops are resized to it whole, without timm's centre crop, for faces
            fill them. Vision transformers made for one size take others if timm can interpolate their
            position embeddings.

    Raises:
        ConfigError: timm is not installed, unknown model or tag, a size that the model does not take, weights
            that cannot be had, or tensors that do not fit.
    """
    timm = _timm()
    config = _config(timm, model)
    if config.interpolation not in INTERPOLATIONS:
        expected = " or ".join(INTERPOLATIONS)
        msg = f"timm:{model} resizes images by {config.interpolation}: expected {expected}; use another tag"
        raise ConfigError(msg)
    published = weights == "pretrained"
    if published:
        path = _download(model, config)
    elif Path(weights).suffix:
        path = Path(weights)
    else:
        msg = f"unknown weights {weights!r} of timm:{model}: expected pretrained or a path"
        raise ConfigError(msg)
    sha256 = digest_of(path)
    card = Card(tuple(config.mean), tuple(config.std), trained_on(config.tag or ""))
    if not published:
        card = read_card(path, sha256, Card(card.mean, card.std))
    file = weights_file.read(path)
    classes = config.num_classes if published else _classes(config, file)
    network = _network(timm, model, config, file, classes, image_size)
    return Backbone(
        name=f"timm:{config.architecture}.{config.tag}" if config.tag else f"timm:{config.architecture}",
        weights=weights if published else path.stem,
        weights_sha256=sha256,
        weights_trained_on=card.trained_on,
        module=network,
        image_size=image_size,
        mean=card.mean,
        std=card.std,
        dim=_dim(network, model, config, image_size),
        interpolation=INTERPOLATIONS[config.interpolation],
        libraries=(*LIBRARIES, "timm"),
    )


def trained_on(tag: str) -> tuple[str, ...]:
    """The training data that a tag of timm names, such as ``augreg_in21k_ft_in1k``.

    Each stage of the training, separated by ``ft``, is looked at: one that names none counts as ``unknown``.
    """
    found: list[str] = []
    for stage in tag.split("_ft_"):
        found += [DATASETS[word] for word in stage.split("_") if word in DATASETS] or [UNKNOWN]
    return tuple(dict.fromkeys(found))


def to_download(model: str, weights: str) -> str:
    """The URL of weights that ``load`` would have to download first, else ""."""
    config = _config(_timm(), model)
    if weights != "pretrained" or not config.hf_hub_id:
        return ""
    hub = importlib.import_module("huggingface_hub")
    there = isinstance(hub.try_to_load_from_cache(config.hf_hub_id, FILE), str)
    return "" if there else str(hub.hf_hub_url(config.hf_hub_id, FILE))


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        msg = f"backbones timm:... need timm, which is not installed ({error}): uv sync --extra timm"
        raise ConfigError(msg) from error


def _config(timm: Any, model: str) -> Any:
    """The configuration of the weights of ``model``: where they are and how images are prepared."""
    try:
        return timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        architecture = model.partition(".")[0]
        near = timm.list_models(f"{architecture}*", pretrained=True) or timm.list_models(
            f"*{architecture.partition('_')[0]}*", pretrained=True
        )
        msg = f"unknown backbone timm:{model} ({error}): expected one of timm.list_pretrained()"
        if near:
            msg += f", such as {weights_file.some(near)}"
        raise ConfigError(msg) from error


def _download(model: str, config: Any) -> Path:
    hub = importlib.import_module("huggingface_hub")
    if not config.hf_hub_id:
        msg = f"timm:{model}: no published weights on the hub: set weights to the path of a file"
        raise ConfigError(msg)
    try:
        return Path(hub.hf_hub_download(config.hf_hub_id, FILE))
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        msg = (
            f"cannot download {hub.hf_hub_url(config.hf_hub_id, FILE)} ({reason}): without network, get that "
            "file elsewhere and set weights to its path"
        )
        raise ConfigError(msg) from error


def _classes(config: Any, file: weights_file.Weights) -> int:
    """How many classes the classifier in a file tells apart; 0 where it has none."""
    names = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
    rows = [len(file.tensors[f"{name}.weight"]) for name in names if f"{name}.weight" in file.tensors]
    return rows[0] if rows else 0


def _network(
    timm: Any, model: str, config: Any, file: weights_file.Weights, classes: int, image_size: int
) -> nn.Module:
    """The model with the tensors of ``file``, which timm converts from older layouts and other sizes."""
    size = {"img_size": image_size} if config.fixed_input_size else {}
    # With as many classes as the file has, timm loads strictly; otherwise it passes over what is missing.
    overlay = {"state_dict": file.tensors, "num_classes": classes, "label_offset": 0}
    try:
        network: nn.Module = timm.create_model(
            model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **size
        )
    except (RuntimeError, ValueError, AssertionError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())[:400]
        native = config.input_size[-1]
        msg = (
            f"{file.path} does not fit timm:{model} at {image_size} pixels ({reason}); expected timm's own "
            f"names; this model was made for {native} pixels: see image_size"
        )
        raise ConfigError(msg) from error
    for name in ("pretrained_cfg", "default_cfg"):
        setattr(network, name, {})  # it would keep a second copy of the tensors
    if classes:
        network.reset_classifier(0)  # type: ignore[operator]
    return network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


@torch.inference_mode()
def _dim(network: nn.Module, model: str, config: Any, image_size: int) -> int:
    """Length of the features, by trying: what a model says of itself is not always what comes out."""
    try:
        shape = network(torch.zeros(1, 3, image_size, image_size)).shape
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        native = config.input_size[-1]
        msg = f"timm:{model} does not take crops of {image_size} pixels ({reason}): use {native}"
        raise ConfigError(msg) from error
    if len(shape) != 2:
        msg = f"timm:{model} gives {tuple(shape)}: expected one vector per crop; use a model with a pool"
        raise ConfigError(msg)
    return int(shape[1])
