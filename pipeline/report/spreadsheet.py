"""The table as CSV: long, one line per run and score, and wide, one line per combination.

Values are not rounded: reading them back gives the same float64.
"""

import csv
import io

from pipeline.report.summary import Cell, Table

STATUSES = ("done", "failed", "stopped", "missing")


def as_long_csv(table: Table) -> str:
    """Returns the frame of ``pipeline.results``; ``attention`` is 0 or 1, and a missing value is empty.

    If the sweep has folds, the scores over all folds together follow, with ``pooled`` in the column ``fold``.
    """
    import pandas as pd

    frame = table.runs
    if table.pooled is not None:
        frame = pd.concat([frame.astype({"fold": object}), table.pooled.assign(fold="pooled")])
    return str(frame.astype({"attention": int}).to_csv(index=False, lineterminator="\n"))


def as_wide_csv(table: Table) -> str:
    """Returns one line per row: varied settings, counts of runs, median epochs, each score over its seeds.

    A score such as ``AU.total`` has the columns ``AU.total mean``, ``sd`` (sample standard deviation), ``n``
    (seeds) and ``delta`` (mean paired difference to the single-task row). If the sweep has folds, also ``fold
    mean`` and ``fold sd``, over folds. Single AUs and expressions are in the long file only.
    """
    scores = [column for column in table.columns + table.details if not column.label]
    settings = [name for name in table.runs.columns if name.startswith("training.")]
    own = table.runs.drop_duplicates("row").set_index("row")[settings]
    parts = ["mean", "sd", "n", "delta"] + ([] if table.pooled is None else ["fold mean", "fold sd"])
    head = ["row", "tasks", "attention", *settings, "planned", *STATUSES, "best_epoch", "epochs"]
    lines = [[*head, *(f"{column.task}.{column.metric} {part}" for column in scores for part in parts)]]
    for row in table.rows:
        line: list[object] = [row.name, "+".join(row.tasks), int(row.attention), *own.loc[row.name]]
        line += [row.planned, *(row.counts.get(status, 0) for status in STATUSES), *(row.epochs or ("", ""))]
        for column in scores:
            line += _cell(row.cells.get(column))
            line += [] if table.pooled is None else _cell(row.folds.get(column))[:2]
        lines.append(line)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _cell(cell: Cell | None) -> list[object]:
    return [None] * 4 if cell is None else [cell.mean, cell.sd, cell.n, cell.delta]
