"""The whole temporal model: streams, fusion, trunk, optional multi-task attention, all heads."""

import hashlib
import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from stores.errors import ConfigError
from temporal.models.attention import TaskAttention
from temporal.models.fusion import Fusion
from temporal.models.heads import Heads
from temporal.models.trunk import Trunk
from temporal.registries import ATTENTIONS, FUSIONS, MODELS, made
from temporal.settings import Training
from temporal.tasks import FACE


class Network(nn.Module):
    """Features to logits.

    Args:
        projection: linear layer of each stream over the features of a frame; None where there is one stream
            that goes into the trunk as it is.
        fusion: of several streams; None for one.
        model: what the trunk is called in ``temporal.settings.MODELS``, also in the names of its parameters.
        trunk: the sequence model.
        attention: multi-task attention; or None.
        heads: of every task, in canonical order.
    """

    def __init__(
        self,
        projection: nn.ModuleDict | None,
        fusion: Fusion | None,
        model: str,
        trunk: Trunk,
        attention: TaskAttention | None,
        heads: Heads,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.fusion = fusion
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
        features: Mapping[str, Tensor],
        mask: Tensor | None = None,
        active: Tensor | None = None,
        attend: Tensor | None = None,
        dropout: Tensor | None = None,
        reads: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predicts every task for a batch of windows.

        Args:
            features: per stream, (B, T, D) float32, standardised.
            mask: (B, T) float32, 0 on the padding at the end of a window; None where nothing is padded.
            active: (N,) bool, tasks that take part in the attention; None for all.
            attend: () bool, False switches the attention off; None for on.
            dropout: (layers, B, width) channel factors for the trunk; None for no dropout.
            reads: (S,) bool, streams that are read; None for all.

        Returns:
            (B, T, K) logits per task; those of inactive tasks are meaningless.
        """
        streams = features
        if self.projection is not None:
            streams = {name: layer(features[name]) for name, layer in self.projection.items()}
        x = next(iter(streams.values()))
        if self.fusion is not None:
            if reads is None:
                reads = torch.ones(len(streams), dtype=torch.bool, device=x.device)
            x = self.fusion(streams, mask, reads)
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


def build(
    dims: Mapping[str, int], sizes: Mapping[str, int], training: Training, *, attention: bool
) -> Network:
    """Returns the network that ``training`` describes, on the CPU, not yet initialised.

    Args:
        dims: length of the vectors of each stream.
        sizes: outputs of each task, in canonical order.
        training: the architecture.
        attention: whether it has multi-task attention.

    Raises:
        ConfigError: several streams, and no projection to make them alike.
    """
    width, several = training.projection, len(dims) > 1
    if several and not width:
        msg = (
            f"the streams {', '.join(dims)} in one stack need a projection: set training.projection, for"
            " example to 128"
        )
        raise ConfigError(msg)
    trunk = MODELS[training.model].load()(width or next(iter(dims.values())), training)
    kind = ATTENTIONS[training.attention].load()
    join = made("fusion", FUSIONS, training.fusion)
    return Network(
        nn.ModuleDict({name: nn.Linear(dim, width) for name, dim in dims.items()}) if width else None,
        join(tuple(dims), width, training) if several else None,
        training.model,
        trunk,
        kind(trunk.channels, sizes, training) if attention else None,
        Heads(trunk.channels, sizes),
    )


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
        # A network of one stream starts as it did before there could be several.
        called = "projection" if name == f"projection.{FACE}" else name
        generator = torch.Generator().manual_seed(part_seed(seed, called))
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
