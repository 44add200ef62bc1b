"""What a loss sees of a minibatch: labels, how much each counts, and soft labels if there are any."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stores import LabelSpec
from temporal.data.bank import Split, is_known
from temporal.registries import LOSSES, made
from temporal.settings import Training
from temporal.tasks import TASKS


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """One task of a minibatch.

    Attributes:
        logits: (B, T, K) float32 of one model.
        target: (B, T), or (B, T, K) for AUs, finite also where unknown; classes int64, the rest float32.
        known: like ``target``, float32, 0 where the label does not count; elsewhere 1, or where frames have
            weights the weight over the mean weight of all that count.
    """

    logits: Tensor
    target: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of one minibatch, per task.

    Attributes:
        values: ``TaskBatch.target`` of each task.
        known: ``TaskBatch.known`` of each task.
        share: that mean weight, a factor on the loss of the task; None where frames have no weights.
    """

    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    share: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of every task.

    Attributes:
        forms: per task; what a form needs from the training labels it took when it was made.
    """

    forms: Mapping[str, Callable[[TaskBatch], Tensor]]

    def __call__(self, logits: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Returns (N,) losses of one model for logits (B, T, K) per task, in the order of ``logits``."""
        losses = torch.stack(
            [
                self.forms[name](TaskBatch(z, targets.values[name], targets.known[name]))
                for name, z in logits.items()
            ]
        )
        if targets.share is None:
            return losses
        return losses * torch.stack([targets.share[name] for name in logits])


def objective(train: Split, labels: LabelSpec, training: Training) -> Objective:
    """Returns the losses that ``training`` asks for; ``balanced`` ones count the labels of ``train``."""
    return Objective(
        {
            name: made(f"losses.{name}", LOSSES[task.loss], training.losses[name])(train, task, labels)
            for name, task in TASKS.items()
        }
    )


def mean_over(values: Tensor, known: Tensor) -> Tensor:
    """Returns the mean of ``values``, each weighted by ``known`` of the same shape; 0 if nothing is known."""
    return (values * known).sum() / known.sum().clamp_min(1.0)


def gather_targets(split: Split, rows: Tensor, usable: Tensor, tasks: Iterable[str]) -> Targets:
    """Gathers the labels of ``tasks`` at ``rows`` (B, T); they count only where ``usable`` (B, T).

    A loss is then the sum over labels of weight times loss, over the *number* of labels: were it over the sum
    of weights, a weight would mean nothing in a minibatch in which all frames have the same. (1 - CCC, which
    is no sum over frames, has weighted moments, times the mean weight.)
    """
    values, known, share = {}, {}, {}
    for name in tasks:
        task = TASKS[name]
        y = split.labels[task.array][rows]
        has_label = is_known(y, task)
        counts = has_label & (usable.unsqueeze(-1) if y.dim() == 3 else usable)
        dtype = torch.int64 if task.loss == "categorical" else torch.float32
        values[name] = torch.where(has_label, y, 0).to(dtype)
        known[name] = counts.to(torch.float32)
        if split.weight is not None:
            weight = split.weight[rows]
            weighted = known[name] * (weight.unsqueeze(-1) if y.dim() == 3 else weight)
            share[name] = mean_over(weighted, known[name])
            known[name] = weighted / share[name].clamp_min(torch.finfo(torch.float32).tiny)
    return Targets(values, known, None if split.weight is None else share)
