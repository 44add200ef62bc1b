"""The whole temporal model: optional input projection, trunk, optional multi-task attention, all heads.

Not aware of replicas or training: it is one model, a pure function of its parameters and inputs.
"""

import hashlib
import math
from typing import cast

import torch
from torch import Tensor, nn

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.models.trunk import Trunk


class Network(nn.Module):
    """Features to logits.

    Args:
        projection: linear layer over the features of each frame, before the trunk; or None.
        model: what the trunk is called in ``temporal.settings.MODELS``, also in the names of its parameters.
        trunk: the sequence model.
        attention: multi-task attention; or None.
        heads: of every task, in canonical order.
    """

    def __init__(
        self,
        projection: nn.Linear | None,
        model: str,
        trunk: Trunk,
        attention: TaskAttention | None,
        heads: Heads,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.model = model
        self.add_module(model, trunk)
        self.attention = attention
        self.heads = heads

    @property
    def trunk(self) -> Trunk:
        """The sequence model."""
        return cast("Trunk", self.get_submodule(self.model))

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
            mask: (B, T) float32, 0 on the padding at the end of a window; None where nothing is padded.
            active: (N,) bool, tasks that take part in the attention; None for all.
            attend: () bool, False switches the attention off; None for on.
            dropout: (layers, B, width) channel factors for the trunk; None for no dropout.

        Returns:
            (B, T, K) logits per task; those of inactive tasks are meaningless.
        """
        x = features if self.projection is None else self.projection(features)
        h = self.trunk(x.transpose(1, 2), mask, dropout)
        logits: dict[str, Tensor]
        if self.attention is None:
            logits = self.heads(h, None)
            return logits
        if active is None:
            active = torch.ones(len(self.heads.sizes), dtype=torch.bool, device=h.device)
        if attend is None:
            attend = torch.ones((), dtype=torch.bool, device=h.device)
        logits = self.attention(h, active, attend, self.heads)
        return logits


def part_seed(seed: int, part: str) -> int:
    """Returns a 63-bit seed that depends on the run's seed and the part's name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Initialises every named part from ``(seed, part name)``.

    A model that lacks a head, a gate or the attention therefore starts with the same remaining parameters.
    Linear layers and plain convolutions are initialised here; a part with parameters of its own has a method
    ``initialise(generator)``.

    Raises:
        TypeError: a part has parameters and no such method, so that they would not follow from the seed.
    """
    for name, part in network.named_modules():
        generator = torch.Generator().manual_seed(part_seed(seed, name))
        if isinstance(part, nn.Linear | nn.Conv1d):
            bound = 1.0 / math.sqrt(part.weight[0].numel())
            part.weight.uniform_(-bound, bound, generator=generator)
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        elif hasattr(part, "initialise"):
            part.initialise(generator)
        elif next(part.parameters(recurse=False), None) is not None:
            msg = f"{type(part).__name__} ({name}) has parameters: give it a method initialise(generator)"
            raise TypeError(msg)
