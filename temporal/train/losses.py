"""Masked losses of one model: 1 - CCC, AU cross-entropy or focal, EXPR cross-entropy.

Not reduced over tasks or replicas: each returns one number, 0 with zero gradient where nothing is known, so
that a sum over tasks and replicas leaves every term as if it were alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stores import LabelSpec
from temporal.data.bank import Split, is_known
from temporal.settings import LOSSES, Training, registered
from temporal.tasks import TASKS, TaskSpec

EPSILON = 1e-8


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return (values * known).sum() / known.sum().clamp_min(1.0)


def ccc_loss(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Returns 1 - CCC, pooled over the known frames of the minibatch, with population moments.

    ``CCC = 2 cov / (var + var + (mean - mean)^2)`` (Lin 1989). Constants give 1 with a finite gradient.

    Args:
        prediction: (B, T) float32.
        target: (B, T) float32, finite also where unknown.
        known: (B, T) float32, how much the label counts, 0 where unknown.
    """
    mean_p, mean_t = _mean(prediction, known), _mean(target, known)
    counted = (known > 0).to(known.dtype)
    p, t = (prediction - mean_p) * counted, (target - mean_t) * counted
    covariance, spread = _mean(p * t, known), _mean(p * p, known) + _mean(t * t, known)
    ccc = 2.0 * covariance / (spread + (mean_p - mean_t).square() + EPSILON)
    return torch.where(known.sum() > 0, 1.0 - ccc, 0.0)


def binary_loss(logits: Tensor, target: Tensor, known: Tensor, pos_weight: Tensor) -> Tensor:
    """Returns the binary cross-entropy, averaged over the known cells.

    Args:
        logits: (B, T, K) float32.
        target: (B, T, K) float32 in {0, 1}, finite also where unknown.
        known: (B, T, K) float32, 1 where the label counts, else 0.
        pos_weight: (K,) float32, weight of positive cells.
    """
    loss = (1.0 - target) * logits + (1.0 + (pos_weight - 1.0) * target) * F.softplus(-logits)
    return _mean(loss, known)


def focal_loss(logits: Tensor, target: Tensor, known: Tensor, gamma: float, alpha: float) -> Tensor:
    """Returns the binary focal loss (Lin et al. 2017), averaged over the known cells.

    Args:
        logits: (B, T, K) float32.
        target: (B, T, K) float32 in {0, 1}, finite also where unknown.
        known: (B, T, K) float32, 1 where the label counts, else 0.
        gamma: focusing exponent.
        alpha: weight of positive cells; negative cells have 1 - alpha.
    """
    signed = logits * (2.0 * target - 1.0)
    balance = alpha * target + (1.0 - alpha) * (1.0 - target)
    # (1 - p_t)^gamma as exp(gamma log sigmoid(-z)): no 0 ** gamma, so the gradient is finite everywhere.
    return _mean(balance * torch.exp(gamma * F.logsigmoid(-signed)) * F.softplus(-signed), known)


def categorical_loss(logits: Tensor, target: Tensor, known: Tensor, class_weight: Tensor) -> Tensor:
    """Returns the cross-entropy, averaged over the known frames.

    Args:
        logits: (B, T, C) float32.
        target: (B, T) int64 in [0, C), also where unknown.
        known: (B, T) float32, 1 where the label counts, else 0.
        class_weight: (C,) float32; weights with a mean of 1 over the training labels keep the scale of the
            loss.
    """
    chosen = F.one_hot(target, logits.shape[-1]).to(logits.dtype)
    loss = -(torch.log_softmax(logits, -1) * chosen * class_weight).sum(-1)
    return _mean(loss, known)


def positive_weights(target: Tensor, known: Tensor, largest: float) -> Tensor:
    """Returns (K,) float32 negatives / positives per column of ``target`` (F, K), at most ``largest``."""
    positives = ((target > 0) & known).sum(0).float()
    negatives = known.sum(0).float() - positives
    return (negatives / positives.clamp_min(1.0)).clamp(1.0 / largest, largest)


def class_weights(target: Tensor, known: Tensor, classes: int) -> Tensor:
    """Returns (C,) inverse class frequencies with mean 1 over the known ``target`` (F,); 0 if absent."""
    counts = torch.bincount(target[known].long(), minlength=classes).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1.0)), 0.0)


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of one minibatch, per task.

    Attributes:
        values: (B, T) or (B, T, K), finite also where unknown; classes int64, the rest float32.
        known: same shapes, float32, 0 where the label does not count; elsewhere 1, or where frames have
            weights the weight over the mean weight of all that count.
        share: that mean weight, a factor on the loss of the task; None where frames have no weights.
    """

    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    share: Mapping[str, Tensor] | None = None


LossForm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (B, T, K), labels and their mask, as ``Targets`` holds them -> one number."""


def ccc(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """1 - CCC; see ``ccc_loss``."""
    return lambda logits, target, known: ccc_loss(logits.squeeze(-1), target, known)


def bce(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """Binary cross-entropy; see ``binary_loss``."""
    return partial(binary_loss, pos_weight=torch.ones(task.size(labels), device=train.device))


def balanced_bce(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """Binary cross-entropy with positives weighted by negatives / positives of the training labels."""
    usable, largest = train.usable(task), training.au_pos_weight_max
    return partial(binary_loss, pos_weight=positive_weights(train.labels[task.array], usable, largest))


def focal(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """Binary focal loss; see ``focal_loss``."""
    return partial(focal_loss, gamma=training.au_focal_gamma, alpha=training.au_focal_alpha)


def cross_entropy(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """Cross-entropy; see ``categorical_loss``."""
    return partial(categorical_loss, class_weight=torch.ones(task.size(labels), device=train.device))


def balanced_cross_entropy(train: Split, task: TaskSpec, labels: LabelSpec, training: Training) -> LossForm:
    """Cross-entropy with classes weighted by their inverse frequency in the training labels."""
    weights = class_weights(train.labels[task.array], train.usable(task), task.size(labels))
    return partial(categorical_loss, class_weight=weights)


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of every task.

    Attributes:
        forms: per task; what a form needs from the training labels it took when it was made.
    """

    forms: Mapping[str, LossForm]

    def __call__(self, logits: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Returns (N,) losses of one model for logits (B, T, K) per task, in the order of ``logits``."""
        losses = torch.stack(
            [self.forms[name](z, targets.values[name], targets.known[name]) for name, z in logits.items()]
        )
        if targets.share is None:
            return losses
        return losses * torch.stack([targets.share[name] for name in logits])


def objective(train: Split, labels: LabelSpec, training: Training) -> Objective:
    """Returns the losses that ``training`` asks for; ``balanced`` ones count the labels of ``train``."""
    forms: dict[str, LossForm] = {}
    for name, task in TASKS.items():
        form = registered(LOSSES[task.loss][training.loss_name(task.loss)])
        forms[name] = form(train, task, labels, training)
    return Objective(forms)


def gather_targets(split: Split, rows: Tensor, usable: Tensor, tasks: Mapping[str, object]) -> Targets:
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
            share[name] = _mean(weighted, known[name])
            known[name] = weighted / share[name].clamp_min(torch.finfo(torch.float32).tiny)
    return Targets(values, known, None if split.weight is None else share)
