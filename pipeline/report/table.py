"""The results table of a sweep: the planned runs aggregated over seeds, a row per combination and settings.

Not a trainer and not a writer: ``pipeline.stage2.driver`` makes results, ``pipeline.report`` writes a
``Table``.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.report.scores import Column, Planned, Run, Status, columns_of, read_run, track_columns
from pipeline.rows import loss_weight, relevant, text_of
from stores import documents
from stores.documents import Json
from stores.editions import Edition, edition
from stores.errors import ConfigError, FacetsError
from temporal.metrics import track_total


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
    """One score of one row over its finished seeds.

    Attributes:
        mean: arithmetic mean.
        sd: sample standard deviation (``ddof = 1``); None for a single seed.
        n: number of seeds.
        best: whether no other row has a higher mean in this column; False where all rows are alike.
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
    """One combination with its settings: its runs, one per seed, and their aggregated scores.

    Attributes:
        name: such as ``A+AU+Attn``, followed by the settings that differ from those of the sweep.
        tasks: tasks trained.
        attention: whether multi-task attention is on.
        settings: for every setting that the sweep varies, what this row has, as text; empty where the setting
            cannot matter to the row.
        baselines: for each task the name of the row that trains it alone with the same settings, if there is
            one and it is another.
        runs: every planned run, also those that failed, were stopped or are missing.
        cells: aggregated scores; a column without any finished run is absent.
    """

    name: str
    tasks: tuple[str, ...]
    attention: bool
    settings: Mapping[str, str]
    baselines: Mapping[str, str]
    runs: tuple[Run, ...]
    cells: Mapping[Column, Cell]

    def count(self, status: Status) -> int:
        """Returns how many of the row's runs have this status."""
        return sum(run.status == status for run in self.runs)

    @property
    def epochs(self) -> tuple[float, float] | None:
        """Medians over finished runs of the epoch kept and of the epochs trained; None without such a run."""
        done = [run for run in self.runs if run.status == "done"]
        if not done:
            return None
        return statistics.median(r.best_epoch for r in done), statistics.median(r.epochs for r in done)


@dataclass(frozen=True, slots=True)
class Table:
    """A sweep's results, rows in the order of the plan.

    Attributes:
        columns: the four headline scores, in the order AU, EXPR, V, A, then those of tracks that combine
            tasks, as far as any row trains them all.
        details: everything else that is scored: F1 and accuracy apart, single AUs, single expressions.
        rows: one per combination.
        provenance: what the numbers rest on.
    """

    columns: tuple[Column, ...]
    details: tuple[Column, ...]
    rows: tuple[Row, ...]
    provenance: Provenance

    def chance(self, column: Column) -> float | None:
        """Returns the chance level of ``column``; None where none is known, as for single labels."""
        levels = self.provenance.chance
        if column.track is not None:
            return track_total(levels, column.track) if column.trained_by(levels) else None
        return None if column.label else levels.get(column.task, {}).get(column.metric)


def build_table(runs_dir: Path, plan: Sequence[Planned], provenance: Provenance) -> Table:
    """Collects the planned runs from ``runs_dir`` and aggregates them over seeds; trains and writes nothing.

    Args:
        runs_dir: folder with one folder per run id; runs that are not in the plan are left out.
        plan: the runs of the sweep, in table order.
        provenance: what to print under the table.

    Raises:
        ConfigError: the plan is empty or contradicts itself, the edition is unknown, or a planned task has no
            chance level.
        FacetsError: a result is damaged or belongs to another run; the message names the file and the remedy.
    """
    columns, details = columns_of(provenance.scored())
    _check_plan(plan, columns, provenance)
    combined = track_columns(provenance.scored())
    columns += tuple(column for column in combined if any(column.trained_by(p.tasks) for p in plan))
    members: dict[str, list[Planned]] = {}
    for planned in plan:
        members.setdefault(planned.name, []).append(planned)
    runs = {
        name: tuple(read_run(runs_dir, p, columns + details) for p in row) for name, row in members.items()
    }
    _check_frames(runs_dir, [run for row in runs.values() for run in row])
    first = {name: row[0] for name, row in members.items()}
    baselines = _baselines(first)
    cells = _cells(runs, baselines, columns + details)
    varied = _varied(list(first.values()))
    rows = tuple(
        Row(
            name=name,
            tasks=tuple(planned.tasks),
            attention=planned.attention,
            settings={key: setting_text(planned, key) for key in varied},
            baselines=baselines[name],
            runs=runs[name],
            cells=cells[name],
        )
        for name, planned in first.items()
    )
    return Table(columns, details, rows, provenance)


def _varied(rows: Sequence[Planned]) -> list[str]:
    """Returns the settings that the sweep varies, in the order of the configuration."""
    own = {key for planned in rows for key in planned.settings}
    if len({planned.training.get("attention") for planned in rows if planned.attention}) > 1:
        own.add("attention")
    return [key for key in rows[0].training if key in own]


def setting_text(planned: Planned, key: str) -> str:
    """Returns a setting of a run as text, such as ``0.0003`` or ``A:1,AU:0.1``; empty if it cannot matter."""
    if key not in relevant(planned.tasks, planned.training, attention=planned.attention):
        return ""
    if key == "loss_weights":
        return text_of({task: loss_weight(planned.training, task) for task in planned.tasks})
    return text_of(planned.training[key])


def _baselines(rows: Mapping[str, Planned]) -> dict[str, dict[str, str]]:
    """Returns, per row and task, the row that trains the task alone, all that matters to it being equal."""

    def alone(task: str, training: Mapping[str, Json]) -> bytes:
        return documents.canonical([task, relevant((task,), training, attention=False)])

    single = {
        alone(planned.tasks[0], planned.training): name
        for name, planned in rows.items()
        if len(planned.tasks) == 1 and not planned.attention
    }
    found = {
        name: {task: single.get(alone(task, planned.training), name) for task in planned.tasks}
        for name, planned in rows.items()
    }
    return {
        name: {task: base for task, base in tasks.items() if base != name} for name, tasks in found.items()
    }


def paired_delta(runs: Sequence[Run], baseline: Sequence[Run], column: Column) -> dict[int, float]:
    """Returns, per seed that both rows finished, the score of ``runs`` minus that of ``baseline``."""
    reference = {run.seed: run.scores[column] for run in baseline if column in run.scores}
    return {
        run.seed: run.scores[column] - reference[run.seed]
        for run in runs
        if column in run.scores and run.seed in reference
    }


def _check_plan(plan: Sequence[Planned], columns: Sequence[Column], provenance: Provenance) -> None:
    if not plan:
        msg = "the sweep plans no runs, so there is no table: add rows and seeds under 'sweep:'"
        raise ConfigError(msg)
    seen: dict[str, Planned] = {}
    seeds: set[tuple[str, int]] = set()
    for planned in plan:
        first = seen.setdefault(planned.name, planned)
        if tuple(first.tasks) != tuple(planned.tasks) or first.attention != planned.attention:
            msg = (
                f"row {planned.name!r} stands for two combinations: {'+'.join(first.tasks)} (attention "
                f"{first.attention}) and {'+'.join(planned.tasks)} (attention {planned.attention})"
            )
            raise ConfigError(msg)
        if (planned.name, planned.seed) in seeds:
            msg = (
                f"row {planned.name!r} plans seed {planned.seed} twice: a row is averaged over seeds alone,"
                " so remove one of the two"
            )
            raise ConfigError(msg)
        seeds.add((planned.name, planned.seed))
        for column in columns:
            if column.task in planned.tasks and column.metric not in provenance.chance.get(column.task, {}):
                msg = f"no chance level for {column.header}: the table states one beside each score"
                raise ConfigError(msg)


def _check_frames(runs_dir: Path, runs: Sequence[Run]) -> None:
    """Refuses runs that were scored on different frames: their scores cannot stand in one column."""
    first: dict[str, Run] = {}
    for run in runs:
        for task, frames in run.frames.items():
            other = first.setdefault(task, run)
            if frames != other.frames[task]:
                msg = (
                    f"{runs_dir / run.run_id / 'result.json'}: {task} was scored on {frames} frames, but on"
                    f" {other.frames[task]} in {other.run_id}: delete the folder that was scored on other"
                    " labels and run the sweep again"
                )
                raise FacetsError(msg)


def _cells(
    runs: Mapping[str, Sequence[Run]],
    baselines: Mapping[str, Mapping[str, str]],
    columns: Sequence[Column],
) -> dict[str, dict[Column, Cell]]:
    """Aggregates over seeds and marks the best row of each column."""
    cells: dict[str, dict[Column, Cell]] = {name: {} for name in runs}
    for column in columns:
        values = {name: [r.scores[column] for r in row if column in r.scores] for name, row in runs.items()}
        means = {name: statistics.fmean(row) for name, row in values.items() if row}
        # Of several that are all alike, such as those of a class that nobody predicts, none is the best.
        highest = max(means.values(), default=0.0) if len(means) == 1 or len({*means.values()}) > 1 else None
        for name, mean in means.items():
            row = values[name]
            baseline = baselines[name].get(column.task)
            deltas = [] if baseline is None else [*paired_delta(runs[name], runs[baseline], column).values()]
            cells[name][column] = Cell(
                mean=mean,
                sd=statistics.stdev(row) if len(row) > 1 else None,
                n=len(row),
                best=mean == highest,
                delta=statistics.fmean(deltas) if deltas else None,
            )
    return cells
