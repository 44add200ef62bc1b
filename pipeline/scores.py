"""The scores that an edition defines, as columns of the table, and how they are read out of a result."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stores.editions import Edition, Track, tracks
from temporal.metrics import track_total
from temporal.tasks import TASKS

HEADLINE_TASKS = ("AU", "EXPR", "V", "A")
"""Column order of the table: that of the seed TCN project (Chrisa142857/ABAW2), which users compare with."""

PER_LABEL = {"binary": "per_au", "categorical": "per_class"}
"""Where a result keeps the scores of single labels, by the metric of the task."""

LOWEST = {"ccc": -1.0, "f1": 0.0, "accuracy": 0.0, "total": 0.0}
"""Least possible value of each metric; the greatest is 1 for all."""

ROUNDING = 1e-9
"""How far a score may leave its range by floating point alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of one task, or of one of its labels; or the score of a track, which combines tasks.

    Attributes:
        task: ``V``, ``A``, ``AU`` or ``EXPR``; or the name of the track, ``VA`` or ``MTL``.
        metric: ``ccc``, ``f1``, ``accuracy`` or ``total``; ``track`` for that of a track.
        label: an AU or an expression; empty for the whole task.
        track: the track; None for a single task.
    """

    task: str
    metric: str
    label: str = ""
    track: Track | None = None

    def trained_by(self, tasks: Collection[str]) -> bool:
        """Whether a row that trains these tasks has this score."""
        return set(self.track.tasks if self.track else (self.task,)) <= set(tasks)

    @property
    def key(self) -> tuple[str, str, str]:
        """Task, metric and label: how the frame of results names the column."""
        return self.task, self.metric, self.label

    @property
    def header(self) -> str:
        """Column title in the style of the seed TCN project, such as ``Total (AU)`` or ``CCC (V)``."""
        names = {"ccc": "CCC", "f1": "F1", "accuracy": "Accuracy", "total": "Total", "track": "P"}
        return f"{names[self.metric]} ({self.label or self.task})"


def columns_of(
    rules: Edition, combinations: Iterable[Collection[str]]
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Returns the headline columns of an edition and those of details.

    Headlines are totals up to ABAW-2 and plain F1 from ABAW-3 onward, then the score of each track that
    combines tasks, if one of ``combinations`` has them all and the track is over the names of ``rules``.
    """
    tasks = [*HEADLINE_TASKS, *(task for task in TASKS if task not in HEADLINE_TASKS)]
    headline = [Column(task, rules.scoring if TASKS[task].names else "ccc") for task in tasks]
    details: list[Column] = []
    names = {"au_names": rules.aus, "expression_names": rules.expressions}
    for task, labels in ((task, names[kind]) for task in tasks if (kind := TASKS[task].names)):
        apart = [Column(task, "f1"), Column(task, "accuracy")]
        details += [column for column in apart if column not in headline]
        details += [Column(task, "f1", label) for label in labels]
        if TASKS[task].metric == "binary":
            details += [Column(task, "accuracy", label) for label in labels]
    combined = [
        Column(track.name, "track", track=track)
        for track in tracks(rules.name).values()
        if len(track.tasks) > 1
        and (track.rules == rules or not any(TASKS[task].names for task in track.tasks))
    ]
    trained = [set(tasks) for tasks in combinations]
    headline += [column for column in combined if any(column.trained_by(tasks) for tasks in trained)]
    return tuple(headline), tuple(details)


def chance_of(levels: Mapping[str, Mapping[str, float]], column: Column) -> float | None:
    """Returns the chance level of a score; None if none is known, as for single labels.

    Args:
        levels: task -> metric -> what can be expected without seeing an image.
        column: the score.
    """
    if column.track is not None:
        return track_total(levels, column.track) if column.trained_by(levels) else None
    return None if column.label else levels.get(column.task, {}).get(column.metric)


def values_of(
    metrics: Mapping[str, Any], tasks: Collection[str], columns: Sequence[Column]
) -> dict[Column, float]:
    """Returns the scores of a run; NaN if one is undefined, as F1 without positives is.

    Args:
        metrics: what ``temporal.metrics.scores_of`` returns, as read from a result.
        tasks: that the run trains.
        columns: the scores to read; those of other tasks are left out.

    Raises:
        KeyError: a score is missing.
        TypeError: a score is no number.
        ValueError: a score is out of its range, or its labels are not those of the columns.
    """
    for task, key in ((task, PER_LABEL[TASKS[task].metric]) for task in tasks if TASKS[task].names):
        labels = {column.label for column in columns if column.task == task and column.label}
        if set(metrics[task][key]) != labels:
            msg = f"{task} has the labels {sorted(metrics[task][key])}, this edition has {sorted(labels)}"
            raise ValueError(msg)
    found = {
        column: _value(metrics[column.task], column)
        for column in columns
        if not column.track and column.trained_by(tasks)
    }
    whole = all(math.isfinite(value) for column, value in found.items() if not column.label)
    for column in columns:
        if column.track and column.trained_by(tasks):
            found[column] = track_total(metrics, column.track) if whole else math.nan
    return found


def _value(task: Mapping[str, Any], column: Column) -> float:
    value = task[column.metric]
    if column.label:
        kind = TASKS[column.task].metric
        value = task[PER_LABEL[kind]][column.label]
        if kind == "binary":
            value = value[column.metric]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{column.header} is {value!r}, expected a number"
        raise TypeError(msg)
    if math.isfinite(value) and not LOWEST[column.metric] - ROUNDING <= value <= 1 + ROUNDING:
        msg = f"{column.header} is {value!r}, expected {LOWEST[column.metric]:g} to 1"
        raise ValueError(msg)
    return float(value)
