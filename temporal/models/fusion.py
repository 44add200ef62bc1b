"""Fusion: how the streams that a run reads become one sequence, frame by frame."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from temporal.settings import Training


class Fusion(nn.Module, ABC):
    """Base of every kind of fusion.

    A kind must run under ``torch.vmap``: no branch on values. Every stream comes through a linear layer of
    its own, so that all have as many channels. A kind keeps two promises, which the tests check for every
    kind that is registered. A stream that is not read has no influence, and what belongs to it has no
    gradient. Where one stream is read, the result is that stream.
    """

    @abstractmethod
    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None, reads: Tensor) -> Tensor:
        """Joins the streams.

        Args:
            streams: per stream, (B, T, P) float32; zeros for those that are not read.
            mask: (B, T) float32, 0 on padding; None where nothing is padded.
            reads: (S,) bool, at least one True: the streams that are read, in the order of ``streams``.

        Returns:
            (B, T, P).
        """


class Concat(Fusion):
    """The sum of the streams: their linear layers together are one linear map of the streams side by side."""

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None, reads: Tensor) -> Tensor:
        """As every ``Fusion``."""
        total, *others = streams.values()
        for other in others:
            total = torch.add(total, other)
        return total


def concat(names: tuple[str, ...], channels: int, training: Training) -> Concat:
    """A linear map of the streams side by side."""
    return Concat()
