"""The whole temporal model: optional input projection, TCN, optional multi-task attention, all heads.

Not aware of replicas or training: it is one model, a pure function of its parameters and inputs.
"""

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from temporal.models.attention import MultiTaskAttention
from temporal.models.heads import Heads
from temporal.models.tcn import TCN, WeightNormConv1d


class Network(nn.Module):
    """Features to logits.

    Args:
        dim: feature dimension D.
        sizes: outputs of each task it has a head for, in canonical order.
        channels: TCN channels C of each level.
        levels: TCN levels.
        kernel_size: TCN taps.
        projection: channels P of a linear layer before the TCN, or 0 for none.
        causal: no frame sees a later one.
        attention: whether multi-task attention is built.
    """

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, int],
        *,
        channels: int,
        levels: int,
        kernel_size: int,
        projection: int,
        causal: bool,
        attention: bool,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, projection) if projection else None
        self.tcn = TCN(projection or dim, [channels] * levels, kernel_size, causal=causal)
        self.attention = MultiTaskAttention(channels, tuple(sizes)) if attention else None
        self.heads = Heads(channels, sizes)

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        active: Tensor | None = None,
        attend: Tensor | None = None,
        dropout: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predicts every task for a batch of windows.

        Args:
            features: (B, T, D) float32, standardised.
            mask: (B, T) float32, 0 on padding; None where nothing is padded.
            active: (N,) bool, tasks that take part in the attention; None for all.
            attend: () bool, False switches the attention off (every gate 1); None for on.
            dropout: (layers, B, C) channel factors for the TCN; None for no dropout.

        Returns:
            (B, T, K) logits per task; those of inactive tasks are meaningless.
        """
        x = features if self.projection is None else self.projection(features)
        h = self.tcn(x.transpose(1, 2), mask, dropout)
        gate = None
        if self.attention is not None:
            if active is None:
                active = torch.ones(len(self.attention.tasks), dtype=torch.bool, device=h.device)
            gate = self.attention(h, active)
            if attend is not None:
                gate = torch.where(attend, gate, 1.0)
        logits: dict[str, Tensor] = self.heads(h, gate)
        return logits


def part_seed(seed: int, part: str) -> int:
    """Returns a 63-bit seed that depends on the run's seed and the part's name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Initialises every named part from ``(seed, part name)``.

    A model that lacks a head, a gate or the attention therefore starts with the same remaining parameters.
    """
    for name, part in network.named_modules():
        generator = torch.Generator().manual_seed(part_seed(seed, name))
        if isinstance(part, WeightNormConv1d):
            part.initialise(generator)
        elif isinstance(part, nn.Linear | nn.Conv1d):
            bound = 1.0 / math.sqrt(part.weight[0].numel())
            part.weight.uniform_(-bound, bound, generator=generator)
            if part.bias is not None:
                part.bias.zero_()
