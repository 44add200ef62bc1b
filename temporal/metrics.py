"""Scores of predictions against labels: CCC, macro F1, AU F1 and each edition's totals, in float64.

Every score is a function of sums that add up over frames, clips and folds (``unit_sums``, ``pooled``,
``scores_of``), so a score is over all known frames together, and ten thousand resamples of clips are one
product of matrices.

Definitions are those of the ABAW challenges: CCC of Lin (1989) with population moments; ABAW-1 and 2 totals
``EXPR = 0.67 F1 + 0.33 accuracy`` and ``AU = 0.5 F1 + 0.5 accuracy``; from ABAW-3 on F1 alone. An F1 with
nothing to count, such as that of a class absent from both labels and predictions, is 0 and stays in the mean:
the list of classes is fixed, so that two systems are always averaged over the same classes. The CCC of a
constant series is 0, also against itself. The score of a multi-task track (ABAW-3, 4, 7, 11) is the mean CCC
plus both F1, at most 3. ``temporal.chance`` tells which scores need no image.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stores.editions import Edition, Scoring, Track, tracks
from stores.editions import edition as edition_named
from stores.errors import ConfigError
from temporal.tasks import TASKS, Metric, TaskSpec

Floats = NDArray[np.float64]
Metrics = dict[str, Any]
Units = dict[str, dict[str, Floats]]
"""Per clip and task the sums that scores are functions of; ``unit_sums`` says which."""

F1_SHARES = {"binary": {"total": 0.5, "f1": 1.0}, "categorical": {"total": 0.67, "f1": 1.0}}
"""Weight of F1 in a task's total, by ``TaskSpec.metric`` and the edition's scoring; accuracy has the rest."""
SELECTED = {"ccc": "ccc", "binary": "total", "categorical": "total"}
"""The entry of a task's metrics that selects epochs and compares runs, by ``TaskSpec.metric``."""
FLAT = 1e-13
"""A series is constant if its variance is at most this share of its mean square; sums round to 1e-15."""


def unit_sums(
    labels: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    clips: Sequence[str],
    offsets: Sequence[int],
    edition: str | Edition,
    thresholds: ArrayLike = 0.5,
) -> Units:
    """Counts every clip by itself, all clips given one after the other.

    Args:
        labels: per task ``V``, ``A`` (F,) with NaN = unknown, ``AU`` (F, K) and ``EXPR`` (F,) with -1 =
            unknown.
        predictions: per task ``V``, ``A`` (F,) values, ``AU`` (F, K) and ``EXPR`` (F, C) probabilities.
        clips: clip ids, N of them.
        offsets: first row of each clip, then F: N + 1 numbers.
        edition: name of the edition, or the edition, whose names apply.
        thresholds: probability from which an AU is on, one for all or (K,).

    Returns:
        Per clip and task of ``predictions`` a float64 vector. It begins with the number of frames with a
        label. ``V`` and ``A`` go on with the sums of label t, prediction p, t t, p p and t p; ``EXPR`` with
        C true positives, C false positives and C false negatives; ``AU`` with the same three for each of K
        AUs, then K true negatives.

    Raises:
        ConfigError: unknown edition or task, missing labels, shapes that do not fit, a prediction on a
            labelled frame that is not a number, or offsets that do not divide the rows among the clips.
    """
    rows = {len(np.asarray(values)) for values in predictions.values()}
    if len(offsets) != len(clips) + 1 or offsets[0] != 0 or not rows <= {offsets[-1]}:
        msg = (
            f"offsets {list(offsets[:1])} to {list(offsets[-1:])} for {len(clips)} clips and rows {rows}:"
            " expected the first row of each clip, from 0, then the number of rows"
        )
        raise ConfigError(msg)
    found = _sums(labels, predictions, np.asarray(offsets), _rules(edition), thresholds)
    return {clip: {task: rows[number] for task, rows in found.items()} for number, clip in enumerate(clips)}


def pooled(units: Iterable[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Returns per task the sum over units, such as the clips of a split or of all folds."""
    given = list(units)
    tasks = dict.fromkeys(task for unit in given for task in unit)
    return {task: np.sum([unit[task] for unit in given if task in unit], axis=0) for task in tasks}


def scores_of(sums: Mapping[str, Floats], edition: str | Edition) -> dict[str, Metrics]:
    """Returns the scores of summed units.

    Args:
        sums: per task the sum of vectors of ``unit_sums``.
        edition: name of the edition, or the edition, whose names and scoring apply.

    Returns:
        Per task, in canonical order: ``ccc``; or ``f1``, ``accuracy``, ``total`` and each AU or class; and
        ``frames``, the number of frames with a label.
    """
    rules = _rules(edition)
    return {name: _named(spec, sums[name], rules) for name, spec in TASKS.items() if name in sums}


def measures(task: TaskSpec, sums: Floats, scoring: Scoring) -> dict[str, Floats]:
    """Returns the scores of many sums at once.

    Args:
        task: what was counted.
        sums: (..., L), vectors of ``unit_sums`` or sums of them, such as one row per resample.
        scoring: of the edition.

    Returns:
        ``ccc`` (...,); or ``f1``, ``accuracy`` and ``total`` (...,), and ``each_f1`` (..., K), for AUs also
        ``each_accuracy``.
    """
    if task.metric == "ccc":
        return {"ccc": _ccc(np.asarray(sums, np.float64))}
    parts = 4 if task.metric == "binary" else 3
    counts = np.split(np.asarray(sums, np.float64)[..., 1:], parts, axis=-1)
    hits, false, missed = counts[:3]
    each_f1 = _share(2.0 * hits, 2.0 * hits + false + missed)
    if task.metric == "binary":
        right, known = hits + counts[3], hits + false + missed + counts[3]
        each = {"each_accuracy": _share(right, known)}
        accuracy = _share(right.sum(-1), known.sum(-1))
    else:
        each, accuracy = {}, _share(hits.sum(-1), (hits + missed).sum(-1))
    f1 = each_f1.mean(-1)
    total = composite(task.metric, f1, accuracy, scoring)
    return {"f1": f1, "accuracy": accuracy, "total": total, "each_f1": each_f1, **each}


def composite(metric: Metric, f1: Any, accuracy: Any, scoring: Scoring) -> Any:
    """Returns the total of an edition for a kind of task, from F1 and accuracy (numbers or arrays)."""
    share = F1_SHARES[metric][scoring]
    return share * f1 + (1.0 - share) * accuracy


def totals(
    labels: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    edition: str | Edition,
    thresholds: ArrayLike = 0.5,
) -> dict[str, Metrics]:
    """Returns what ``scores_of`` returns, of all rows of ``labels`` and ``predictions`` together.

    The arguments are those of ``unit_sums``, and so are the errors.
    """
    rules = _rules(edition)
    frames = len(np.asarray(next(iter(predictions.values())))) if predictions else 0
    found = _sums(labels, predictions, np.array([0, frames]), rules, thresholds)
    return scores_of({task: rows[0] for task, rows in found.items()}, rules)


def ccc(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Returns the concordance correlation coefficient, ``2 cov / (var + var + (mean - mean)^2)``.

    Args:
        y_true: labels, any shape; those that are not finite are unknown.
        y_pred: predictions of the same shape.

    Returns:
        In [-1, 1]; exactly 1 for identical series, 0 if either series is constant or no label is known.

    Raises:
        ConfigError: shapes differ, or a prediction with a known label is not finite.
    """
    t, p = np.asarray(y_true), np.asarray(y_pred)
    _same_shape(t, p)
    return float(_ccc(_ccc_sums(t.ravel(), p.ravel(), np.array([0, t.size]))[0]))


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


def _rules(edition: str | Edition) -> Edition:
    return edition_named(edition) if isinstance(edition, str) else edition


def _sums(
    labels: Mapping[str, ArrayLike],
    predictions: Mapping[str, ArrayLike],
    offsets: NDArray[np.int64],
    rules: Edition,
    thresholds: ArrayLike,
) -> dict[str, Floats]:
    """Returns (N, L) per task of ``predictions``, in canonical order."""
    missing = [task for task in predictions if task not in TASKS or task not in labels]
    if missing:
        msg = (
            f"no labels for the predicted tasks {missing}: labels are for {list(labels)}, tasks {list(TASKS)}"
        )
        raise ConfigError(msg)
    found: dict[str, Floats] = {}
    for name, spec in TASKS.items():
        if name not in predictions:
            continue
        y, p = np.asarray(labels[name]), np.asarray(predictions[name])
        if spec.metric == "ccc":
            found[name] = _ccc_sums(y, p, offsets)
            continue
        names = rules.aus if spec.metric == "binary" else rules.expressions
        shape = (len(y), len(names))
        if p.shape != shape or y.shape != (shape if spec.metric == "binary" else shape[:1]):
            msg = f"{name} labels {y.shape} and predictions {p.shape}: expected {shape} for {rules.name}"
            raise ConfigError(msg)
        _check_decided(name, y, p, 2 if spec.metric == "binary" else len(names))
        if spec.metric == "binary":
            found[name] = _binary_sums(y, p >= np.asarray(thresholds), offsets)
        else:
            found[name] = _categorical_sums(y, p.argmax(1), len(names), offsets)
    return found


def _same_shape(y: NDArray[Any], p: NDArray[Any]) -> None:
    if y.shape != p.shape:
        msg = f"labels and predictions have shapes {y.shape} and {p.shape}: expected the same shape"
        raise ConfigError(msg)


def _check_decided(task: str, y: NDArray[Any], p: NDArray[Any], values: int) -> None:
    if y.size and y.max() >= values:
        msg = f"{task} labels up to {y.max()}: expected 0 to {values - 1}, or -1 for unknown"
        raise ConfigError(msg)
    # Comparisons with NaN are False and argmax takes it for the largest: neither is a decision.
    unclear = np.isnan(p)
    if unclear.any() and unclear[y >= 0].any():
        msg = f"{unclear[y >= 0].sum()} predictions of {task} with a label are NaN: mask those labels"
        raise ConfigError(msg)


def _per_clip(values: NDArray[Any], offsets: NDArray[np.int64]) -> Floats:
    """Returns (N, ...) sums of the rows of each clip; numpy adds the rows of a clip pairwise."""
    starts, ends = offsets[:-1], offsets[1:]
    sums = np.zeros((len(starts), *values.shape[1:]))
    filled = starts < ends  # ``reduceat`` takes an empty piece for one row
    counted = np.int32 if values.dtype == np.bool_ else np.float64  # twice as fast, and as exact
    sums[filled] = np.add.reduceat(values, starts[filled], axis=0, dtype=counted)
    return sums


def _ccc_sums(y: NDArray[Any], p: NDArray[Any], offsets: NDArray[np.int64]) -> Floats:
    _same_shape(y, p)
    known = np.isfinite(y)
    t, p = (np.where(known, values, 0.0).astype(np.float64) for values in (y, p))
    if not np.isfinite(p).all():
        msg = f"CCC over {known.sum()} frames: a prediction with a known label is not finite; mask that label"
        raise ConfigError(msg)
    return np.stack([_per_clip(values, offsets) for values in (known, t, p, t * t, p * p, t * p)], -1)


def _binary_sums(y: NDArray[Any], on: NDArray[np.bool_], offsets: NDArray[np.int64]) -> Floats:
    known, positive = y >= 0, y == 1
    negative = known & ~positive
    cells = (positive & on, negative & on, positive & ~on, negative & ~on)
    frames = np.any(known, axis=1)[:, None]
    return np.concatenate([_per_clip(each, offsets) for each in (frames, *cells)], -1)


def _categorical_sums(
    y: NDArray[Any], chosen: NDArray[np.int64], classes: int, offsets: NDArray[np.int64]
) -> Floats:
    known, clips = y >= 0, len(offsets) - 1
    first = np.repeat(np.arange(clips) * classes, np.diff(offsets))

    def count(values: NDArray[Any], counted: NDArray[np.bool_]) -> Floats:
        cells = np.bincount((first + values)[counted], minlength=clips * classes)
        return cells.reshape(clips, classes).astype(np.float64)

    hits = count(y, known & (y == chosen))
    labelled, predicted = count(y, known), count(chosen, known)
    return np.concatenate([labelled.sum(1, keepdims=True), hits, predicted - hits, labelled - hits], -1)


def _ccc(sums: Floats) -> Floats:
    n, t, p, tt, pp, tp = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1.0)
    mean_t, mean_p = t / n, p / n
    # Of identical series all three moments are the same numbers, so that their CCC is exactly 1.
    var_t, var_p, cov = tt / n - mean_t * mean_t, pp / n - mean_p * mean_p, tp / n - mean_t * mean_p
    moving = (var_t > FLAT * tt / n) & (var_p > FLAT * pp / n)
    spread = var_t + var_p + (mean_t - mean_p) ** 2
    found: Floats = np.divide(2.0 * cov, spread, out=np.zeros_like(spread), where=moving)
    return found


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return share


def _named(task: TaskSpec, sums: Floats, rules: Edition) -> Metrics:
    found = measures(task, sums, rules.scoring)
    entry: Metrics = {
        name: float(found[name]) for name in ("ccc", "f1", "accuracy", "total") if name in found
    }
    entry["frames"] = int(sums[0])
    if task.metric == "binary":
        each = zip(rules.aus, found["each_f1"].tolist(), found["each_accuracy"].tolist(), strict=True)
        entry["per_au"] = {name: {"f1": f1, "accuracy": accuracy} for name, f1, accuracy in each}
    elif task.metric == "categorical":
        entry["per_class"] = dict(zip(rules.expressions, found["each_f1"].tolist(), strict=True))
    return entry
