"""Temporal convolutional network: dilated residual blocks, weight-normed, masked, causal or centred.

Not a training-mode module: dropout masks are drawn outside and passed in, so one call is a pure function.

The block is that of Bai, Kolter and Koltun (2018), "An empirical evaluation of generic convolutional and
recurrent networks for sequence modeling", with LeakyReLU as in the seed TCN project (Chrisa142857/ABAW2).
Weight norm is Salimans and Kingma (2016): the weight is ``magnitude * direction / |direction|``, and both are
initialised together, so that the first forward sees the intended weights.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stores.errors import ConfigError

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

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C_in, T)`` to ``(B, C_out, T)``."""
        weight = self.direction * (self.magnitude / self.direction.norm(dim=(1, 2), keepdim=True))
        span = (self.direction.shape[-1] - 1) * self.dilation
        if x.shape[-1] == 1:
            # Single images: all taps but one see padding, so span + 1 steps need not be made to keep one.
            tap = weight[..., -1 if self.causal else span // (2 * self.dilation)]
            return F.linear(x.squeeze(-1), tap, self.bias).unsqueeze(-1)
        if self.causal:
            # Padding both ends and dropping the tail costs less than a padded copy of the input.
            return F.conv1d(x, weight, self.bias, padding=span, dilation=self.dilation)[..., : x.shape[-1]]
        return F.conv1d(x, weight, self.bias, padding=span // 2, dilation=self.dilation)


class Block(nn.Module):
    """Two convolutions with LeakyReLU and channel dropout, and a skip (1x1 only where channels differ)."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, dilation: int, *, causal: bool
    ) -> None:
        super().__init__()
        self.conv1 = WeightNormConv1d(channels_in, channels_out, kernel_size, dilation, causal=causal)
        self.conv2 = WeightNormConv1d(channels_out, channels_out, kernel_size, dilation, causal=causal)
        self.skip = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Tensor, mask: Tensor | None, dropout: Tensor | None) -> Tensor:
        """Maps ``(B, C_in, T)`` to ``(B, C_out, T)``; ``mask`` (B, 1, T), ``dropout`` (2, B, C_out, 1)."""
        h = x
        for index, conv in enumerate((self.conv1, self.conv2)):
            h = F.leaky_relu(conv(h if mask is None else h * mask), NEGATIVE_SLOPE)
            if dropout is not None:
                h = h * dropout[index]
        return F.leaky_relu(h + (x if self.skip is None else self.skip(x)), NEGATIVE_SLOPE)


class TCN(nn.Module):
    """Residual dilated network, dilation ``2 ** level``.

    Args:
        channels_in: input channels.
        channels: output channels of each level.
        kernel_size: taps per convolution; odd unless ``causal``.
        causal: frame t sees frames <= t; otherwise the context is centred on t.

    Raises:
        ConfigError: an even kernel cannot be centred.
    """

    def __init__(
        self, channels_in: int, channels: Sequence[int], kernel_size: int, *, causal: bool = True
    ) -> None:
        super().__init__()
        if not causal and kernel_size % 2 == 0:
            msg = f"kernel_size {kernel_size} cannot be centred: give an odd kernel_size or causal: true"
            raise ConfigError(msg)
        self.channels = tuple(channels)
        self.kernel_size = kernel_size
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, kernel_size, 2**level, causal=causal)
            for level, (c_in, c_out) in enumerate(
                zip((channels_in, *self.channels[:-1]), self.channels, strict=True)
            )
        )

    @property
    def receptive_field(self) -> int:
        """Number of input frames that one output frame depends on."""
        levels = len(self.channels)
        return 1 + 2 * (self.kernel_size - 1) * ((1 << levels) - 1)

    @property
    def dropout_layers(self) -> int:
        """Number of places where channels are dropped."""
        return 2 * len(self.channels)

    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """Runs the network over a batch of windows.

        Args:
            x: (B, C_in, T) float32.
            mask: (B, T) float32, 0 on padding, 1 elsewhere; None where nothing is padded. It multiplies the
                input of every convolution, so that what lies in the padding never reaches a real frame.
            dropout: (layers, B, max C) float32 channel factors, 0 or 1 / (1 - p); None for no dropout.

        Returns:
            (B, C, T); values at padded frames are meaningless.
        """
        mask = None if mask is None else mask.unsqueeze(1)
        for level, block in enumerate(self.blocks):
            width = self.channels[level]
            factors = None if dropout is None else dropout[2 * level : 2 * level + 2, :, :width].unsqueeze(-1)
            x = block(x, mask, factors)
        return x
