"""The memory of a stack of runs: ``bank + shared + R * replica``, from the shapes of the data alone.

Grouping, the dry run and ``temporal.train.estimate`` all use this one estimate. ``benchmarks/memory.py``
compares it with the peak of real processes. When memory runs out all the same, ``temporal.train.fit`` goes on
with half as many replicas.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stores import FeatureSpec, LabelSpec
from temporal.data import placement
from temporal.data.placement import GIB, Wanted, dtype_of, free_memory
from temporal.data.windows import IMAGES_PER_WINDOW
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.fused import Stack

logger = logging.getLogger(__name__)

SHARE = 0.8
"""Of the free memory that replicas may take; allocators need some room between blocks."""
CPU_REPLICAS = 32
"""On a CPU more replicas at a time save nothing."""
STATE, GRADIENTS = 5, 2
"""Float32 copies of the parameters: themselves, two moments, the best epoch and normalised weights; then the
gradient, in pieces and joined, when most activations are gone again."""
HEAP = 1.5
"""Memory of a process on a CPU over the bytes in use at its peak: the C library keeps freed blocks that later
ones do not fit in. Measured 1.1 to 1.7, more with small arrays (``benchmarks/memory.py``)."""
MINIBATCH = 3
"""Float32 copies of a minibatch beside the stored rows: of the one before, read, and standardised."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What an estimate must know of the data: nothing of its content.

    Attributes:
        train: frames of each training clip.
        validation: frames of each validation clip.
        features: of the feature store of each stream.
        labels: of the label store.
        static_train: numbers of the training clips whose rows are independent images.
        static_validation: likewise of the validation clips.
    """

    train: Sequence[int]
    validation: Sequence[int]
    features: Mapping[str, FeatureSpec]
    labels: LabelSpec
    static_train: frozenset[int] = frozenset()
    static_validation: frozenset[int] = frozenset()

    @property
    def frames(self) -> int:
        """Frames of both splits."""
        return sum(self.train) + sum(self.validation)

    def sizes(self, runs: Sequence[Run]) -> dict[str, int]:
        """Returns the outputs of each task that any of ``runs`` trains, in canonical order."""
        trained = {task for run in runs for task in run.tasks}
        return {name: task.size(self.labels) for name, task in TASKS.items() if name in trained}

    def dims(self, training: Training) -> dict[str, int]:
        """Returns the length of the vectors that the network sees of each stream."""
        return {name: training.pca or spec.dim for name, spec in self.features.items()}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a stack takes on its device at its worst moment: ``bank + shared + R * replica``.

    Attributes:
        bank: features and labels, and reduced features beside them if ``training.pca`` asks; once a process.
        shared: the minibatch, which all replicas read; once a stack.
        replica: optimiser, activations and predictions of one more run.
    """

    bank: int
    shared: int
    replica: int

    def of(self, replicas: int) -> int:
        """Returns the bytes of a stack of so many replicas, and of the bank."""
        return self.bank + self.shared + replicas * self.replica


def footprint(
    runs: Sequence[Run],
    training: Training,
    shapes: Shapes,
    device: torch.device | str = "cpu",
    place: Wanted = "device",
) -> Footprint:
    """Returns what a stack of ``runs`` takes, every replica counted like the largest.

    The forward pass of two replicas and of one is run on torch's ``meta`` device, which computes shapes
    alone, and what autograd keeps is counted: nothing here knows what the network is made of.

    Args:
        runs: those that will train together.
        training: what they share.
        shapes: of the data.
        device: where they will train.
        place: where the features will be.
    """
    home, sizes, dims = torch.device(device), shapes.sizes(runs), shapes.dims(training)
    worst = Run(
        tuple(sizes),
        attention=any(run.attention for run in runs),
        dropout=max(run.dropout for run in runs),
    )
    static = {number in shapes.static_train for number in range(len(shapes.train))}
    passes = [
        (training.batch_size * IMAGES_PER_WINDOW, 1) if single else (training.batch_size, training.window)
        for single in static
    ]
    parameters, activations, minibatch = 0, 0, 0
    stored = sum(
        (4 if training.pca else _itemsize(spec)) * dims[name] for name, spec in shapes.features.items()
    )
    for batch, frames in passes:
        one, two = (
            _saved([replace(worst, seed=seed) for seed in range(n)], training, dims, sizes, (batch, frames))
            for n in (1, 2)
        )
        parameters, activations = one[0], max(activations, two[1] - one[1])
        minibatch = max(minibatch, batch * frames * (stored + MINIBATCH * 4 * sum(dims.values())))
    predictions = 2 * 4 * sum(shapes.validation) * sum(sizes.values())
    replica = STATE * parameters + max(activations, GRADIENTS * parameters, predictions)
    kept = HEAP if home.type == "cpu" else 1.0
    return Footprint(bank_bytes(training, shapes, home, place), minibatch, int(kept * replica))


def bank_bytes(training: Training, shapes: Shapes, device: torch.device, place: Wanted = "device") -> int:
    """Returns the bytes of labels and features on ``device``, all features or none; see ``features_on``."""
    labels = 4 + 4 + 1 + len(shapes.labels.au_names) + len(shapes.features)  # V, A, EXPR, AUs, valid
    stored = sum(_itemsize(spec) * spec.dim for spec in shapes.features.values())
    reduced = 4 * training.pca * len(shapes.features)
    features = sum(features_on(device, place, shapes.frames * row) for row in (stored, reduced))
    return shapes.frames * labels + features


def features_on(device: torch.device, asked: Wanted, size: int) -> int:
    """Returns how many of ``size`` bytes of features will lie in the memory of ``device``, all or none.

    By the rules of ``placement.choose``; if the device is the CPU, its memory is host memory.
    """
    if asked == "auto":
        return size if size <= placement.SHARE * free_memory(device) else 0
    return size if asked == "device" or (asked == "host" and device.type == "cpu") else 0


def replicas_that_fit(
    runs: Sequence[Run], training: Training, shapes: Shapes, device: torch.device, place: Wanted
) -> int:
    """Returns how many of ``runs`` to train at a time on ``device``, at least 1, and logs why.

    The bank is still to come. The arguments are those of ``footprint``.
    """
    memory = footprint(runs, training, shapes, device, place)
    free = max(0, free_memory(device) - memory.bank)
    count = max(1, int(SHARE * free - memory.shared) // memory.replica)
    if device.type == "cpu":
        count = min(count, CPU_REPLICAS)
    count = min(count, len(runs))
    logger.info(
        "%d replicas at a time: about %.3f GiB each and %.3f GiB for all, %.1f GiB free on %s",
        count,
        memory.replica / GIB,
        memory.shared / GIB,
        free / GIB,
        device,
    )
    return count


def _itemsize(spec: FeatureSpec) -> int:
    return dtype_of(spec).itemsize


def _saved(
    runs: Sequence[Run],
    training: Training,
    dims: Mapping[str, int],
    sizes: Mapping[str, int],
    shape: tuple[int, int],
) -> tuple[int, int]:
    """Returns the bytes of all parameters, and of what a forward pass keeps beside them and its inputs.

    The pass is over a minibatch of ``shape`` (B, T).
    """
    nowhere = torch.device("meta")
    stack = Stack(dims, sizes, runs, training, nowhere)
    features = {name: torch.empty(*shape, dim, device=nowhere) for name, dim in dims.items()}
    mask = torch.empty(shape, device=nowhere)
    parameters = stack.parameters.detach().requires_grad_()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The tensor is held, or the address of its storage could be given to another one.
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = stack.forward(parameters, features, mask, stack.draw_dropout(shape[0]))
    for given in (parameters, *features.values(), mask):
        kept.pop(given.untyped_storage()._cdata, None)
    # The losses keep some arrays of the size of the logits: probabilities, targets, masks.
    losses = 4 * sum(tensor.nbytes for tensor in logits.values())
    return parameters.nbytes, losses + sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
