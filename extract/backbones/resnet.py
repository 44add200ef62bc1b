"""ResNets as torchvision defines them: up to the global average pool, or the averages of all four stages."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, get_model_builder

from extract.backbones.fitting import fit
from extract.backbones.weights_file import Weights


def plain(architecture: str, weights: Weights) -> ResNet:
    """Returns torchvision's network of that name up to its global average pool, see ``trunk``."""
    return trunk(get_model_builder(architecture), weights)


def pyramid(architecture: str, weights: Weights) -> "Pyramid":
    """Returns the network whose vector is the global averages of all four stages, one after another."""
    return Pyramid(plain(architecture, weights))


def trunk(architecture: Callable[[], ResNet], weights: Weights) -> ResNet:
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
