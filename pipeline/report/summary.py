"""The results of a sweep as a table: a row per combination and settings, scores aggregated over seeds.

If the sweep has folds, a score is that of the predictions of all folds together; the mean over folds stands
apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import results
from pipeline.config import Config
from pipeline.plan import Plan
from pipeline.scores import Column, chance_of, columns_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Cell:
    """One score of one row over its finished seeds, or over its folds.

    Attributes:
        mean: arithmetic mean.
        sd: sample standard deviation (``ddof = 1``); None for a single value.
        n: number of seeds, or of folds.
        best: whether no other row has a higher mean in this column; False if all rows are alike.
        delta: mean over shared seeds of the difference to the single-task row with the same settings; None
            for that row itself, or if there is no such row or no shared seed.
    """

    mean: float
    sd: float | None
    n: int
    best: bool
    delta: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One combination with its settings, and its scores.

    Attributes:
        name: such as ``A+AU+Attn``, followed by the settings that differ from those of the sweep.
        tasks: tasks trained.
        attention: whether multi-task attention is on.
        seeds: number of seeds that are planned.
        counts: status -> number of runs.
        epochs: medians over finished runs of the epoch kept and of the epochs trained; None without any.
        cells: scores over seeds; a column without any finished run is absent.
        folds: scores over folds, each the mean of its seeds; empty if the sweep has no folds.
    """

    name: str
    tasks: tuple[str, ...]
    attention: bool
    seeds: int
    counts: Mapping[str, int]
    epochs: tuple[float, float] | None
    cells: Mapping[Column, Cell]
    folds: Mapping[Column, Cell] = field(default_factory=dict)

    @property
    def planned(self) -> int:
        """The number of its runs."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A sweep's results, rows in the order of the plan.

    Attributes:
        columns: the four headline scores, in the order AU, EXPR, V, A, then those of tracks that combine
            tasks, as far as any row trains them all.
        details: everything else that is scored: F1 and accuracy apart, single AUs, single expressions.
        rows: one per combination.
        config: the experiment.
        plan: its sweep, and what the numbers rest on.
        runs: the frame of ``pipeline.results``.
        pooled: the same over all folds together; None if the sweep has no folds.
    """

    columns: tuple[Column, ...]
    details: tuple[Column, ...]
    rows: tuple[Row, ...]
    config: Config
    plan: Plan
    runs: "pd.DataFrame"
    pooled: "pd.DataFrame | None" = None

    def chance(self, column: Column) -> float | None:
        """Returns the chance level of ``column``; None if none is known, as for single labels."""
        return chance_of(self.plan.provenance.chance, column)

    @property
    def each_run(self) -> "pd.DataFrame":
        """One line per run."""
        return self.runs.drop_duplicates("run_id")


def build_table(config: Config, plan: Plan, folder: Path) -> Table:
    """Reads the planned runs and aggregates their scores; trains and writes nothing.

    Args:
        config: the experiment.
        plan: its sweep; runs that are not in it are left out.
        folder: with one folder per run.

    Raises:
        FacetsError: a result is damaged or belongs to another run; the message names the file and the remedy.
    """
    shown = config.table.edition
    columns, details = columns_of(results.rules_of(plan, shown), (run.tasks for run in plan.runs))
    runs, pooled = results.collect(plan, folder, shown)
    scores = runs if pooled is None else pooled
    cells = aggregate(scores, columns + details)
    folds: dict[str, dict[Column, Cell]] = {}
    if pooled is not None:
        over_seeds = runs.groupby(["row", "fold", "task", "metric", "label"], sort=False)
        folds = aggregate(over_seeds[["value", "delta"]].mean().reset_index(), columns + details)
    each = runs.drop_duplicates("run_id")
    counts = each.groupby(["row", "status"]).size()
    medians = each[each.status == "done"].groupby("row")[["best_epoch", "epochs"]].median()
    epochs = {name: (float(best), float(trained)) for name, best, trained in medians.itertuples()}
    rows = tuple(
        Row(
            name=run.name,
            tasks=run.tasks,
            attention=bool(run.attention),
            seeds=len({other.seed for other in plan.runs if other.name == run.name}),
            counts=counts[run.name].to_dict(),
            epochs=epochs.get(run.name),
            cells=cells.get(run.name, {}),
            folds=folds.get(run.name, {}),
        )
        for run in {run.name: run for run in plan.runs}.values()
    )
    return Table(columns, details, rows, config, plan, runs, pooled)


def aggregate(scores: "pd.DataFrame", columns: Sequence[Column]) -> dict[str, dict[Column, Cell]]:
    """Returns row -> column -> cell: mean and deviation of the values that there are, the best marked.

    If all rows of a column are alike, as for a class that nobody predicts, none is the best.
    """
    known = scores.dropna(subset="value")
    keys = ["row", "task", "metric", "label"]
    found = known.groupby(keys, sort=False).agg(
        mean=("value", "mean"), sd=("value", "std"), n=("value", "size"), delta=("delta", "mean")
    )
    means = found["mean"].groupby(level=keys[1:])
    alike = (means.transform("nunique") == 1) & (means.transform("size") > 1)
    found["best"] = (found["mean"] == means.transform("max")) & ~alike
    named = {column.key: column for column in columns}
    cells: dict[str, dict[Column, Cell]] = {}
    for (row, *key), mean, sd, n, delta, best in found.itertuples(name=None):
        cell = Cell(mean, None if n == 1 else sd, n, best, None if delta != delta else delta)
        cells.setdefault(row, {})[named[tuple(key)]] = cell
    return cells
