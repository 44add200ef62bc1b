"""ResNets as torchvision defines them, with its ImageNet weights or a file of your own.

Not a trainer: weights come from torchvision's hashed download or from a local file with torchvision's names.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, get_model_builder, get_model_weights

from extract.backbones import download, weights_file
from extract.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, check_image_size
from extract.backbones.fitting import fit
from stores.errors import ConfigError

STAGES = (64, 128, 256, 512)
"""Channels of the four stages, before the expansion of their blocks (He et al. 2016, table 1)."""


def load(architecture: str, weights: str, image_size: int, *, pyramid: bool = False) -> Backbone:
    """Loads a ResNet up to its global average pool.

    Args:
        architecture: torchvision's name, such as ``resnet50``.
        weights: ``imagenet1k_v1``, or ``imagenet1k_v2`` where torchvision has it (downloaded once by torch,
            hash checked), or the path of a ``.safetensors`` or ``.pth`` file. A local file is normalised as
            ImageNet unless a card ``<file stem>.json`` beside it says otherwise (keys mean, std, trained_on,
            sha256, all optional).
        image_size: input side in pixels.
        pyramid: global averages of all four stages, one after another, instead of the last one's alone.

    Raises:
        ConfigError: unknown name, no network, a damaged file, or tensors that do not fit.
    """
    check_image_size(image_size)
    published = _published(architecture)
    if weights in published:
        file = download.read(published[weights])
        card = weights_file.Card(IMAGENET_MEAN, IMAGENET_STD, ("ImageNet-1k",))
    elif Path(weights).suffix:
        file = weights_file.read(Path(weights))
        card = weights_file.read_card(file, weights_file.Card(IMAGENET_MEAN, IMAGENET_STD))
        weights = file.path.stem
    else:
        msg = f"unknown weights {weights!r} of {architecture}: expected {', '.join(published)} or a path"
        raise ConfigError(msg)
    network = trunk(get_model_builder(architecture), file)
    widths = [channels * network.layer4[-1].expansion for channels in STAGES]
    return Backbone(
        name=f"{architecture}_pyramid" if pyramid else architecture,
        weights=weights,
        weights_sha256=file.sha256,
        weights_trained_on=card.trained_on,
        module=Pyramid(network) if pyramid else network,
        image_size=image_size,
        mean=card.mean,
        std=card.std,
        dim=sum(widths) if pyramid else widths[-1],
        traceable=True,
    )


resnet18 = partial(load, "resnet18")
resnet34 = partial(load, "resnet34")
resnet50 = partial(load, "resnet50")
resnet101 = partial(load, "resnet101")
resnet152 = partial(load, "resnet152")
resnet18_pyramid = partial(load, "resnet18", pyramid=True)
resnet34_pyramid = partial(load, "resnet34", pyramid=True)
resnet50_pyramid = partial(load, "resnet50", pyramid=True)
resnet101_pyramid = partial(load, "resnet101", pyramid=True)
resnet152_pyramid = partial(load, "resnet152", pyramid=True)


def to_download(name: str, weights: str) -> str:
    """The URL of weights that ``load`` would have to download first, else ""."""
    url = _published(name.removesuffix("_pyramid")).get(weights, "")
    return "" if not url or download.cached(url).is_file() else url


def trunk(architecture: Callable[[], ResNet], weights: weights_file.Weights) -> ResNet:
    """The network up to its global average pool, ready for inference; the file may hold the classifier too.

    Args:
        architecture: makes the torchvision network.
        weights: tensors named as torchvision names them.

    Returns:
        A module (B, 3, S, S) -> (B, D), float32.

    Raises:
        ConfigError: names or shapes differ; the message lists them.
    """
    with torch.device("meta"):
        network = architecture()
    network.fc = nn.Identity()
    fit(network, weights, names="torchvision's", unused=("fc.weight", "fc.bias"))
    return network


class Pyramid(nn.Module):
    """Global averages of the four stages of a ResNet: (B, 3, S, S) -> (B, sum of their channels).

    The levels that feature pyramid networks start from (Lin et al. 2017, C2 to C5), without the lateral
    layers, which no classifier's weights hold.
    """

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, 3840) for ResNet-50: 256 + 512 + 1024 + 2048."""
        net, pooled = self.resnet, []
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            pooled.append(net.avgpool(x).flatten(1))
        return torch.cat(pooled, dim=1)


def _published(architecture: str) -> dict[str, str]:
    """URL of each of torchvision's weights of ``architecture``, by their lower-case names."""
    return {weights.name.lower(): weights.url for weights in get_model_weights(architecture)}
