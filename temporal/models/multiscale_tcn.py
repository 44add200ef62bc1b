"""Multi-scale TCN: in every convolution, branches of three kernel sizes side by side.

The layer is that of Martinez, Ma, Petridis and Pantic (2020), "Lipreading using temporal convolutional
networks": each branch makes a third of the channels, so that short events, such as a blink, and long ones
have kernels of their own.
"""

from collections.abc import Iterable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temporal.models.tcn import TCN, WeightNormConv1d, convolve
from temporal.settings import Training

STEPS = (-2, 0, 2)
"""Kernel sizes of the branches, relative to ``Training.kernel_size``: 5 gives the 3, 5 and 7 of the paper."""


class MultiScaleConv1d(nn.Module):
    """Weight-normed convolutions of several kernel sizes over the same input, joined along channels.

    They are computed as one convolution with the longest kernel, in which the short ones are padded with
    zeros: it multiplies 7 / 5 as much as a call per branch and was still measured faster.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, dilation: int, *, causal: bool
    ) -> None:
        super().__init__()
        sizes = [kernel_size + step for step in STEPS]
        shares = [channels_out // len(sizes) + (i < channels_out % len(sizes)) for i in range(len(sizes))]
        self.branches = nn.ModuleList(
            WeightNormConv1d(channels_in, share, size, dilation, causal=causal)
            for share, size in zip(shares, sizes, strict=True)
        )
        self.longest = sizes[-1]
        self.dilation = dilation
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, C_in, T)`` to ``(B, C_out, T)``."""
        weights = []
        for branch in cast("Iterable[WeightNormConv1d]", self.branches):
            weight = branch.weight()
            missing = self.longest - weight.shape[-1]
            # The taps are aligned at the frame itself: the last one if causal, else the one in the middle.
            weights.append(F.pad(weight, (missing, 0) if self.causal else (missing // 2, missing // 2)))
        bias = torch.cat([branch.bias for branch in cast("Iterable[WeightNormConv1d]", self.branches)])
        return convolve(x, torch.cat(weights), bias, self.dilation, causal=self.causal)


class MultiScaleTCN(TCN):
    """The TCN with multi-scale convolutions; ``kernel_size``, at least 3, is that of the middle branch."""

    convolution: ClassVar[type[nn.Module]] = MultiScaleConv1d

    @property
    def receptive_field(self) -> int:
        """Number of input frames that one output frame depends on, by the longest branch."""
        return 1 + 2 * (self.kernel_size + STEPS[-1] - 1) * ((1 << len(self.widths)) - 1)


def multiscale_tcn(channels_in: int, training: Training) -> MultiScaleTCN:
    """The multi-scale TCN of this module."""
    return MultiScaleTCN(
        channels_in, [training.channels] * training.levels, training.kernel_size, causal=training.causal
    )
