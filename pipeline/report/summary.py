"""The results of a sweep as a table: a row per combination and settings, scores aggregated over seeds.

If the sweep has folds, a score is that of the predictions of all folds together; the mean over folds stands
apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import results
from pipeline.plan import PlannedRun
from pipeline.scores import Column, chance_of, columns_of
from stores.editions import Edition, edition

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a reader must know to judge the numbers; printed under every table.

    Attributes:
        corpus: kind of corpus, such as ``rendered`` or ``affwild2``.
        corpus_note: one sentence saying what the corpus is and is not.
        stream: name of the feature stream.
        backbone: architecture of the feature extractor.
        weights: name of its weights.
        weights_sha256: SHA-256 of the weights, hex; the first 12 digits are printed; None if not known.
        weights_trained_on: corpora that the weights were trained on; empty if not known.
        imported: whether others made the features, so that their origin is what was stated, not observed.
        edition: ABAW edition whose label lists and totals are used.
        split: split that is scored.
        clips: number of clips in that split.
        frames: labelled frames of that split, per task.
        seeds: the seeds of the sweep.
        selection: how the best epoch is chosen, a phrase such as ``highest mean score of the tasks trained``.
        chance: score of a predictor that ignores the input, on the same frames: task -> metric -> value.
        chance_rule: what that predictor is, a phrase such as ``best constant prediction``.
        epochs: most epochs that a run may train.
        patience: epochs without improvement after which a run stops.
        facets_version: version of this program.
        features_digest: digest of the feature specification, hex; the first 12 digits are printed.
        expressions: classes that are scored, where they are not those of the edition.
        aus: action units that are scored, where they are not those of the edition.
        rules: what the rules of the edition have against rows of the table, one sentence each.
    """

    corpus: str
    corpus_note: str
    stream: str
    backbone: str
    weights: str
    weights_sha256: str | None
    weights_trained_on: tuple[str, ...]
    imported: bool
    edition: str
    split: str
    clips: int
    frames: Mapping[str, int]
    seeds: tuple[int, ...]
    selection: str
    chance: Mapping[str, Mapping[str, float]]
    chance_rule: str
    epochs: int
    patience: int
    facets_version: str
    features_digest: str
    expressions: tuple[str, ...] = ()
    aus: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def scored(self) -> Edition:
        """Returns the edition with the names that are scored."""
        rules = edition(self.edition)
        return replace(rules, expressions=self.expressions or rules.expressions, aus=self.aus or rules.aus)


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
        provenance: what the numbers rest on.
        runs: the frame of ``pipeline.results``.
        pooled: the same over all folds together; None if the sweep has no folds.
    """

    columns: tuple[Column, ...]
    details: tuple[Column, ...]
    rows: tuple[Row, ...]
    provenance: Provenance
    runs: "pd.DataFrame"
    pooled: "pd.DataFrame | None" = None

    def chance(self, column: Column) -> float | None:
        """Returns the chance level of ``column``; None if none is known, as for single labels."""
        return chance_of(self.provenance.chance, column)

    @property
    def each_run(self) -> "pd.DataFrame":
        """One line per run."""
        return self.runs.drop_duplicates("run_id")


def build_table(folder: Path, plan: Sequence[PlannedRun], provenance: Provenance) -> Table:
    """Reads the planned runs and aggregates their scores; trains and writes nothing.

    Args:
        folder: with one folder per run; runs that are not in the plan are left out.
        plan: the runs of the sweep, in table order.
        provenance: what to print under the table.

    Raises:
        FacetsError: a result is damaged or belongs to another run; the message names the file and the remedy.
    """
    rules = provenance.scored()
    columns, details = columns_of(rules, (run.tasks for run in plan))
    runs, pooled = results.collect(folder, plan, columns + details, provenance.chance, rules)
    scores = runs if pooled is None else pooled
    cells = aggregate(scores, columns + details)
    folds = {} if pooled is None else aggregate(over_seeds(runs), columns + details)
    each = runs.drop_duplicates("run_id")
    counts = each.groupby(["row", "status"]).size()
    medians = each[each.status == "done"].groupby("row")[["best_epoch", "epochs"]].median()
    epochs = {name: (float(best), float(trained)) for name, best, trained in medians.itertuples()}
    rows = tuple(
        Row(
            name=run.name,
            tasks=run.tasks,
            attention=bool(run.attention),
            seeds=len({other.seed for other in plan if other.name == run.name}),
            counts=counts[run.name].to_dict(),
            epochs=epochs.get(run.name),
            cells=cells.get(run.name, {}),
            folds=folds.get(run.name, {}),
        )
        for run in {run.name: run for run in plan}.values()
    )
    return Table(columns, details, rows, provenance, runs, pooled)


def over_seeds(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the scores of each fold, as means over its seeds."""
    keys = ["row", "fold", "task", "metric", "label"]
    return runs.groupby(keys, sort=False)[["value", "delta"]].mean().reset_index()


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
