"""Linear heads, one per task, on a shared trunk that may be gated per task."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """``y_t = W_t (gate_t h) + b_t`` for every task t.

    The gate is one scalar per frame, so it is applied after the product with ``W_t``: the same numbers, and
    one matrix product for all heads together.

    Args:
        channels: channels C of the trunk.
        sizes: outputs of each task, in canonical order.
    """

    def __init__(self, channels: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.linear = nn.ModuleDict({task: nn.Linear(channels, size) for task, size in self.sizes.items()})

    def forward(self, h: Tensor, gate: Tensor | None) -> dict[str, Tensor]:
        """Maps ``h`` (B, C, T) and ``gate`` (B, N, T), or None for no gate, to logits (B, T, K) per task."""
        layers = list(cast("Iterable[nn.Linear]", self.linear.values()))
        weight = torch.cat([layer.weight for layer in layers])
        outputs = torch.split(F.conv1d(h, weight.unsqueeze(-1)), list(self.sizes.values()), dim=1)
        logits = {}
        for index, (task, output) in enumerate(zip(self.sizes, outputs, strict=True)):
            gated = output if gate is None else output * gate[:, index : index + 1]
            logits[task] = gated.transpose(1, 2) + layers[index].bias
        return logits

    def one(self, task: str, h: Tensor) -> Tensor:
        """Maps the channels that one task sees, ``h`` (B, C, T), to its logits (B, T, K)."""
        logits: Tensor = self.linear[task](h.transpose(1, 2))
        return logits
