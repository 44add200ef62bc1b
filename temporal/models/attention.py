"""What multi-task attention is to the rest of the network: between the trunk and the heads, per frame.

``temporal.settings.ATTENTIONS`` lists the kinds. None looks at another frame.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from temporal.models.heads import Heads


class TaskAttention(nn.Module, ABC):
    """Base of every kind of multi-task attention.

    A kind must run under ``torch.vmap``: no branch on values. It keeps three promises, which the tests check
    for every kind that is registered. A task that is not active has no influence on the others, and its
    parameters have no gradient. Where one task is active, or ``attend`` is False, the logits are those of
    ``heads(h)``. A network built without a task has the same parameters less those of that task.
    """

    @abstractmethod
    def forward(self, h: Tensor, active: Tensor, attend: Tensor, heads: Heads) -> dict[str, Tensor]:
        """Predicts every task.

        Args:
            h: (B, C, T) float32, what the trunk found.
            active: (N,) bool, at least one True: the tasks that take part.
            attend: () bool, False switches the attention off.
            heads: of the network, of which a kind can ask what one task's head makes of its own channels.

        Returns:
            (B, T, K) logits per task; those of inactive tasks are meaningless.
        """
