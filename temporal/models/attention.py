"""Multi-task attention: one softmax weight per active task and frame, each gating its own head.

Not cross-attention between frames: a frame's weights depend on that frame's channels alone.

Equations of the seed TCN project (Chrisa142857/ABAW2) in their 128-channel form, with each head gated by its
own column: ``a = tanh(W_a h)``; for every active task t but the first, ``a *= sigmoid(W_t h)``;
``alpha = softmax(W_o a)`` over the active tasks; ``h_t = alpha_t h``.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiTaskAttention(nn.Module):
    """Attention weights over tasks; inactive tasks have weight 0 and no influence.

    Args:
        channels: channels C of the trunk.
        tasks: names of all tasks in canonical order; any subset can be active in a call.
    """

    def __init__(self, channels: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.summary = nn.Linear(channels, channels)
        # The first task in canonical order is first whenever it is active, so it never needs a gate.
        self.gates = nn.ModuleDict({task: nn.Linear(channels, channels) for task in self.tasks[1:]})
        self.score = nn.ModuleDict({task: nn.Linear(channels, 1) for task in self.tasks})

    def forward(self, h: Tensor, active: Tensor) -> Tensor:
        """Returns alpha.

        Args:
            h: (B, C, T) float32.
            active: (N,) bool, at least one True.

        Returns:
            (B, N, T) float32; sums to 1 over active tasks, exactly 0 elsewhere, exactly 1 where one task is
            active.
        """
        hidden = _pointwise(h, [self.summary, *cast("Iterable[nn.Linear]", self.gates.values())])
        a, *gates = hidden.chunk(1 + len(self.gates), dim=1)
        a = torch.tanh(a)
        # A gate applies to every active task except the first of them.
        gated = active & (torch.cumsum(active, 0) > 1)
        for index, gate in enumerate(gates, start=1):
            a = a * torch.where(gated[index], torch.sigmoid(gate), 1.0)
        logits = _pointwise(a, list(cast("Iterable[nn.Linear]", self.score.values())))
        return torch.softmax(logits.masked_fill(~active[:, None], float("-inf")), dim=1)


def _pointwise(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Returns the outputs of linear layers on (B, C, T), stacked along channels, as one product."""
    weight = torch.cat([layer.weight for layer in layers])
    return F.conv1d(x, weight.unsqueeze(-1), torch.cat([layer.bias for layer in layers]))
