"""The results of single runs: which scores an edition defines, and what a planned run left on disk.

Not the aggregation over seeds, which is ``pipeline.report.table``, nor the writing of results, which is the
sweep's.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from stores.documents import Json
from stores.editions import Edition, Track, tracks
from stores.errors import FacetsError
from temporal.metrics import track_total

Status = Literal["done", "failed", "stopped", "missing"]

HEADLINE_TASKS = ("AU", "EXPR", "V", "A")
"""Column order of the table: that of the seed TCN project (Chrisa142857/ABAW2), which users compare with."""

PER_LABEL = {"AU": "per_au", "EXPR": "per_class"}
"""Where a result keeps the scores of single labels."""

LOWEST = {"ccc": -1.0, "f1": 0.0, "accuracy": 0.0, "total": 0.0}
"""Least possible value of each metric; the greatest is 1 for all."""

ROUNDING = 1e-9
"""How far a score may leave its range by floating point alone."""


class Planned(Protocol):
    """What the table must know of a planned run; ``pipeline.plan.PlannedRun`` is one."""

    @property
    def run_id(self) -> str:
        """Name of the run's folder."""

    @property
    def name(self) -> str:
        """Name of the table row, such as ``A+AU+Attn``."""

    @property
    def tasks(self) -> Sequence[str]:
        """Tasks trained, in the order V, A, AU, EXPR."""

    @property
    def attention(self) -> bool:
        """Whether multi-task attention is on."""

    @property
    def seed(self) -> int:
        """Random seed of the run."""

    @property
    def training(self) -> Mapping[str, Json]:
        """Every setting of the run, by the names of the configuration."""

    @property
    def settings(self) -> Mapping[str, Json]:
        """Those settings that the row does not share with the rest of the sweep."""

    @property
    def bracket(self) -> str:
        """Which runs it competes with in successive halving; empty if it does not."""


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
    def header(self) -> str:
        """Column title in the style of the seed TCN project, such as ``Total (AU)`` or ``CCC (V)``."""
        names = {"ccc": "CCC", "f1": "F1", "accuracy": "Accuracy", "total": "Total", "track": "P"}
        return f"{names[self.metric]} ({self.label or self.task})"


@dataclass(frozen=True, slots=True)
class Run:
    """One planned run as found on disk.

    Attributes:
        run_id: name of its folder.
        seed: its random seed.
        status: ``done``, ``failed`` (it left an error, or a score that is not finite), ``stopped`` (by
            successive halving: its score is of fewer epochs, so it is not among the scores) or ``missing``.
        error: one line, only if failed.
        best_epoch: epoch kept, counted from 1; 0 unless done.
        epochs: epochs trained; 0 unless done or stopped.
        scores: value of every column that the run has; empty unless done.
        frames: frames scored, per task; empty unless done.
    """

    run_id: str
    seed: int
    status: Status
    error: str
    best_epoch: int
    epochs: int
    scores: Mapping[Column, float]
    frames: Mapping[str, int]


def columns_of(rules: Edition) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Returns headline and detail columns of an edition: totals up to ABAW-2, plain F1 from ABAW-3 onward."""
    headline = tuple(Column(task, rules.scoring if task in PER_LABEL else "ccc") for task in HEADLINE_TASKS)
    details: list[Column] = []
    for task, labels in (("AU", rules.aus), ("EXPR", rules.expressions)):
        apart = [Column(task, "f1"), Column(task, "accuracy")]
        details += [column for column in apart if column not in headline]
        details += [Column(task, "f1", label) for label in labels]
        if task == "AU":
            details += [Column(task, "accuracy", label) for label in labels]
    return headline, tuple(details)


def track_columns(rules: Edition) -> tuple[Column, ...]:
    """Returns a column for every track of an edition whose score combines tasks: ``VA`` and ``MTL``.

    Left out are tracks that are scored over other classes or action units than ``rules`` names.
    """
    found = [one for one in tracks(rules.name).values() if len(one.tasks) > 1]
    return tuple(
        Column(one.name, "track", track=one)
        for one in found
        if one.rules == rules or not PER_LABEL.keys() & set(one.tasks)
    )


def read_run(runs_dir: Path, planned: Planned, columns: Sequence[Column]) -> Run:
    """Reads one planned run; a result outranks an error, which an earlier attempt may have left.

    Args:
        runs_dir: folder with one folder per run id.
        planned: the run.
        columns: the scores to read, those of tasks that the run does not train excepted.

    Raises:
        FacetsError: a file is damaged or belongs to another run; the message names it and the remedy.
    """
    folder = runs_dir / planned.run_id
    result, failure, halved = folder / "result.json", folder / "error.json", folder / "stopped.json"
    if result.exists():
        try:
            return _parse_result(_load(result), planned, columns)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _damaged(result, error) from error
    if planned.bracket and halved.exists():
        try:
            stopped = _load(halved)
            if stopped["bracket"] == planned.bracket:
                return replace(_unscored(planned, "stopped", ""), epochs=_count(stopped, "epochs"))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _damaged(halved, error) from error
    if failure.exists():
        try:
            line = " ".join(str(_load(failure)["error"]).split())
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise _damaged(failure, error) from error
        return _unscored(planned, "failed", line)
    return _unscored(planned, "missing", "")


def _load(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        msg = f"expected a JSON object, found {type(value).__name__}"
        raise TypeError(msg)
    return value


def _damaged(path: Path, error: Exception) -> FacetsError:
    found = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
    return FacetsError(
        f"{path} cannot be read as this run's result: {found}. Delete the folder {path.parent} and run the"
        " sweep again: only this run is repeated"
    )


def _unscored(planned: Planned, status: Status, error: str) -> Run:
    return Run(planned.run_id, planned.seed, status, error, 0, 0, {}, {})


def _parse_result(result: Mapping[str, Any], planned: Planned, columns: Sequence[Column]) -> Run:
    expected = {
        "run_id": planned.run_id,
        "seed": planned.seed,
        "tasks": list(planned.tasks),
    }  # not the name: another sweep may have called the same run by what differs from its own settings
    for key, value in expected.items():
        if result[key] != value:
            msg = f"{key} is {result[key]!r}, the plan says {value!r}"
            raise ValueError(msg)
    metrics = result["metrics"]
    scores: dict[Column, float] = {}
    for task, key in PER_LABEL.items():
        labels = {column.label for column in columns if column.task == task and column.label}
        if task in planned.tasks and set(metrics[task][key]) != labels:
            msg = f"{task} has the labels {sorted(metrics[task][key])}, this edition has {sorted(labels)}"
            raise ValueError(msg)
    for column in columns:
        if not column.trained_by(planned.tasks):
            continue
        value = track_total(metrics, column.track) if column.track else _score(metrics[column.task], column)
        if math.isfinite(value):
            scores[column] = value
        elif not column.label:
            return _unscored(planned, "failed", f"{column.header} is not finite: training diverged")
    return Run(
        run_id=planned.run_id,
        seed=planned.seed,
        status="done",
        error="",
        best_epoch=_count(result, "best_epoch"),
        epochs=_count(result, "epochs"),
        scores=scores,
        frames={task: _count(metrics[task], "frames") for task in planned.tasks},
    )


def _score(task: Mapping[str, Any], column: Column) -> float:
    """Returns one score; NaN (JSON ``NaN`` or ``null``) where it is undefined, as without positives."""
    value = task[column.metric]
    if column.label:
        value = task[PER_LABEL[column.task]][column.label]
        if column.task == "AU":
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


def _count(record: Mapping[str, Any], key: str) -> int:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{key} is {value!r}, expected a whole number"
        raise TypeError(msg)
    return value
