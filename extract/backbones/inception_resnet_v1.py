"""Inception-ResNet-v1 as FaceNet's successors train it, on VGGFace2 or CASIA; 512 features of unit length.

The checkpoint is a file of yours, its tensors named as facenet-pytorch names them; the published ones were
trained on crops of 160 pixels.

Architecture: Szegedy et al., Inception-v4, AAAI 2017, figures 10 to 13. Where the trained networks differ
from the paper (channels, scales, linear layer), and tensor names: timesler/facenet-pytorch
(models/inception_resnet_v1.py at 0286fa3).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.fitting import fit
from extract.backbones.weights_file import Weights

FEATURES = 512
EPSILON = 1e-3
"""Of batch norm, as in TensorFlow, where these networks were trained."""


def network(weights: Weights) -> "InceptionResnetV1":
    """Makes Inception-ResNet-v1; the classifier may be in the file or not.

    Raises:
        ConfigError: tensors that do not fit.
    """
    with torch.device("meta"):
        made = InceptionResnetV1()
    fit(made, weights, names="facenet-pytorch's", unused=("logits.weight", "logits.bias"))
    return made


class Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, channels: int, width: int, size: int | tuple[int, int], stride: int = 1, *, same: bool = True
    ) -> None:
        super().__init__()
        rows, columns = (size, size) if isinstance(size, int) else size
        padding = (rows // 2, columns // 2) if same else 0
        self.conv = nn.Conv2d(channels, width, (rows, columns), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the map of ``width`` channels."""
        return functional.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Branches side by side on the same map, their channels one after another."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self._names = [f"branch{index}" for index in range(len(branches))]
        for name, branch in zip(self._names, branches, strict=True):
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the concatenated channels."""
        return torch.cat([self.get_submodule(name)(x) for name in self._names], dim=1)


class Residual(Branches):
    """Branches, a 1 x 1 convolution back to the channels of the input, and their scaled sum with it."""

    def __init__(
        self, channels: int, width: int, scale: float, *branches: nn.Module, relu: bool = True
    ) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(width, channels, 1)
        self.scale = scale
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of the shape of ``x``."""
        x = cast("Tensor", self.conv2d(super().forward(x))) * self.scale + x
        return functional.relu(x) if self.relu else x


def _block35() -> Residual:
    return Residual(
        *(256, 96, 0.17),
        Convolution(256, 32, 1),
        nn.Sequential(Convolution(256, 32, 1), Convolution(32, 32, 3)),
        nn.Sequential(Convolution(256, 32, 1), Convolution(32, 32, 3), Convolution(32, 32, 3)),
    )


def _block17() -> Residual:
    factorised = (Convolution(896, 128, 1), Convolution(128, 128, (1, 7)), Convolution(128, 128, (7, 1)))
    return Residual(896, 256, 0.10, Convolution(896, 128, 1), nn.Sequential(*factorised))


def _block8(scale: float, *, relu: bool) -> Residual:
    factorised = (Convolution(1792, 192, 1), Convolution(192, 192, (1, 3)), Convolution(192, 192, (3, 1)))
    return Residual(1792, 384, scale, Convolution(1792, 192, 1), nn.Sequential(*factorised), relu=relu)


def _halving(channels: int, *widths: int) -> nn.Sequential:
    """1 x 1, then 3 x 3, the last of them halving the map."""
    *inner, last = widths
    layers: list[nn.Module] = []
    for index, width in enumerate(inner):
        layers.append(Convolution(channels, width, 3 if index else 1))
        channels = width
    return nn.Sequential(*layers, Convolution(channels, last, 3, 2, same=False))


class InceptionResnetV1(nn.Module):
    """Stem, five blocks of 35, ten of 17, six of 8 (sides of their maps at 299 pixels), average, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = Convolution(3, 32, 3, 2, same=False)
        self.conv2d_2a = Convolution(32, 32, 3, same=False)
        self.conv2d_2b = Convolution(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = Convolution(64, 80, 1)
        self.conv2d_4a = Convolution(80, 192, 3, same=False)
        self.conv2d_4b = Convolution(192, 256, 3, 2, same=False)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Branches(
            Convolution(256, 384, 3, 2, same=False), _halving(256, 192, 192, 256), nn.MaxPool2d(3, 2)
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Branches(
            _halving(896, 256, 384), _halving(896, 256, 256), _halving(896, 256, 256, 256), nn.MaxPool2d(3, 2)
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.20, relu=True) for _ in range(5)))
        self.block8 = _block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.last_linear = nn.Linear(1792, FEATURES, bias=False)
        self.last_bn = nn.BatchNorm1d(FEATURES, eps=EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, S, S) to (B, 512) of length 1."""
        x = images
        for layer in self.children():
            x = layer(x.flatten(1) if layer is self.last_linear else x)
        return functional.normalize(x)
