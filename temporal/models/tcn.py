"""Temporal convolutional network: dilated residual blocks, weight-normed, masked, causal or centred.

The block is that of Bai, Kolter and Koltun (2018), "An empirical evaluation of generic convolutional and
recurrent networks for sequence modeling", with LeakyReLU as in the seed TCN project (Chrisa142857/ABAW2).
Weight norm is Salimans and Kingma (2016): the weight is ``magnitude * direction / |direction|``, and both are
initialised together, so that the first forward sees the intended weights.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stores.errors import ConfigError
from temporal.models.trunk import Trunk
from temporal.settings import Training

NEGATIVE_SLOPE = 0.01


class WeightNormConv1d(nn.Module):
    """Dilated 1-d convolution over ``(B, C, T)`` that keeps T and never looks ahead if ``causal``.

    A plain ``conv1d`` on purpose: mapped over replicas it becomes one grouped convolution, which was measured
    faster on a CPU than shifted matrix products, im2col and hand-written accumulation.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, dilation: int, *, causal: bool
    ) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(channels_out, channels_in, kernel_size))
        self.magnitude = nn.Parameter(torch.empty(channels_out, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels_out))
        self.dilation = dilation
        self.causal = causal
        self.initialise(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draws He-normal weights; ``magnitude`` starts as the norm of ``direction``."""
        fan_in = self.direction[0].numel()
        self.direction.normal_(
            0.0, math.sqrt(2.0 / ((1.0 + NEGATIVE_SLOPE**2) * fan_in)), generator=generator
        )
        self.magnitude.copy_(self.direction.norm(dim=(1, 2), keepdim=True))
        self.bias.zero_()

    def weight(self) -> Tensor:
        """Returns (C_out, C_in, K); the last tap of a causal convolution is the frame itself."""
        weight: Tensor = self.direction * (self.magnitude / self.direction.norm(dim=(1, 2), keepdim=True))
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C_in, T)`` to ``(B, C_out, T)``."""
        return convolve(x, self.weight(), self.bias, self.dilation, causal=self.causal)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, dilation: int, *, causal: bool) -> Tensor:
    """Returns the dilated convolution of x (B, C_in, T), as long as x: past taps alone, or centred ones."""
    if x.shape[-1] == 1:
        # Single images: all taps but one see padding, so that a product with that one is all there is to do.
        tap = weight[..., -1 if causal else weight.shape[-1] // 2]
        return F.linear(x.squeeze(-1), tap, bias).unsqueeze(-1)
    span = (weight.shape[-1] - 1) * dilation
    if causal:
        # Padding both ends and dropping the tail costs less than a padded copy of the input.
        return F.conv1d(x, weight, bias, padding=span, dilation=dilation)[..., : x.shape[-1]]
    return F.conv1d(x, weight, bias, padding=span // 2, dilation=dilation)


class Block(nn.Module):
    """Two convolutions with LeakyReLU and channel dropout, and a skip (1x1 only where channels differ)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        dilation: int,
        *,
        causal: bool,
        convolution: type[nn.Module],
    ) -> None:
        super().__init__()
        self.conv1 = convolution(channels_in, channels_out, kernel_size, dilation, causal=causal)
        self.conv2 = convolution(channels_out, channels_out, kernel_size, dilation, causal=causal)
        self.skip = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Tensor, mask: Tensor | None, dropout: Tensor | None) -> Tensor:
        """Maps ``(B, C_in, T)`` to ``(B, C_out, T)``; ``mask`` (B, 1, T), ``dropout`` (2, B, C_out, 1)."""
        h = x
        for index, conv in enumerate((self.conv1, self.conv2)):
            h = F.leaky_relu(conv(h if mask is None else h * mask), NEGATIVE_SLOPE)
            if dropout is not None:
                h = h * dropout[index]
        return F.leaky_relu(h + (x if self.skip is None else self.skip(x)), NEGATIVE_SLOPE)


class TCN(Trunk):
    """Residual dilated network, dilation ``2 ** level``.

    Args:
        channels_in: input channels.
        channels: output channels of each level.
        kernel_size: taps per convolution; odd unless ``causal``.
        causal: frame t sees frames <= t; otherwise the context is centred on t.

    Raises:
        ConfigError: an even kernel cannot be centred.
    """

    convolution: ClassVar[type[nn.Module]] = WeightNormConv1d

    def __init__(
        self, channels_in: int, channels: Sequence[int], kernel_size: int, *, causal: bool = True
    ) -> None:
        super().__init__(channels[-1], (2 * len(channels), max(channels)))
        if not causal and kernel_size % 2 == 0:
            msg = f"kernel_size {kernel_size} cannot be centred: give an odd kernel_size or causal: true"
            raise ConfigError(msg)
        self.widths = tuple(channels)
        self.kernel_size = kernel_size
        self.causal = causal
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, kernel_size, 2**level, causal=causal, convolution=self.convolution)
            for level, (c_in, c_out) in enumerate(
                zip((channels_in, *self.widths[:-1]), self.widths, strict=True)
            )
        )

    @property
    def receptive_field(self) -> int:
        """Number of input frames that one output frame depends on."""
        return 1 + 2 * (self.kernel_size - 1) * ((1 << len(self.widths)) - 1)

    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """As every ``Trunk``; the mask multiplies the input of every convolution, unless causal."""
        # Padding comes after the real frames of a window, where a causal network never looks.
        mask = None if mask is None or self.causal else mask.unsqueeze(1)
        for level, block in enumerate(self.blocks):
            width = self.widths[level]
            factors = None if dropout is None else dropout[2 * level : 2 * level + 2, :, :width].unsqueeze(-1)
            x = block(x, mask, factors)
        return x


def tcn(channels_in: int, training: Training) -> TCN:
    """The residual TCN of this module."""
    return TCN(
        channels_in, [training.channels] * training.levels, training.kernel_size, causal=training.causal
    )


def mlp(channels_in: int, training: Training) -> TCN:
    """Per-frame baseline: the TCN with one tap, which is all of it but the time."""
    return TCN(channels_in, [training.channels] * training.levels, 1, causal=training.causal)
