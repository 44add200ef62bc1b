"""Hierarchical attention: the EXPR branch sees which AUs the AU head believes to be on.

AU sees nothing of EXPR, and all other tasks see the trunk alone.

Expressions are combinations of AUs (EMFACS), and an analysis of compound expressions on RAF-CE names this
path among the remedies for a multi-task model that is worse than a single-task one. The form is that of
Hashimoto et al. (2017), "A joint many-task model": the lower task's probabilities, embedded, are an input of
the higher task, and the loss of the higher task trains the lower one too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.models.tcn import NEGATIVE_SLOPE
from temporal.settings import Training

LOWER, HIGHER = "AU", "EXPR"


class HierarchicalAttention(TaskAttention):
    """``h_EXPR = h + W_2 LeakyReLU(W_1 sigmoid(y_AU) + b_1) + b_2`` where both tasks are active.

    Without both tasks it has no parameters and changes nothing.

    Args:
        channels: channels C of the trunk.
        sizes: outputs of each task, in canonical order.
    """

    def __init__(self, channels: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(sizes)
        self.path: nn.Sequential | None = None
        if LOWER in sizes and HIGHER in sizes:
            self.path = nn.Sequential(
                nn.Linear(sizes[LOWER], channels), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(channels, channels)
            )

    def forward(self, h: Tensor, active: Tensor, attend: Tensor, heads: Heads) -> dict[str, Tensor]:
        """As every ``TaskAttention``."""
        logits: dict[str, Tensor] = heads(h, None)
        if self.path is None:
            return logits
        seen = self.path(torch.sigmoid(logits[LOWER])).transpose(1, 2)
        both = attend & active[self.tasks.index(LOWER)] & active[self.tasks.index(HIGHER)]
        return {**logits, HIGHER: heads.one(HIGHER, h + torch.where(both, seen, 0.0))}


def hierarchical(channels: int, sizes: Mapping[str, int], training: Training) -> HierarchicalAttention:
    """The attention of this module."""
    return HierarchicalAttention(channels, sizes)
