"""The best score that a predictor can expect without seeing an image, from label frequencies alone.

It is a floor to be printed beside a table: a result below it shows nothing.

Each number is the maximum over all predictors that ignore the input (constant, always on, majority, or drawn
at random with any fixed probabilities), in the limit of many frames, and knowing the frequencies of the very
labels that it is scored on. Being on with probability q where a share p is positive gives ``F1 = 2 p q / (p +
q)`` and ``accuracy = p q + (1 - p)(1 - q)``.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.editions import Edition
from stores.editions import edition as edition_named
from temporal.metrics import F1_SHARES
from temporal.tasks import TASKS

Floats = NDArray[np.float64]


def binary_chance(y_true: ArrayLike, f1_share: float) -> float:
    """Returns the best ``f1_share * mean F1 + (1 - f1_share) * pooled accuracy``.

    The sum splits into one concave function of q per AU, ``a F1(q) + b accuracy(q)``, whose maximum on [0, 1]
    is at an end or where ``(p + q)^2 = 2 a p^2 / (b (1 - 2 p))``.

    Args:
        y_true: (F, K) in {0, 1}, -1 = unknown.
        f1_share: weight of F1, in [0, 1].
    """
    y = np.asarray(y_true)
    known = (y >= 0).sum(0).astype(np.float64)
    if not known.any():
        return 0.0
    p = np.divide((y == 1).sum(0), known, out=np.zeros_like(known), where=known > 0)
    a, b = f1_share / len(p), (1.0 - f1_share) * known / known.sum()
    slope = b * (1.0 - 2.0 * p)
    root = np.sqrt(np.divide(2.0 * a, slope, out=np.ones_like(p), where=slope > 0))
    candidates = np.stack([np.zeros_like(p), np.clip(p * (root - 1.0), 0.0, 1.0), np.ones_like(p)])
    together = p + candidates
    f1 = np.divide(2.0 * p * candidates, together, out=np.zeros_like(together), where=together > 0)
    accuracy = candidates * p + (1.0 - candidates) * (1.0 - p)
    return float((a * f1 + b * accuracy).max(0).sum())


def categorical_chance(y_true: ArrayLike, classes: int, f1_share: float) -> float:
    """Returns the best ``f1_share * macro F1 + (1 - f1_share) * accuracy``.

    Class c is drawn with probability ``q_c``; the score is concave in q on the simplex, so at its maximum
    ``2 a p^2 / (p + q)^2 + b p`` is the same number for every class with q > 0, found by bisection. For F1
    alone that is ``q = p``, with macro F1 = 1 / classes; for accuracy alone it is the majority class.

    Args:
        y_true: (F,) class indices, -1 = unknown.
        classes: number of classes C of the fixed list.
        f1_share: weight of F1, in [0, 1].
    """
    y = np.asarray(y_true)
    counts = np.bincount(y[y >= 0].astype(np.int64), minlength=classes).astype(np.float64)
    if not counts.any():
        return 0.0
    p = counts[counts > 0] / counts.sum()
    a, b = f1_share / classes, 1.0 - f1_share
    if a == 0.0:
        return float(p.max())

    def draw(multiplier: float) -> Floats:
        room = multiplier - b * p
        drawn = p * (np.sqrt(2.0 * a / np.maximum(room, 1e-300)) - 1.0)
        return np.where(room > 0, np.clip(drawn, 0.0, 1.0), 1.0)

    low, high = 0.0, 2.0 * a + b
    for _ in range(200):
        middle = (low + high) / 2.0
        low, high = (middle, high) if draw(middle).sum() > 1.0 else (low, middle)
    q = draw(high)
    q /= q.sum()
    return float((a * 2.0 * p * q / (p + q) + b * p * q).sum())


def chance_levels(labels: Mapping[str, ArrayLike], edition: str | Edition) -> dict[str, dict[str, float]]:
    """Returns the best score without seeing an image, for each metric by itself.

    Args:
        labels: as for ``metrics.totals``.
        edition: name of the edition, or the edition.

    Returns:
        Per task of ``labels``: ``ccc`` (0: a prediction independent of the labels has no covariance with
        them), or ``f1``, ``accuracy`` and ``total``. The three are reached by different predictors.
    """
    rules = edition_named(edition) if isinstance(edition, str) else edition
    best: dict[str, dict[str, float]] = {}
    for name, spec in TASKS.items():
        if name not in labels:
            continue
        if spec.metric == "ccc":
            best[name] = {"ccc": 0.0}
            continue
        for key, share in {
            "f1": 1.0,
            "accuracy": 0.0,
            "total": F1_SHARES[spec.metric][rules.scoring],
        }.items():
            best.setdefault(name, {})[key] = (
                binary_chance(labels[name], share)
                if spec.metric == "binary"
                else categorical_chance(labels[name], len(rules.expressions), share)
            )
    return best
