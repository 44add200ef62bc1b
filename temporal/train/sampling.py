"""Samplers: which windows an epoch reads, and in which order.

What makes one is a function ``(windows, train, tasks, labels, **parameters)`` that a line of
``temporal.registries.SAMPLERS`` names.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from stores import LabelSpec
from temporal.data.bank import Split
from temporal.data.windows import Ints, Windows, epoch_order

Order: TypeAlias = Callable[[int, int], Ints]
"""A pure function of ``data_seed`` and the epoch (from 1): numbers of windows, each any number of times."""


def shuffled(windows: Windows, train: Split, tasks: Sequence[str], labels: LabelSpec) -> Order:
    """Every window once, in random order."""
    return lambda data_seed, epoch: epoch_order(len(windows), data_seed, epoch)
