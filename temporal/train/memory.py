"""How many replicas can train together: the memory of one, and what the device has.

Not a promise: an estimate to choose a number by; when memory runs out all the same, ``temporal.train.fit``
goes on with half as many.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from temporal.data import placement
from temporal.data.placement import GIB, Wanted, free_memory
from temporal.data.windows import IMAGES_PER_WINDOW
from temporal.settings import Run, Training
from temporal.train.fused import Stack

logger = logging.getLogger(__name__)

SHARE = 0.8
"""Of the free memory that replicas may take; allocators need some room between blocks."""
CPU_REPLICAS = 32
"""On a CPU more replicas at a time save nothing."""
STATE, GRADIENTS = 5, 2
"""Float32 copies of the parameters: themselves, two moments, the best epoch and normalised weights; then the
gradient, in pieces and joined, when most activations are gone again."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one more replica takes on its device while it trains and is evaluated.

    Attributes:
        parameters: of the replica, once.
        activations: kept from a forward pass for its backward pass.
        predictions: of the whole validation split, for all tasks, while windows are averaged.
    """

    parameters: int
    activations: int
    predictions: int

    @property
    def total(self) -> int:
        """All bytes at the worst moment."""
        passing = max(self.activations, GRADIENTS * self.parameters, self.predictions)
        return STATE * self.parameters + passing


def footprint(
    runs: Sequence[Run],
    training: Training,
    dim: int,
    sizes: Mapping[str, int],
    validation_frames: int,
    static: Collection[bool] = (False,),
) -> Footprint:
    """Returns what a replica of ``runs`` takes.

    The forward pass of two replicas and of one is run on torch's ``meta`` device, which computes shapes
    alone, and what autograd keeps is counted: nothing here knows what the network is made of.

    Args:
        runs: those that will train together.
        training: what they share.
        dim: length of the vectors that the network sees.
        sizes: outputs of each task that any run trains, in canonical order.
        validation_frames: frames of the validation split.
        static: for each kind of clip that there is, whether its rows are single images.
    """
    worst = Run(
        tuple(sizes),
        attention=any(run.attention for run in runs),
        dropout=max(run.dropout for run in runs),
    )
    shapes = [
        (training.batch_size * IMAGES_PER_WINDOW, 1) if single else (training.batch_size, training.window)
        for single in static
    ]
    parameters, activations = 0, 0
    for shape in shapes:
        one, two = (
            _saved([replace(worst, seed=seed) for seed in range(n)], training, dim, sizes, shape)
            for n in (1, 2)
        )
        parameters, activations = one[0], max(activations, two[1] - one[1])
    predictions = 2 * 4 * validation_frames * sum(sizes.values())
    return Footprint(parameters, activations, predictions)


def _saved(
    runs: Sequence[Run], training: Training, dim: int, sizes: Mapping[str, int], shape: tuple[int, int]
) -> tuple[int, int]:
    """Returns the bytes of all parameters, and of what a forward pass keeps beside them and its inputs.

    The pass is over a minibatch of ``shape`` (B, T).
    """
    nowhere = torch.device("meta")
    stack = Stack(dim, sizes, runs, training, nowhere)
    features = torch.empty(*shape, dim, device=nowhere)
    mask = torch.empty(shape, device=nowhere)
    parameters = stack.parameters.detach().requires_grad_()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The tensor is held, or the address of its storage could be given to another one.
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = stack.forward(parameters, features, mask, stack.draw_dropout(shape[0]))
    for given in (parameters, features, mask):
        kept.pop(given.untyped_storage()._cdata, None)
    # The losses keep some arrays of the size of the logits: probabilities, targets, masks.
    losses = 4 * sum(tensor.nbytes for tensor in logits.values())
    return parameters.nbytes, losses + sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def features_on(device: torch.device, asked: Wanted, size: int) -> int:
    """Returns how many of ``size`` bytes of features will lie in the memory of ``device``, all or none.

    By the rules of ``placement.choose``; where the device is the CPU, its memory is host memory.
    """
    if asked == "auto":
        return size if size <= placement.SHARE * free_memory(device) else 0
    return size if asked == "device" or (asked == "host" and device.type == "cpu") else 0


def replicas_that_fit(
    runs: Sequence[Run],
    training: Training,
    dim: int,
    sizes: Mapping[str, int],
    validation_frames: int,
    device: torch.device,
    static: Collection[bool] = (False,),
    features: int = 0,
) -> int:
    """Returns how many of ``runs`` to train at a time on ``device``, at least 1, and logs why.

    Features that ``device`` holds already take nothing; ``features`` are the bytes of those that are still to
    come, as ``features_on`` tells. The other arguments are those of ``footprint``.
    """
    each = footprint(runs, training, dim, sizes, validation_frames, static).total
    free = max(0, free_memory(device) - features)
    count = max(1, int(SHARE * free) // each)
    if device.type == "cpu":
        count = min(count, CPU_REPLICAS)
    count = min(count, len(runs))
    logger.info(
        "%d replicas at a time: about %.3f GiB each, %.1f GiB free on %s",
        count,
        each / GIB,
        free / GIB,
        device,
    )
    return count
