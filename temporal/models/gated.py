"""Gated multi-task attention: a softmax over the active tasks gates the channels that each head sees.

Equations of the seed TCN project (Chrisa142857/ABAW2) in their 128-channel form, with each head gated by its
own column: ``a = tanh(W_a h)``; for every active task t but the first, ``a *= sigmoid(W_t h)``;
``alpha = softmax(W_o a)`` over the active tasks; ``h_t = alpha_t h``. The scalar kind is theirs, one weight
per task and frame; the vector kind has one per task, frame and channel, so that tasks share out the channels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.settings import Training


class GatedAttention(TaskAttention):
    """Attention weights over tasks; inactive tasks have weight 0 and no influence.

    Args:
        channels: channels C of the trunk.
        tasks: names of all tasks in canonical order; any subset can be active in a call.
        width: weights per task and frame: 1, or C for one per channel.
    """

    def __init__(self, channels: int, tasks: Sequence[str], width: int) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = width
        self.summary = nn.Linear(channels, channels)
        # The first task in canonical order is first whenever it is active, so it never needs a gate.
        self.gates = nn.ModuleDict({task: nn.Linear(channels, channels) for task in self.tasks[1:]})
        self.score = nn.ModuleDict({task: nn.Linear(channels, width) for task in self.tasks})

    def weights(self, h: Tensor, active: Tensor) -> Tensor:
        """Returns alpha.

        Args:
            h: (B, C, T) float32.
            active: (N,) bool, at least one True.

        Returns:
            (B, N, width, T) float32; sums to 1 over active tasks, exactly 0 elsewhere, exactly 1 where one
            task is active.
        """
        hidden = _pointwise(h, [self.summary, *cast("Iterable[nn.Linear]", self.gates.values())])
        a, *gates = hidden.chunk(1 + len(self.gates), dim=1)
        a = torch.tanh(a)
        # A gate applies to every active task except the first of them.
        gated = active & (torch.cumsum(active, 0) > 1)
        for index, gate in enumerate(gates, start=1):
            a = a * torch.where(gated[index], torch.sigmoid(gate), 1.0)
        logits = _pointwise(a, list(cast("Iterable[nn.Linear]", self.score.values())))
        logits = logits.view(len(h), len(self.tasks), self.width, -1)
        return torch.softmax(logits.masked_fill(~active[:, None, None], float("-inf")), dim=1)

    def forward(self, h: Tensor, active: Tensor, attend: Tensor, heads: Heads) -> dict[str, Tensor]:
        """As every ``TaskAttention``."""
        alpha = torch.where(attend, self.weights(h, active), 1.0)
        if self.width == 1:
            logits: dict[str, Tensor] = heads(h, alpha.squeeze(2))
            return logits
        return {task: heads.one(task, h * alpha[:, index]) for index, task in enumerate(self.tasks)}


def _pointwise(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Returns the outputs of linear layers on (B, C, T), stacked along channels, as one product."""
    weight = torch.cat([layer.weight for layer in layers])
    return F.conv1d(x, weight.unsqueeze(-1), torch.cat([layer.bias for layer in layers]))


def scalar(channels: int, sizes: Mapping[str, int], training: Training) -> GatedAttention:
    """One weight per task and frame."""
    return GatedAttention(channels, tuple(sizes), 1)


def vector(channels: int, sizes: Mapping[str, int], training: Training) -> GatedAttention:
    """One weight per task, frame and channel."""
    return GatedAttention(channels, tuple(sizes), channels)
