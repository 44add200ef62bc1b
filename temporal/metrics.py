"""Scores of predictions against labels, in float64, over all known frames of a split together.

Not averages over clips or batches, and nothing here trains: CCC, macro F1, AU F1, and each edition's totals.

Definitions are those of the ABAW challenges: CCC of Lin (1989) with population moments; ABAW-1 and 2 totals
``EXPR = 0.67 F1 + 0.33 accuracy`` and ``AU = 0.5 F1 + 0.5 accuracy``; from ABAW-3 on F1 alone. An F1 with
nothing to count, such as that of a class absent from both labels and predictions, is 0 and stays in the mean:
the list of classes is fixed, so that two systems are always averaged over the same classes. The CCC of a
constant series is 0, also against itself. The score of a multi-task track (ABAW-3, 4, 7, 11) is the mean CCC
plus both F1, at most 3. What a predictor that ignores the images can reach is in ``chance``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.editions import Edition, Scoring, Track, tracks
from stores.editions import edition as edition_named
from stores.errors import ConfigError
from temporal.tasks import TASKS, TaskSpec

Floats = NDArray[np.float64]
Metrics = dict[str, Any]

EXPR_F1_SHARE = {"total": 0.67, "f1": 1.0}
AU_F1_SHARE = {"total": 0.5, "f1": 1.0}
SELECTED = {"ccc": "ccc", "binary": "total", "categorical": "total"}
"""The entry of a task's metrics that selects epochs and compares runs, by ``TaskSpec.metric``."""


def _same_shape(y_true: NDArray[Any], y_pred: NDArray[Any], *others: NDArray[Any]) -> None:
    if any(y_true.shape != other.shape for other in (y_pred, *others)):
        shapes = [array.shape for array in (y_true, y_pred, *others)]
        msg = f"labels, predictions (and mask) have shapes {shapes}: expected the same shape"
        raise ConfigError(msg)


def ccc(y_true: ArrayLike, y_pred: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Returns the concordance correlation coefficient, ``2 cov / (var + var + (mean - mean)^2)``.

    Args:
        y_true: labels, any shape.
        y_pred: predictions of the same shape.
        mask: True where a frame counts; by default where the label is finite.

    Returns:
        In [-1, 1]; exactly 1 for identical series, 0 where either series is constant or no frame counts.

    Raises:
        ConfigError: shapes differ, or a label or prediction that counts is not finite.
    """
    t, p = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    counted = np.isfinite(t) if mask is None else np.asarray(mask, dtype=bool)
    _same_shape(t, p, counted)
    t, p = t[counted], p[counted]
    if not (np.isfinite(t).all() and np.isfinite(p).all()):
        msg = f"CCC over {t.size} frames: a label or prediction that counts is not finite; mask it"
        raise ConfigError(msg)
    if t.size == 0 or np.ptp(t) == 0 or np.ptp(p) == 0:
        return 0.0
    dt, dp = t - t.mean(), p - p.mean()
    spread = (dt * dt).mean() + (dp * dp).mean() + (t.mean() - p.mean()) ** 2
    # Series so close to constant that their squares underflow are constant.
    return float(2.0 * (dt * dp).mean() / spread) if spread > 0 else 0.0


def _f1(true_positives: NDArray[Any], positives: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    total = (positives + predicted).astype(np.float64)
    f1: Floats = np.divide(2.0 * true_positives, total, out=np.zeros_like(total), where=total > 0)
    return f1


def class_f1(y_true: ArrayLike, y_pred: ArrayLike, classes: int) -> Floats:
    """Returns (classes,) F1 per class over the frames with a label >= 0.

    Args:
        y_true: (F,) class indices, -1 = unknown.
        y_pred: (F,) class indices.
        classes: number of classes of the fixed list.

    Raises:
        ConfigError: shapes differ, or an index is not in the list.
    """
    t, p = np.asarray(y_true), np.asarray(y_pred)
    _same_shape(t, p)
    t, p = t[np.asarray(y_true) >= 0].astype(np.int64), p[np.asarray(y_true) >= 0].astype(np.int64)
    if t.size and (max(t.max(), p.max()) >= classes or p.min() < 0):
        msg = f"class indices up to {max(t.max(), p.max())}, down to {p.min()}: expected 0 to {classes - 1}"
        raise ConfigError(msg)
    hits = np.bincount(t[t == p], minlength=classes)
    return _f1(hits, np.bincount(t, minlength=classes), np.bincount(p, minlength=classes))


def macro_f1(y_true: ArrayLike, y_pred: ArrayLike, classes: int | Sequence[str]) -> float:
    """Returns the mean of ``class_f1`` over the fixed list ``classes`` (its length, or the names)."""
    return float(class_f1(y_true, y_pred, classes if isinstance(classes, int) else len(classes)).mean())


def _au_counts(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.int64]:
    """Returns (4, K): true positives, positives, predicted positives and known cells of each AU."""
    t, p = np.asarray(y_true), np.asarray(y_pred)
    _same_shape(t, p)
    known, positive, on = t >= 0, t == 1, p == 1
    if (known & ~((positive | (t == 0)) & (on | (p == 0)))).any():
        msg = (
            "AU labels must be 0, 1 or -1 (unknown) and AU predictions 0 or 1: threshold probabilities first"
        )
        raise ConfigError(msg)
    counted = (positive & on, positive, on & known, known)
    return np.stack([np.count_nonzero(cells, axis=0) for cells in counted])


def each_au_f1(y_true: ArrayLike, y_pred: ArrayLike) -> Floats:
    """Returns (K,) binary F1 per AU over the known cells of (F, K) labels; see ``au_f1``."""
    hits, positives, predicted, _ = _au_counts(y_true, y_pred)
    return _f1(hits, positives, predicted)


def au_f1(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Returns the mean over AUs of the binary F1.

    Args:
        y_true: (F, K) in {0, 1}, -1 = unknown, per cell.
        y_pred: (F, K) decisions in {0, 1}.

    Raises:
        ConfigError: shapes differ, or a value is something else.
    """
    return float(each_au_f1(y_true, y_pred).mean())


def _share(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    whole = np.asarray(denominator, dtype=np.float64)
    share: Floats = np.divide(numerator, whole, out=np.zeros_like(whole), where=whole > 0)
    return share


def _correct(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    hits, positives, predicted, known = counts
    correct: NDArray[np.int64] = known - positives - predicted + 2 * hits
    return correct


def au_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Returns the share of correct cells among the known (frame, AU) cells, pooled; 0 if none is known."""
    counts = _au_counts(y_true, y_pred)
    return float(_share(_correct(counts).sum(), counts[3].sum()))


def expr_total(f1: float, accuracy: float, scoring: Scoring) -> float:
    """Returns the EXPR score of an edition from macro F1 and accuracy."""
    share = EXPR_F1_SHARE[scoring]
    return share * f1 + (1.0 - share) * accuracy


def au_total(f1: float, accuracy: float, scoring: Scoring) -> float:
    """Returns the AU score of an edition from mean F1 and pooled accuracy."""
    share = AU_F1_SHARE[scoring]
    return share * f1 + (1.0 - share) * accuracy


def _refuse_nan(counted: NDArray[Any]) -> None:
    # Comparisons with NaN are False and argmax takes it for the largest: neither is a decision.
    if np.isnan(counted).any():
        msg = f"{np.isnan(counted).sum()} predictions on frames with a label are NaN: mask those labels"
        raise ConfigError(msg)


def _ccc_metrics(y: NDArray[Any], p: NDArray[Any], rules: Edition, threshold: ArrayLike) -> Metrics:
    return {"ccc": ccc(y, p), "frames": int(np.isfinite(y).sum())}


def _binary_metrics(y: NDArray[Any], p: NDArray[Any], rules: Edition, threshold: ArrayLike) -> Metrics:
    if p.shape != (len(y), len(rules.aus)) or y.shape != p.shape:
        expected = (len(y), len(rules.aus))
        msg = f"AU labels {y.shape} and predictions {p.shape}: expected {expected} for {rules.name}"
        raise ConfigError(msg)
    _refuse_nan(p[y >= 0])
    counts = _au_counts(y, p >= np.asarray(threshold))
    correct, known = _correct(counts), counts[3]
    each_f1, each_accuracy = _f1(*counts[:3]), _share(correct, known)
    f1, accuracy = float(each_f1.mean()), float(_share(correct.sum(), known.sum()))
    per_au = zip(rules.aus, each_f1.tolist(), each_accuracy.tolist(), strict=True)
    return {
        "f1": f1,
        "accuracy": accuracy,
        "total": au_total(f1, accuracy, rules.scoring),
        "frames": int((y >= 0).any(1).sum()),
        "per_au": {name: {"f1": au, "accuracy": share} for name, au, share in per_au},
    }


def _categorical_metrics(y: NDArray[Any], p: NDArray[Any], rules: Edition, threshold: ArrayLike) -> Metrics:
    if p.shape != (len(y), len(rules.expressions)):
        msg = f"EXPR predictions {p.shape}: expected {(len(y), len(rules.expressions))} for {rules.name}"
        raise ConfigError(msg)
    known = y >= 0
    _refuse_nan(p[known])
    chosen = p.argmax(1)
    each_f1 = class_f1(y, chosen, len(rules.expressions))
    f1, accuracy = float(each_f1.mean()), float(_share(((y == chosen) & known).sum(), known.sum()))
    return {
        "f1": f1,
        "accuracy": accuracy,
        "total": expr_total(f1, accuracy, rules.scoring),
        "frames": int(known.sum()),
        "per_class": dict(zip(rules.expressions, each_f1.tolist(), strict=True)),
    }


_METRICS = {"ccc": _ccc_metrics, "binary": _binary_metrics, "categorical": _categorical_metrics}


def totals(
    labels: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    edition: str | Edition,
    thresholds: ArrayLike = 0.5,
) -> dict[str, Metrics]:
    """Scores every predicted task.

    Args:
        labels: per task ``V``, ``A`` (F,) with NaN = unknown, ``AU`` (F, K) and ``EXPR`` (F,) with -1 =
            unknown.
        predictions: per task ``V``, ``A`` (F,) values, ``AU`` (F, K) and ``EXPR`` (F, C) probabilities.
        edition: name of the edition, or the edition, whose names and scoring apply.
        thresholds: probability from which an AU is on, one for all or (K,).

    Returns:
        Per task of ``predictions``: ``ccc``; or ``f1``, ``accuracy``, ``total`` and each AU or class; and
        ``frames``, the number of frames with a label.

    Raises:
        ConfigError: unknown edition or task, missing labels, or shapes that do not fit.
    """
    rules = edition_named(edition) if isinstance(edition, str) else edition
    missing = [task for task in predictions if task not in TASKS or task not in labels]
    if missing:
        msg = (
            f"no labels for the predicted tasks {missing}: labels are for {list(labels)}, tasks {list(TASKS)}"
        )
        raise ConfigError(msg)
    return {
        name: _METRICS[spec.metric](
            np.asarray(labels[name]), np.asarray(predictions[name]), rules, thresholds
        )
        for name, spec in TASKS.items()
        if name in predictions
    }


def clip_totals(
    labels: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    clips: Sequence[str],
    offsets: Sequence[int],
    edition: str | Edition,
    thresholds: ArrayLike = 0.5,
) -> dict[str, dict[str, Metrics]]:
    """Scores every clip by itself, by the same rules; their mean is not the score of the split.

    Args:
        labels: as for ``totals``, all clips one after the other.
        predictions: as for ``totals``.
        clips: clip ids, N of them.
        offsets: first row of each clip, then F: N + 1 numbers.
        edition: as for ``totals``.
        thresholds: as for ``totals``.

    Returns:
        Per clip what ``totals`` returns; tasks without a label in a clip are absent there.

    Raises:
        ConfigError: as ``totals``, or the offsets do not divide the rows among the clips.
    """
    known = {task: np.asarray(values) for task, values in labels.items() if task in predictions}
    predicted = {task: np.asarray(values) for task, values in predictions.items()}
    rows = {len(values) for values in (*known.values(), *predicted.values())}
    if len(offsets) != len(clips) + 1 or offsets[0] != 0 or not rows <= {offsets[-1]}:
        msg = (
            f"offsets {list(offsets[:1])} to {list(offsets[-1:])} for {len(clips)} clips and rows {rows}:"
            " expected the first row of each clip, from 0, then the number of rows"
        )
        raise ConfigError(msg)
    found: dict[str, dict[str, Metrics]] = {}
    for clip, first, end in zip(clips, offsets[:-1], offsets[1:], strict=True):
        scores = totals(
            {task: values[first:end] for task, values in known.items()},
            {task: values[first:end] for task, values in predicted.items()},
            edition,
            thresholds,
        )
        found[clip] = {task: entry for task, entry in scores.items() if entry["frames"]}
    return found


def track_total(metrics: Mapping[str, Mapping[str, Any]], track: Track) -> float:
    """Returns the score of a track: mean CCC of V and A, plus the totals of EXPR and AU it asks for.

    So VA is ``(CCC_V + CCC_A) / 2``, EXPR, AU, CE and LSD are one total, and MTL is ``P = (CCC_V + CCC_A) / 2
    + macro F1 + mean AU F1``.

    Args:
        metrics: what ``totals`` (by ``track.rules``) or ``chance.chance_levels`` returns.
        track: the track.

    Raises:
        ConfigError: a task of the track was not scored, or over other classes or AUs.
    """
    missing = [task for task in track.tasks if task not in metrics]
    if missing:
        msg = f"track {track.name} of {track.rules.name} needs scores of {missing}: found {list(metrics)}"
        raise ConfigError(msg)
    for task, key, names in (
        ("EXPR", "per_class", track.rules.expressions),
        ("AU", "per_au", track.rules.aus),
    ):
        scored = metrics[task].get(key, names) if task in track.tasks else names
        if tuple(scored) != names:
            msg = f"{task} was scored over {', '.join(scored)}, track {track.name} is over {', '.join(names)}"
            raise ConfigError(msg)
    cccs = [selected(TASKS[task], metrics[task]) for task in track.tasks if TASKS[task].metric == "ccc"]
    others = [selected(TASKS[task], metrics[task]) for task in track.tasks if TASKS[task].metric != "ccc"]
    return (float(np.mean(cccs)) if cccs else 0.0) + sum(others)


def track_totals(metrics: Mapping[str, Metrics], edition: str) -> dict[str, float]:
    """Returns the scores of an edition's tracks that ``metrics`` (of the edition's own classes) answers."""
    rules = edition_named(edition)
    return {
        name: track_total(metrics, track)
        for name, track in tracks(edition).items()
        if track.rules == rules and set(track.tasks) <= set(metrics)
    }


def selected(task: TaskSpec, metrics: Mapping[str, Any]) -> float:
    """Returns the number that selects epochs: CCC for V and A, the edition's total for AU and EXPR."""
    return float(metrics[SELECTED[task.metric]])


def score(metrics: Mapping[str, Metrics]) -> float:
    """Returns the mean of ``selected`` over the tasks in ``metrics``: the score of a run."""
    return float(np.mean([selected(TASKS[name], entry) for name, entry in metrics.items()]))
