"""IR-50 and IR-SE-50, the residual networks of ArcFace, for 112-pixel faces; 512 features of unit length.

The checkpoint is a file of yours, its tensors named as InsightFace_Pytorch and face.evoLVe name them.

Improved residual units: Deng et al., ArcFace, CVPR 2019, section 3.1; squeeze-and-excitation: Hu et al., CVPR
2018. Layout and tensor names: TreB1eN/InsightFace_Pytorch (model.py at 016916f).
"""

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.backbones.fitting import fit
from extract.backbones.weights_file import Weights

FEATURES = 512
IMAGE_SIZE = 112
STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Channels and units; the first unit of each stage halves the map."""
REDUCTION = 16
"""Of the channels inside squeeze-and-excitation."""


def network(name: str, weights: Weights) -> "ImprovedResNet":
    """Makes IR-50 or IR-SE-50 of a checkpoint without its margin head.

    Raises:
        ConfigError: tensors that do not fit.
    """
    with torch.device("meta"):
        made = ImprovedResNet(squeeze=name == "ir_se50")
    fit(made, weights, names="InsightFace_Pytorch's")
    return made


ir50 = partial(network, "ir50")
ir_se50 = partial(network, "ir_se50")


class ImprovedResNet(nn.Module):
    """Stem, 24 improved residual units, and one linear layer on the last 7 x 7 map."""

    def __init__(self, *, squeeze: bool) -> None:
        super().__init__()
        channels = STAGES[0][0]
        self.input_layer = nn.Sequential(_conv(3, channels), nn.BatchNorm2d(channels), nn.PReLU(channels))
        units: list[nn.Module] = []
        for width, count in STAGES:
            units += [Unit(channels, width, 2, squeeze=squeeze)]
            units += [Unit(width, width, 1, squeeze=squeeze) for _ in range(count - 1)]
            channels = width
        self.body = nn.Sequential(*units)
        side = IMAGE_SIZE // 2 ** len(STAGES)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(channels * side * side, FEATURES),
            nn.BatchNorm1d(FEATURES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, 112, 112) to (B, 512) of length 1, the point on the hypersphere that ArcFace trains."""
        return functional.normalize(self.output_layer(self.body(self.input_layer(images))))


class Unit(nn.Module):
    """BN, convolution, PReLU, convolution with the stride, BN; nothing after the sum."""

    def __init__(self, channels: int, width: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        if channels == width:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(_conv(channels, width, 1, stride), nn.BatchNorm2d(width))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            _conv(channels, width),
            nn.PReLU(width),
            _conv(width, width, stride=stride),
            nn.BatchNorm2d(width),
        )
        if squeeze:
            self.res_layer.append(SqueezeExcitation(width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the map of ``width`` channels, its side divided by the stride."""
        return cast("Tensor", self.res_layer(x) + self.shortcut_layer(x))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate in (0, 1) made of the averages of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = _conv(channels, channels // REDUCTION, 1)
        self.fc2 = _conv(channels // REDUCTION, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x``, gated."""
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(pooled))))


def _conv(channels: int, width: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)
