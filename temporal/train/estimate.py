"""The cost of a stack of runs, from a few real epochs on random numbers of its shapes.

Time is measured by the same ``fit`` that will train, and scaled by counts alone; memory is that of
``temporal.train.memory``.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch

from temporal.data.bank import Bank, Split, Stream
from temporal.data.placement import Wanted, dtype_of
from temporal.data.windows import Ints, Windows, batches_alike, cut, epoch_batches, epoch_order
from temporal.settings import Run, Training
from temporal.train.fit import fit
from temporal.train.memory import Footprint, Shapes, footprint
from temporal.train.stack import EVALUATION_FACTOR

BATCHES = 3
"""Batches of the longer of two measured epochs; the shorter has one."""
EPOCHS = 3
"""Epochs of a measurement; the first warms up, the fastest of the others counts."""
LR = 1e-6
"""Rate while measuring: random labels must not make a run diverge, which would leave the stack smaller."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of one stack.

    Attributes:
        windows: training windows of an epoch.
        frames: frames in them.
        steps: minibatches of an epoch.
        measured: replicas that were measured; where it is less than all, time is scaled in proportion.
        step_seconds: one training step of all replicas.
        epoch_seconds: one epoch with its validation.
        seconds: every epoch of the schedule, which early stopping can only shorten.
        memory: of the stack and the bank, by ``memory.footprint``.
    """

    windows: int
    frames: int
    steps: int
    measured: int
    step_seconds: float
    epoch_seconds: float
    seconds: float
    memory: Footprint


def estimate(
    runs: Sequence[Run],
    training: Training,
    shapes: Shapes,
    *,
    device: torch.device | str = "cpu",
    place: Wanted = "device",
    budget: float = 2.0,
) -> Estimate:
    """Measures the cost of training ``runs`` in one stack.

    An epoch is taken as ``fixed + steps x step + batches x validation``, which three short fits tell. Where
    there are static clips and others, the first steps of the first epoch stand for both.

    Args:
        runs: of the stack.
        training: what they share.
        shapes: of the data that they will train on.
        device: where they will train.
        place: where the features will be.
        budget: about how many seconds the measurement may take; where all replicas would take longer, fewer
            are measured. One replica is always measured.
    """
    memory = footprint(runs, training, shapes, device, place)
    if training.pca:
        # Reduced features train; the axes are fitted once, and to more frames than are made here.
        reduced = {s: replace(f, dim=training.pca, dtype="float32") for s, f in shapes.features.items()}
        shapes = replace(shapes, features=reduced)
        training = replace(training, pca=0, centre=False, standardise=False)
    windows = cut((0, *accumulate(shapes.train)), training.window, training.hop, shapes.static_train)
    scored = cut((0, *accumulate(shapes.validation)), training.window, training.hop, shapes.static_validation)
    # As many windows per batch, and as long ones, as in the first steps of the true first epoch.
    order = epoch_order(len(windows), training.data_seed, 1)
    pieces = epoch_batches(windows, order, training.batch_size, training.data_seed, 1)
    scored_pieces = batches_alike(
        scored, np.arange(len(scored), dtype=np.int64), training.batch_size * EVALUATION_FACTOR
    )
    steps, batches = len(pieces), len(scored_pieces)

    def epoch(members: Sequence[Run], steps: int, batches: int) -> float:
        train = _split(windows, np.concatenate(pieces[:steps]), shapes, device)
        validation = _split(scored, np.concatenate(scored_pieces[:batches]), shapes, device)
        return _epoch_seconds(train, validation, members, training, shapes)

    probe = _some(runs, min(2, len(runs)))
    fits = 1 + (steps > 1) + (batches > 1)
    each = epoch(probe, 1, 1) * EPOCHS * (1 + (fits - 1) * BATCHES) / len(probe)
    members = _some(runs, max(1, min(len(runs), int(budget / each))))
    scale = len(runs) / len(members)
    many, several = min(steps, BATCHES), min(batches, BATCHES)
    base = epoch(members, 1, 1)
    step = max(0.0, epoch(members, many, 1) - base) / (many - 1) if many > 1 else 0.0
    validation = max(0.0, epoch(members, 1, several) - base) / (several - 1) if several > 1 else 0.0
    epoch_seconds = scale * (base + (steps - 1) * step + (batches - 1) * validation)
    return Estimate(
        windows=len(windows),
        frames=int(windows.frames.sum()),
        steps=steps,
        measured=len(members),
        step_seconds=scale * step,
        epoch_seconds=epoch_seconds,
        seconds=training.epochs * epoch_seconds,
        memory=memory,
    )


def _some(runs: Sequence[Run], count: int) -> list[Run]:
    """Returns ``count`` of ``runs``, spread over all of them."""
    return [runs[i * len(runs) // count] for i in range(count)]


def _epoch_seconds(
    train: Split, validation: Split, runs: Sequence[Run], training: Training, shapes: Shapes
) -> float:
    """Returns the seconds of the fastest epoch over these splits, without the first."""
    moments: list[float] = []

    def note(step: str, total: int, completed: int) -> None:
        moments.append(time.perf_counter())

    bank = Bank(train, validation, shapes.features, shapes.labels)
    slow = [replace(run, lr=LR) for run in runs]
    fit(bank, slow, replace(training, epochs=EPOCHS, patience=0), progress=note, replicas=len(runs))
    return min(b - a for a, b in pairwise(moments))


def _split(windows: Windows, chosen: Ints, shapes: Shapes, device: torch.device | str) -> Split:
    """Returns one clip per window ``chosen``, with random features and every label known."""
    lengths = windows.frames[chosen]
    random, frames = np.random.default_rng(0), int(lengths.sum())
    streams = {}
    for name, spec in shapes.features.items():
        features = torch.from_numpy(random.standard_normal((frames, spec.dim), dtype=np.float32))
        seen = torch.ones(frames, dtype=torch.bool, device=device)
        streams[name] = Stream(features.to(device, dtype_of(spec)), seen)
    arrays: dict[str, np.ndarray] = {
        "valence": random.uniform(-1, 1, frames).astype(np.float32),
        "arousal": random.uniform(-1, 1, frames).astype(np.float32),
        "expression": random.integers(len(shapes.labels.expression_names), size=frames).astype(np.int8),
        "au": random.integers(2, size=(frames, len(shapes.labels.au_names))).astype(np.int8),
    }
    return Split(
        tuple(f"window{i}" for i in range(len(lengths))),
        (0, *accumulate(lengths.tolist())),
        streams,
        {name: torch.from_numpy(values).to(device) for name, values in arrays.items()},
        frozenset(np.flatnonzero(windows.static[chosen]).tolist()),
    )
