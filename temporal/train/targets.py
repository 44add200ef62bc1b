"""What a loss sees of a minibatch: labels, how much each counts, and soft labels if there are any."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

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
        soft: (B, T, K) float32, a teacher's values or probabilities; None if the task has none.
        soft_weight: (B, T) float32, how much each frame's soft label counts, 0 on padding and where the run
            reads nothing.
    """

    logits: Tensor
    target: Tensor
    known: Tensor
    soft: Tensor | None = None
    soft_weight: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of one minibatch, per task.

    Attributes:
        values: ``TaskBatch.target`` of each task.
        known: ``TaskBatch.known`` of each task.
        share: that mean weight, a factor on the loss of the task; empty where frames have no weights.
        soft: ``TaskBatch.soft`` of the tasks that have soft labels.
        soft_weight: ``TaskBatch.soft_weight`` of the same tasks.

    Where replicas read different streams, what they may use differs: ``known``, ``share`` and ``soft_weight``
    then have an axis of replicas before all others.
    """

    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    share: Mapping[str, Tensor] = field(default_factory=dict)
    soft: Mapping[str, Tensor] = field(default_factory=dict)
    soft_weight: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def per_replica(self) -> bool:
        """Whether replicas have masks of their own."""
        return any(self.known[name].dim() > values.dim() for name, values in self.values.items())


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
                self.forms[name](
                    TaskBatch(
                        z,
                        targets.values[name],
                        targets.known[name],
                        targets.soft.get(name),
                        targets.soft_weight.get(name),
                    )
                )
                for name, z in logits.items()
            ]
        )
        if not targets.share:
            return losses
        return losses * torch.stack([targets.share[name] for name in logits])

    def of_stack(self, logits: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Returns (R, N) losses of R models for logits (R, B, T, K) per task."""

        def one(z: dict[str, Tensor], own: tuple[dict[str, Tensor], ...]) -> Tensor:
            known, share, soft_weight = own
            return self(z, replace(targets, known=known, share=share, soft_weight=soft_weight))

        own = (dict(targets.known), dict(targets.share), dict(targets.soft_weight))
        losses: Tensor = torch.vmap(one, in_dims=(0, 0 if targets.per_replica else None))(dict(logits), own)
        return losses


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
    """Gathers the labels of ``tasks`` at ``rows`` (B, T); they count only where ``usable``.

    A loss is then the sum over labels of weight times loss, over the *number* of labels: were it over the sum
    of weights, a weight would mean nothing in a minibatch in which all frames have the same. (1 - CCC, which
    is no sum over frames, has weighted moments, times the mean weight.)

    Args:
        split: whose labels.
        rows: (B, T) int64.
        usable: (B, T) bool, or (R, B, T) where replicas differ.
        tasks: names.
    """
    values, known, share, soft, soft_weight = {}, {}, {}, {}, {}
    weight = None if split.weight is None else split.weight[rows]
    for name in tasks:
        task = TASKS[name]
        y = split.labels[task.array][rows]
        cells = y.dim() - rows.dim()
        has_label = is_known(y, task)
        counts = has_label & (usable.unsqueeze(-1) if cells else usable)
        dtype = torch.int64 if task.loss == "categorical" else torch.float32
        values[name] = torch.where(has_label, y, 0).to(dtype)
        known[name] = counts.to(torch.float32)
        if weight is not None:
            weighted = known[name] * (weight.unsqueeze(-1) if cells else weight)
            own = tuple(range(usable.dim() - rows.dim(), weighted.dim()))  # all axes but that of replicas
            total = known[name].sum(own).clamp_min(1.0)
            share[name] = (weighted * known[name]).sum(own) / total
            scale = share[name].clamp_min(torch.finfo(torch.float32).tiny)
            known[name] = weighted / scale.reshape(*scale.shape, *[1] * len(own))
        if name in split.soft:
            soft[name] = split.soft[name].values[rows].float()
            soft_weight[name] = split.soft[name].weight[rows] * usable
    return Targets(values, known, share, soft, soft_weight)
