"""The words and number formats that all forms of the table share: empty cells, epochs, footnotes."""

from collections.abc import Callable, Mapping

from pipeline.data import SCORED
from pipeline.report.summary import Cell, Row, Table
from pipeline.rules import found_breaches, sentences
from pipeline.scores import Column
from stores import FeatureSpec
from temporal.tasks import TASKS

NOT_TRAINED = "---"

TRACK_SCORES = {
    "VA": "is the mean of the two CCC",
    "MTL": "is the mean of the two CCC, plus F1 (EXPR), plus F1 (AU), at most 3",
}
"""What the score of a track is made of, see ``temporal.metrics.track_total``."""

SELECTION = "highest mean over the trained tasks of CCC, or of the edition's score for AU and EXPR"
CHANCE_RULE = "the best that can be expected without seeing an image, from label frequencies alone"

UNSCORED = ("failed", "missing", "stopped")
"""What keeps a run from having scores, the gravest first."""

BUNDLED_BACKBONE = "narrow_resnet50"
"""The one backbone that ships with this program; it has seen rendered faces only."""


def decimal(value: float) -> str:
    """Returns ``value`` with three decimals, never ``-0.000``: over a few seeds the fourth is noise."""
    return f"{value:z.3f}"


def no_score(row: Row, column: Column) -> str:
    """Returns the word in a cell without a score: not trained, failed, stopped or missing."""
    if not column.trained_by(row.tasks):
        return NOT_TRAINED
    return next((status for status in UNSCORED if row.counts.get(status)), "undefined")


def epochs(row: Row) -> str:
    """Returns the cell Best/Epochs, such as ``12/20``, ``12/20, failed (1/3)`` or ``missing (3/3)``."""
    medians = [] if row.epochs is None else ["{:g}/{:g}".format(*row.epochs)]  # 12.5 is one of two runs
    lacking = [f"{status} ({n}/{row.planned})" for status in UNSCORED if (n := row.counts.get(status))]
    return ", ".join(medians + lacking)


def footnotes(table: Table) -> list[tuple[str, str]]:
    """Returns the notes under the table, as pairs of a title and a sentence or two."""
    facts = table.plan.provenance
    specifications = ", ".join(spec.digest()[:12] for spec in facts.streams.values())
    notes = [
        ("Scores", _scores(table)),
        ("Metrics", _metrics(table)),
        ("Chance", _chance(table)),
        ("Best/Epochs", _selection(table)),
        ("Data", _data(table)),
        *(("Backbone", _backbone(name, spec, len(facts.streams))) for name, spec in facts.streams.items()),
        ("Software", f"facets {facts.facets_version}, feature specification {specifications}."),
    ]
    if text := _stopped(table):
        notes.insert(1, ("Stopped", text))
    if table.pooled is not None:
        notes.insert(1, ("Folds", _folds(table)))
    shown = table.config.table.edition
    notes += [("Rules", said) for said in sentences(shown, found_breaches(table.config, table.plan))]
    return notes + [("Failed", f"{name}: {error}") for name, error in failures(table).items()]


def scored_clips(table: Table) -> str:
    """Returns which clips are scored: ``validation split``, or ``all folds together``."""
    return f"{SCORED} split" if table.pooled is None else "all folds together"


def failures(table: Table) -> dict[str, str]:
    """Returns the runs that failed, such as ``V, seed 1 (run 0123456789ab)``, with the reason."""
    failed = table.each_run[table.each_run.status == "failed"]
    fold = "" if table.pooled is None else ", fold {0.fold}"
    return {
        ("{0.row}, seed {0.seed}" + fold + " (run {0.run_id})").format(run): run.error
        for run in failed.itertuples()
    }


def grids(table: Table) -> list[tuple[str, Callable[[Row], Mapping[Column, Cell]], Callable[[Row], int]]]:
    """Returns the blocks of the table: title, the cells of a row, and how many values a full cell has."""
    found: list[tuple[str, Callable[[Row], Mapping[Column, Cell]], Callable[[Row], int]]] = [
        ("", lambda row: row.cells, lambda row: row.seeds)
    ]
    if table.pooled is not None:
        count = int(table.runs.fold.nunique())
        found.append((f"Mean over {count} folds", lambda row: row.folds, lambda _: count))
    return found


def _scores(table: Table) -> str:
    seeds = table.config.planned.seeds
    listed = ", ".join(map(str, seeds))
    parts = [f"one seed ({listed}), so their spread is unknown."]
    if len(seeds) > 1:
        parts = [f"mean ± sample standard deviation over {len(seeds)} seeds ({listed})."]
    if any(row.counts.get("done") != row.planned for row in table.rows):
        parts.append("A row with fewer finished seeds states its n.")
    parts.append(f"Bold: highest mean of the column. {NOT_TRAINED}: task not trained.")
    if any(row.attention for row in table.rows):
        parts.append(
            "+Attn: with multi-task attention, which gates the features that each task's head reads."
        )
    return " ".join(parts)


def _folds(table: Table) -> str:
    """How the scores of folds come about, and which folds are not there."""
    parts = [
        f"each clip is predicted by the runs of the one fold of {table.runs.fold.nunique()} that did not"
        " train on it. A score is that of the predictions of all folds together, so a seed with an unfinished"
        " fold has none. The mean over folds is the mean ± sample standard deviation over the folds, each"
        " averaged over its seeds."
    ]
    left = table.each_run[table.each_run.status != "done"]
    for (row, seed), folds in left.groupby(["row", "seed"], sort=False).fold:
        parts.append(f"Without a score: {row}, seed {seed}, fold {', '.join(map(str, folds))}.")
    return " ".join(parts)


def _stopped(table: Table) -> str:
    """Runs that successive halving ended: their scores are of fewer epochs and stay out of the table."""
    ended = sorted(table.each_run[table.each_run.status == "stopped"].epochs)
    if not ended:
        return ""
    counts = ", ".join(f"{ended.count(epoch)} after epoch {epoch}" for epoch in dict.fromkeys(ended))
    return (
        f"{len(ended)} of {len(table.each_run)} runs were ended by successive halving ({counts}), because"
        " other settings of the same combination scored higher by then. They have no score here."
    )


def _metrics(table: Table) -> str:
    f1 = "F1 (AU) is the mean over AUs, F1 (EXPR) the mean over expressions"
    if Column("AU", "total") in table.columns:
        f1 = "Total (AU) = 0.5 F1 + 0.5 accuracy, Total (EXPR) = 0.67 macro F1 + 0.33 accuracy"
    tracks = [f"{c.header} {TRACK_SCORES[c.task]}" for c in table.columns if c.task in TRACK_SCORES]
    scored = f"; score of the track: {'; '.join(tracks)}" if tracks else ""
    return (
        f"{f1} ({table.config.table.edition}){scored}. All scores are over the frames of all clips together."
    )


def _chance(table: Table) -> str:
    """Chance of every headline score, F1 and accuracy apart: half of an AU total can be had for free."""
    parts = []
    for column in table.columns:
        level = table.chance(column)
        if level is None:
            continue
        apart = [
            f"{name} {decimal(value)}"
            for name, metric in (("F1", "f1"), ("accuracy", "accuracy"))
            if column.track is None
            and TASKS[column.task].names
            and column.metric != metric
            and (value := table.chance(Column(column.task, metric))) is not None
        ]
        parts.append(f"{column.header} {decimal(level)}" + (f" ({', '.join(apart)})" if apart else ""))
    return f"{'; '.join(parts)}: {CHANCE_RULE}, on the same frames."


def _selection(table: Table) -> str:
    shared = table.config.training
    own = {"training.epochs", "training.patience"} & set(table.runs.columns)
    patience = f"stopped after {shared.patience} without improvement" if shared.patience else "never stopped"
    return (
        f"epoch kept / epochs trained, medians over seeds; at most {shared.epochs}, {patience}"
        f"{', unless the row says otherwise' if own else ''}."
        f" Best epoch chosen on the {SCORED} split ({SELECTION}), so scores are optimistic."
    )


def _data(table: Table) -> str:
    facts = table.plan.provenance
    scored = (table.runs if table.pooled is None else table.pooled).groupby("task").frames.max().dropna()
    frames = []
    for task, labelled in facts.frames.items():
        differs = scored.get(task, labelled) != labelled
        frames.append(f"{task} {labelled:,}" + (f" ({scored[task]:,} scored)" if differs else ""))
    clips = f"{scored_clips(table).capitalize()}, {facts.clips:,} clips"
    note = f"{facts.corpus}: {facts.corpus_note.rstrip('.')}"
    return f"{note}. {clips}; labelled frames: {', '.join(frames)}."


def _backbone(name: str, spec: FeatureSpec, streams: int) -> str:
    trained_on = ", ".join(spec.weights_trained_on) or "unknown data"
    digest = "unknown" if spec.weights_sha256 is None else spec.weights_sha256[:12]
    text = f"{spec.backbone}, weights {spec.weights} (SHA-256 {digest}), trained on {trained_on}."
    if spec.mean is None:  # an extractor always knows what it subtracted
        text = f"stream {spec.stream}, imported, its origin as stated: backbone {text}"
    if BUNDLED_BACKBONE in spec.backbone:
        text += " It is for the embedded corpus only: these scores say nothing about photographed faces."
    return f"{name}: {text}" if streams > 1 else text
