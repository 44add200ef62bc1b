"""The table as CSV: long, one line per run and score, and wide, one line per combination.

Not rounded: values are written so that reading them back gives the same float64.
"""

import csv
import io
from collections.abc import Iterable

from pipeline.report.scores import Column, Status
from pipeline.report.table import Table, paired_delta

LONG = (
    "row",
    "tasks",
    "attention",
    "seed",
    "run_id",
    "status",
    "best_epoch",
    "epochs",
    "task",
    "metric",
    "label",
    "frames",
    "value",
    "chance",
    "delta",
    "error",
)


def as_long_csv(table: Table) -> str:
    """Returns one line per row, seed, task and metric.

    Every planned run has a line for every score of its tasks, so the shape of the file does not depend on
    what failed. The columns:

    - ``row``, ``tasks`` (joined by ``+``), ``attention`` (0 or 1), ``seed``, ``run_id``: the run;
    - ``status``: ``done``, ``failed``, ``stopped`` (by successive halving) or ``missing``; ``error``: one
      line, only if failed;
    - ``best_epoch``, ``epochs``: epoch kept and epochs trained; of a stopped run only the latter;
    - ``task``, ``metric`` (``ccc``, ``f1``, ``accuracy``, ``total``), ``label``: what was scored; ``label``
      is an AU or an expression, and empty for the whole task; of a track that combines tasks, ``task`` is its
      name, ``VA`` or ``MTL``, and ``metric`` is ``track``;
    - ``frames``: frames scored for that task; empty for a track;
    - ``value``: the score, empty if there is none; ``chance``: its chance level, empty for single labels;
    - ``delta``: ``value`` minus that of the single-task row with the same seed and settings; empty in that
      row itself;
    - ``training.lr`` and the like: for every setting that the sweep varies what the run has, empty where the
      setting cannot matter to it.
    """
    rows = {row.name: row for row in table.rows}
    lines: list[tuple[object, ...]] = []
    for row in table.rows:
        columns = [column for column in table.columns + table.details if column.trained_by(row.tasks)]
        baselines = {task: rows[name].runs for task, name in row.baselines.items()}
        deltas = {
            column: paired_delta(row.runs, baselines.get(column.task, ()), column) for column in columns
        }
        for run in row.runs:
            done = run.status == "done"
            head = (row.name, "+".join(row.tasks), int(row.attention), run.seed, run.run_id, run.status)
            epochs = (run.best_epoch if done else None, run.epochs or None)
            for column in columns:
                scored = (run.frames.get(column.task), run.scores.get(column), table.chance(column))
                what = (column.task, column.metric, column.label)
                delta = deltas[column].get(run.seed)
                lines.append((*head, *epochs, *what, *scored, delta, run.error, *row.settings.values()))
    return _text([[*LONG, *_settings(table)], *lines])


def as_wide_csv(table: Table) -> str:
    """Returns one line per row: varied settings, counts of runs, median epochs, each score over its seeds.

    A score such as ``AU.total`` has the columns ``AU.total mean``, ``sd`` (sample standard deviation), ``n``
    (seeds) and ``delta`` (mean paired difference to the single-task row). Single AUs and expressions are in
    the long file only.
    """
    scores = [column for column in table.columns + table.details if not column.label]
    statuses: tuple[Status, ...] = ("done", "failed", "stopped", "missing")
    head = ["row", "tasks", "attention", *_settings(table), "planned", *statuses, "best_epoch", "epochs"]
    head += [f"{_key(column)} {part}" for column in scores for part in ("mean", "sd", "n", "delta")]
    lines: list[list[object]] = []
    for row in table.rows:
        line: list[object] = [
            row.name,
            "+".join(row.tasks),
            int(row.attention),
            *row.settings.values(),
            len(row.runs),
        ]
        line += [*(row.count(status) for status in statuses), *(row.epochs or (None, None))]
        for column in scores:
            cell = row.cells.get(column)
            line += [None] * 4 if cell is None else [cell.mean, cell.sd, cell.n, cell.delta]
        lines.append(line)
    return _text([head, *lines])


def _settings(table: Table) -> list[str]:
    return [f"training.{key}" for key in table.rows[0].settings]


def _key(column: Column) -> str:
    return f"{column.task}.{column.metric}"


def _text(lines: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
