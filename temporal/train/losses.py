"""Masked losses: 1 - CCC and squared error, AU cross-entropy or focal, EXPR cross-entropy.

A loss is a function of a ``TaskBatch`` that returns one number, 0 with zero gradient where nothing is known,
so that a sum over tasks and replicas leaves every term as if it were alone. What makes one is
``(train, task, labels, **parameters)`` and stands in ``temporal.registries.LOSSES``.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stores import LabelSpec
from temporal.data.bank import Split
from temporal.tasks import TaskSpec
from temporal.train.targets import TaskBatch, mean_over

EPSILON = 1e-8

Loss = Callable[[TaskBatch], Tensor]


def ccc_loss(prediction: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Returns 1 - CCC, pooled over the known frames of the minibatch, with population moments.

    ``CCC = 2 cov / (var + var + (mean - mean)^2)`` (Lin 1989). Constants give 1 with a finite gradient.

    Args:
        prediction: (B, T) float32.
        target: (B, T) float32, finite also where unknown.
        known: (B, T) float32, how much the label counts, 0 where unknown.
    """
    mean_p, mean_t = mean_over(prediction, known), mean_over(target, known)
    counted = (known > 0).to(known.dtype)
    p, t = (prediction - mean_p) * counted, (target - mean_t) * counted
    covariance, spread = mean_over(p * t, known), mean_over(p * p, known) + mean_over(t * t, known)
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
    return mean_over(loss, known)


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
    return mean_over(balance * torch.exp(gamma * F.logsigmoid(-signed)) * F.softplus(-signed), known)


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
    return mean_over(loss, known)


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


def ccc(train: Split, task: TaskSpec, labels: LabelSpec) -> Loss:
    """1 - CCC; see ``ccc_loss``."""
    return lambda batch: ccc_loss(batch.logits.squeeze(-1), batch.target, batch.known)


def mse(train: Split, task: TaskSpec, labels: LabelSpec) -> Loss:
    """Squared error, averaged over the known frames."""
    return lambda batch: mean_over((batch.logits.squeeze(-1) - batch.target).square(), batch.known)


def bce(train: Split, task: TaskSpec, labels: LabelSpec) -> Loss:
    """Binary cross-entropy; see ``binary_loss``."""
    return _binary(torch.ones(task.size(labels), device=train.device))


def balanced_bce(train: Split, task: TaskSpec, labels: LabelSpec, *, largest: float) -> Loss:
    """Binary cross-entropy with positives weighted by negatives / positives of the training labels."""
    return _binary(positive_weights(train.labels[task.array], train.usable(task), largest))


def _binary(pos_weight: Tensor) -> Loss:
    return lambda batch: binary_loss(batch.logits, batch.target, batch.known, pos_weight)


def focal(train: Split, task: TaskSpec, labels: LabelSpec, *, gamma: float, alpha: float) -> Loss:
    """Binary focal loss; see ``focal_loss``."""
    return lambda batch: focal_loss(batch.logits, batch.target, batch.known, gamma, alpha)


def cross_entropy(train: Split, task: TaskSpec, labels: LabelSpec) -> Loss:
    """Cross-entropy; see ``categorical_loss``."""
    return _categorical(torch.ones(task.size(labels), device=train.device))


def balanced_cross_entropy(train: Split, task: TaskSpec, labels: LabelSpec) -> Loss:
    """Cross-entropy with classes weighted by their inverse frequency in the training labels."""
    return _categorical(class_weights(train.labels[task.array], train.usable(task), task.size(labels)))


def _categorical(class_weight: Tensor) -> Loss:
    return lambda batch: categorical_loss(batch.logits, batch.target, batch.known, class_weight)
