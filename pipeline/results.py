"""The results of a sweep as one data frame: a line for each run, task, metric and label.

``results.frame("work/demo")`` is the source of the table, of its CSV files and of its chart. Every planned
run has a line for every score of its tasks, so the shape does not depend on runs that failed. The columns:

- ``row``, ``tasks`` (joined by ``+``), ``attention``, ``streams`` (joined by ``+``; empty for all), ``seed``,
  ``fold`` (missing if the sweep has no folds), ``run_id``: the run;
- ``status``: ``done``, ``failed``, ``stopped`` (by successive halving) or ``missing``;
- ``best_epoch``, ``epochs``: epoch kept and epochs trained; of a stopped run only the latter;
- ``task``, ``metric`` (``ccc``, ``f1``, ``accuracy``, ``total``), ``label``: the score. ``label`` is an AU or
  an expression, and empty for the whole task. Of a track that combines tasks, ``task`` is its name, ``VA`` or
  ``MTL``, and ``metric`` is ``track``;
- ``frames``: frames scored for that task; missing for a track;
- ``value``: the score, NaN if there is none; ``chance``: its chance level, NaN for single labels;
- ``delta``: ``value`` minus that of the row that trains the task alone with the same settings, of the same
  seed and fold; NaN in that row itself;
- ``error``: one line, only if the run failed;
- ``training.lr`` and the like: for every setting that the sweep varies, its value in the run as text; empty
  if it cannot matter to the run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import ledger
from pipeline.config import Config
from pipeline.plan import Plan, PlannedRun, read_plan
from pipeline.rows import loss_weight, relevant, text_of
from pipeline.scores import Column, chance_of, columns_of, values_of
from pipeline.workdir import work_dir
from stores import documents
from stores.editions import Edition, edition
from stores.errors import FacetsError
from temporal.metrics import pooled, scores_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "row", "tasks", "attention", "streams", "seed", "fold", "run_id", "status", "best_epoch", "epochs",
    "task", "metric", "label", "frames", "value", "chance", "delta", "error",
)  # fmt: skip
WHOLE = ("seed", "fold", "best_epoch", "epochs", "frames")
"""Columns of whole numbers, which may be missing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a planned run, or all folds of one row and seed together, came to.

    Attributes:
        status: ``done``, ``failed``, ``stopped`` or ``missing``.
        error: one line, only if failed.
        best_epoch: epoch kept, counted from 1; None unless done.
        epochs: epochs trained; None unless done or stopped.
        scores: value of every column that the run has; empty unless done.
        frames: frames scored, per task; empty unless done.
    """

    status: ledger.Status
    error: str = ""
    best_epoch: int | None = None
    epochs: int | None = None
    scores: Mapping[Column, float] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)


def frame(source: str | Path | Config, *, pooled: bool = False) -> "pd.DataFrame":
    """Returns the results of a sweep as the data frame that the head of this module describes.

    Args:
        source: a work directory with a ``plan.json``, or the configuration of an experiment whose work
            directory is ``work/<name>``.
        pooled: if the sweep has folds, one line for all folds together instead of one for each: the score of
            their predictions together. Without folds there is no difference.

    Raises:
        FacetsError: the sweep is not planned yet, or a result is damaged; the message says what to do.
    """
    if isinstance(source, Config):
        place = work_dir(source)
        plan, folder, shown = read_plan(place.plan, source), place.runs, source.table.edition
    else:
        work = Path(source)
        plan = read_plan(work / "plan.json")
        folder = (work if plan.shares is None else work.parent / plan.shares) / "runs"
        shown = plan.provenance.labels.edition
    runs, together = collect(plan, folder, shown)
    return together if pooled and together is not None else runs


def rules_of(plan: Plan, shown: str) -> Edition:
    """Returns the edition that a table shows, with the names that are scored."""
    names = plan.provenance.labels
    return replace(edition(shown), expressions=names.expression_names, aus=names.au_names)


def collect(plan: Plan, folder: Path, shown: str) -> "tuple[pd.DataFrame, pd.DataFrame | None]":
    """Returns the frame of the planned runs, and that of all folds together; None if there are no folds.

    Args:
        plan: the sweep, its runs in the order of the table.
        folder: with one folder per run.
        shown: name of the edition that scores are shown of.

    Raises:
        FacetsError: a result is damaged, belongs to another run, or was scored on other frames than the rest.
    """
    rules, chance = rules_of(plan, shown), plan.provenance.chance
    headline, details = columns_of(rules, (run.tasks for run in plan.runs))
    columns = headline + details
    found = [(run, read_run(folder / run.run_id, run, columns)) for run in plan.runs]
    check_frames(found, folder)
    members: dict[tuple[str, int], list[tuple[PlannedRun, Outcome]]] = {}
    for run, outcome in found:
        members.setdefault((run.name, run.seed), []).append((run, outcome))
    frame = lines(found, columns, chance)
    if plan.runs[0].fold is None:
        return frame, None
    together = [
        (replace(folds[0][0], run_id="", fold=None), pool(folds, folder, columns, rules))
        for folds in members.values()
    ]
    return frame, lines(together, columns, chance)


def check_frames(found: Sequence[tuple[PlannedRun, Outcome]], folder: Path) -> None:
    """Refuses runs that were scored on different frames: their scores cannot stand in one column.

    Raises:
        FacetsError: two runs of one fold were; the message names both.
    """
    first: dict[tuple[int | None, str], tuple[int, str]] = {}
    for run, outcome in found:
        for task, frames in outcome.frames.items():
            other, name = first.setdefault((run.fold, task), (frames, run.run_id))
            if frames != other:
                msg = (
                    f"{folder / run.run_id}: {task} was scored on {frames} frames, but on {other} in {name}:"
                    " delete the folder that was scored on other labels and run the sweep again"
                )
                raise FacetsError(msg)


def read_run(folder: Path, run: PlannedRun, columns: Sequence[Column]) -> Outcome:
    """Reads what a planned run left.

    Args:
        folder: of the run.
        run: the run.
        columns: the scores to read; those of tasks that the run does not train are left out.

    Raises:
        FacetsError: a file is damaged or belongs to another run; the message names it and the remedy.
    """
    record = ledger.read(folder, run)
    if record.status != "done":
        return Outcome(record.status, record.error, epochs=record.epochs or None)
    try:
        return scored(record.metrics, run.tasks, columns, record.best_epoch, record.epochs)
    except (ValueError, KeyError, TypeError) as error:
        found = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        msg = (
            f"{folder / ledger.RESULT} cannot be read as this run's result: {found}. Delete the folder"
            f" {folder} and run the sweep again: only this run is repeated"
        )
        raise FacetsError(msg) from error


def scored(
    metrics: Mapping[str, Any],
    tasks: Sequence[str],
    columns: Sequence[Column],
    best_epoch: int | None = None,
    epochs: int | None = None,
) -> Outcome:
    """Returns the outcome of a run with these metrics: failed if a score of a whole task is not finite.

    Raises:
        KeyError, TypeError, ValueError: the metrics are not those of the columns.
    """
    scores = values_of(metrics, tasks, columns)
    if broken := [c for c, value in scores.items() if not c.label and not math.isfinite(value)]:
        return Outcome("failed", f"{broken[0].header} is not finite: training diverged")
    frames = {task: _count(metrics[task], "frames") for task in tasks}
    return Outcome("done", "", best_epoch, epochs, scores, frames)


def pool(
    folds: Sequence[tuple[PlannedRun, Outcome]], folder: Path, columns: Sequence[Column], rules: Edition
) -> Outcome:
    """Returns the scores of all folds of one row and seed, over the frames of their clips together.

    Args:
        folds: a run per fold, and what it came to.
        folder: of the runs.
        columns: the scores to compute.
        rules: the edition with the names that are scored.

    Returns:
        The outcome. It is not done if a run of a fold is not: then there is no score of all clips.
    """
    for _, outcome in folds:
        if outcome.status != "done":
            return Outcome(outcome.status, outcome.error)
    units = [unit for run, _ in folds for unit in ledger.units(folder / run.run_id).values()]
    return scored(scores_of(pooled(units), rules), folds[0][0].tasks, columns)


def lines(
    found: Sequence[tuple[PlannedRun, Outcome]],
    columns: Sequence[Column],
    chance: Mapping[str, Mapping[str, float]],
) -> "pd.DataFrame":
    """Returns the frame that the head of this module describes."""
    import pandas as pd

    rows = {run.name: run for run, _ in found}
    alone, varied = baselines(rows), varied_settings(list(rows.values()))
    scores = {(run.name, run.seed, run.fold): outcome.scores for run, outcome in found}
    levels = {column: chance_of(chance, column) for column in columns}
    filled: list[tuple[object, ...]] = []
    for run, outcome in found:
        own = (run.name, "+".join(run.tasks), run.attention, "+".join(run.streams), run.seed, run.fold)
        head = (*own, run.run_id, outcome.status, outcome.best_epoch, outcome.epochs)
        settings = [setting_text(run, key) for key in varied]
        for column in columns:
            if column.trained_by(run.tasks):
                value = outcome.scores.get(column, math.nan)
                base = scores.get((alone[run.name].get(column.task, ""), run.seed, run.fold), {})
                what = (*column.key, outcome.frames.get(column.task), value, levels[column])
                filled.append((*head, *what, value - base.get(column, math.nan), outcome.error, *settings))
    made = pd.DataFrame(filled, columns=[*COLUMNS, *(f"training.{key}" for key in varied)])
    return made.astype(dict.fromkeys(WHOLE, "Int64") | dict.fromkeys(("value", "chance", "delta"), "float64"))


def varied_settings(rows: Sequence[PlannedRun]) -> list[str]:
    """Returns the settings that the sweep varies, in the order of the configuration."""
    own = {key for run in rows for key in run.settings}
    if len({run.training.get("attention") for run in rows if run.attention}) > 1:
        own.add("attention")
    return [key for key in rows[0].training if key in own]


def setting_text(run: PlannedRun, key: str) -> str:
    """Returns a setting of a run as text, such as ``0.0003`` or ``A:1,AU:0.1``; empty if it cannot matter."""
    if key not in relevant(run.tasks, run.training, attention=run.attention):
        return ""
    if key == "loss_weights":
        return text_of({task: loss_weight(run.training, task) for task in run.tasks})
    return text_of(run.training[key])


def baselines(rows: Mapping[str, PlannedRun]) -> dict[str, dict[str, str]]:
    """Returns, per row and task, the row that trains the task alone, all that matters to it being equal.

    A row is not its own baseline.
    """

    def alone(task: str, run: PlannedRun) -> bytes:
        return documents.canonical(
            [task, list(run.streams), relevant((task,), run.training, attention=False)]
        )

    single = {
        alone(run.tasks[0], run): name
        for name, run in rows.items()
        if len(run.tasks) == 1 and not run.attention
    }
    found = {
        name: {task: single.get(alone(task, run), name) for task in run.tasks} for name, run in rows.items()
    }
    return {
        name: {task: base for task, base in tasks.items() if base != name} for name, tasks in found.items()
    }


def _count(record: Mapping[str, Any], key: str) -> int:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{key} is {value!r}, expected a whole number"
        raise TypeError(msg)
    return value
