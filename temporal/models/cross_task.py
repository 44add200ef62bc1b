"""Cross-task attention: at every frame, the tasks look at what each of the others has found there.

Multi-head attention of Vaswani et al. (2017), one token per task instead of one per frame, and a residual.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.models.tcn import NEGATIVE_SLOPE
from temporal.settings import Training


class CrossTaskAttention(TaskAttention):
    """``h_t = h + W_o sum_s softmax_s(q_t k_s / sqrt(E)) v_s`` over the active tasks s.

    The token of a task is ``x_t = LeakyReLU(W_t h + b_t)``; ``q, k, v`` are linear in it, the same for all
    tasks, without biases, as in ``temporal.models.transformer``. Where one task is active there is nothing to
    cross, and ``h_t = h``.

    Args:
        channels: channels C of the trunk.
        tasks: names of all tasks in canonical order; any subset can be active in a call.
        heads: attention heads, of width E = C / heads.
    """

    def __init__(self, channels: int, tasks: Sequence[str], heads: int) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = channels // heads
        self.tokens = nn.ModuleDict({task: nn.Linear(channels, channels) for task in self.tasks})
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, h: Tensor, active: Tensor, attend: Tensor, heads: Heads) -> dict[str, Tensor]:
        """As every ``TaskAttention``."""
        found = self.exchange(h, active)
        crossed = attend & (active.sum() > 1)
        return {
            task: heads.one(task, h + torch.where(crossed, found[:, index], 0.0))
            for index, task in enumerate(self.tasks)
        }

    def exchange(self, h: Tensor, active: Tensor) -> Tensor:
        """Returns what is added to h (B, C, T) for every task, (B, N, C, T)."""
        layers = list(cast("Iterable[nn.Linear]", self.tokens.values()))
        weight, bias = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias"))
        tokens = F.leaky_relu(F.linear(h.transpose(1, 2), weight, bias), NEGATIVE_SLOPE)
        tokens = tokens.view(*tokens.shape[:2], len(self.tasks), -1)
        # (B, T, heads, N, E) each.
        q, k, v = self.qkv(tokens).view(*tokens.shape[:3], 3, -1, self.width).transpose(2, 4).unbind(3)
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.width)
        mixed = torch.softmax(scores.masked_fill(~active, float("-inf")), dim=-1) @ v
        crossed: Tensor = self.out(mixed.transpose(2, 3).flatten(-2))
        return crossed.permute(0, 2, 3, 1)


def cross_task(channels: int, sizes: Mapping[str, int], training: Training) -> CrossTaskAttention:
    """The attention of this module."""
    return CrossTaskAttention(channels, tuple(sizes), training.attention_heads)
