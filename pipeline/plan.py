"""The plan of a sweep: its runs, folds and provenance; ``facets sweep`` writes it to ``plan.json``.

Everybody else reads the plan: table, info and dry run need no store. The id of a run follows from whatever
decides its result, so that equal runs of two sweeps are one run.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipeline import provenance
from pipeline.config import Config, Halving
from pipeline.data import Data
from pipeline.folds import Division, divisions, official
from pipeline.provenance import Provenance
from pipeline.rows import SweepRow, relevant, sweep_rows
from pipeline.stage1.reading import section
from stores import documents
from stores.commit import remove_abandoned, replace_file
from stores.documents import Json
from stores.errors import ConfigError, StoreError
from temporal.data.projection import Projection
from temporal.settings import Run, Training, settings_of

logger = logging.getLogger(__name__)

FORMAT, VERSION = "facets-plan", 1
PLAIN = ("name", "shares", "made_by", "frames", "labels", "features")
"""What a plan keeps as it is, as JSON values."""
RUN_ID_DIGITS = 12
IDENTITY_VERSION = 4
"""Goes up when the same settings start to give other numbers: old results are not taken for new ones."""
PER_REPLICA = tuple(name for name, (_, setting) in settings_of(Run).items() if setting.scope == "run")
"""Settings that runs of one stack may differ in: ``lr``, ``weight_decay``, ``dropout``, ``loss_weights``."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep: one combination, its settings, one seed, one fold.

    Attributes:
        run_id: first 12 hex digits of the SHA-256 of its identity as canonical JSON; names the run's folder.
        name: the row it belongs to, such as ``A+AU+Attn`` or ``A+AU lr=0.0003``.
        tasks: the tasks it trains, in the order V, A, AU, EXPR.
        attention: whether multi-task attention gates its heads.
        seed: of initial weights and dropout; the order of windows is ``training.data_seed``'s.
        training: all its settings but those that decide no result, as JSON values.
        settings: those that differ from the sweep's shared ones.
        streams: the streams that it reads; empty for all.
        fold: which division of the clips it is trained and scored on; None for the official one.
        bracket: names the runs that it competes with in successive halving; empty if it does not.
    """

    run_id: str
    name: str
    tasks: tuple[str, ...]
    attention: bool
    seed: int
    training: Mapping[str, Json]
    settings: Mapping[str, Json]
    streams: tuple[str, ...] = ()
    fold: int | None = None
    bracket: str = ""

    def __str__(self) -> str:
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.run_id} ({self.name}, seed {self.seed}{fold})"


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep as it was planned.

    Attributes:
        name: of the experiment.
        shares: the experiment whose data and runs it uses; None for its own.
        made_by: section of the configuration -> digest of its settings that decide a plan.
        runs: every run, rows in the order of the table, seeds within a row, folds within a seed.
        folds: the divisions of the clips that the runs are trained and scored on.
        frames: clip -> its number of frames, of all clips of the divisions.
        static: the clips whose frames are independent images.
        labels: digest of the labels of these clips, whatever their split.
        features: stream -> digest of the features of these clips.
        provenance: what the table prints about corpus, features, scored clips and chance.
    """

    name: str
    shares: str | None
    made_by: Mapping[str, str]
    runs: tuple[PlannedRun, ...]
    folds: tuple[Division, ...]
    frames: Mapping[str, int]
    static: frozenset[str]
    labels: str
    features: Mapping[str, str]
    provenance: Provenance

    @property
    def rows(self) -> dict[str, list[PlannedRun]]:
        """The runs of each row, by its name."""
        found: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            found.setdefault(run.name, []).append(run)
        return found

    def division(self, fold: int | None) -> Division:
        """Returns the division of a fold of this plan."""
        return next(division for division in self.folds if division.fold == fold)

    def data_of(self, run: PlannedRun) -> dict[str, Json]:
        """Returns the digests of the data that a run reads, and of how its clips are divided."""
        return data_digests(self.labels, self.features, self.division(run.fold), run.streams)

    def identity(self, run: PlannedRun) -> dict[str, Json]:
        """Returns everything that decides the result of a run."""
        return identity(run, self.data_of(run))

    def write(self, path: Path) -> None:
        """Puts the plan at ``path`` in one step; a plan that is there already and equal is left alone."""
        folds: list[Json] = [{"fold": one.fold, "name": one.name, "splits": one.splits} for one in self.folds]
        runs: list[Json] = [{name: getattr(run, name) for name in PlannedRun.__slots__} for run in self.runs]
        content = documents.render(
            {
                **{name: getattr(self, name) for name in PLAIN},
                "format": FORMAT,
                "version": VERSION,
                "runs": runs,
                "folds": folds,
                "static": sorted(self.static),
                "provenance": self.provenance.to_json(),
            }
        )
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent)
            replace_file(path, content)


def read_plan(path: Path, config: Config | None = None) -> Plan:
    """Reads the plan that ``facets sweep`` wrote.

    Args:
        path: of the plan.
        config: the experiment; the plan must have been made by its settings, if it is given.

    Raises:
        StoreError: there is no plan, or it is damaged or of another version.
        ConfigError: it was made by other settings.
    """
    if not path.exists():
        msg = f"no plan in {path}: run facets sweep first, with the same options"
        raise StoreError(msg)
    try:
        document: Mapping[str, Any] = documents.read(path)
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            msg = f"its format is {document['format']} {document['version']}, not {FORMAT} {VERSION}"
            raise ValueError(msg)
        given = {key: document[key] for key in PLAIN}
        plan = Plan(
            **given,
            runs=tuple(_run(run) for run in document["runs"]),
            folds=tuple(Division(**division) for division in document["folds"]),
            static=frozenset(document["static"]),
            provenance=Provenance.from_json(document["provenance"]),
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, StoreError) as error:
        msg = f"{path} is no plan ({error}): run facets sweep"
        raise StoreError(msg) from error
    asked = {} if config is None else made_by(config)
    if differ := [key for key in asked if plan.made_by.get(key) != asked[key]]:
        msg = f"{path} was planned with other settings of {', '.join(differ)}: run facets sweep"
        raise ConfigError(msg)
    return plan


def make_plan(config: Config, data: Data, before: Plan | None = None) -> Plan:
    """Plans the sweep of ``config`` on ``data``.

    Args:
        config: the experiment.
        data: its stores.
        before: an earlier plan: what it says of the same labels is not read again.

    Raises:
        ConfigError: the rows are not as ``pipeline.rows`` expects them, or there is nothing to halve.
        CorpusError: no clip is scored.
    """
    folds = divisions_of(config, data)
    labels, features = data.label_digest, data.feature_digests
    same = before is not None and (before.labels, before.folds) == (labels, folds)
    used = dict.fromkeys(clip for division in folds for clip in division.splits)
    return Plan(
        name=config.name,
        shares=config.shares,
        made_by=made_by(config),
        runs=planned_runs(config, labels, features, folds),
        folds=folds,
        frames={clip: data.records[clip].frames for clip in used},
        static=frozenset(clip for clip in used if data.records[clip].attrs.get("static", False)),
        labels=labels,
        features=features,
        provenance=provenance.collect(config, data, folds, before.provenance if before and same else None),
    )


def divisions_of(config: Config, data: Data) -> tuple[Division, ...]:
    """Returns the folds of a sweep, or the official division if it has none.

    Raises:
        ConfigError: the clips cannot be divided as the configuration says.
    """
    wanted = config.planned.folds
    if wanted is None:
        return (official(data.records),)
    return tuple(divisions(wanted, data.labels, leaks=config.corpus.leaks))


def plan_before(path: Path, config: Config) -> Plan | None:
    """Returns the plan at ``path`` if it can be used again for ``config``; None if not."""
    try:
        return read_plan(path, config)
    except (StoreError, ConfigError) as error:
        logger.debug("planned anew: %s", error)
        return None


def made_by(config: Config) -> dict[str, str]:
    """Returns section of the configuration -> digest of its settings that decide a plan."""
    settings: dict[str, Json] = {
        "corpus": section(config),
        "streams": {name: stream.deciding() for name, stream in config.streams.items()},
        "training": config.training.deciding(),
        "sweep": config.planned.model_dump(mode="json"),
    }
    return {name: documents.digest(value) for name, value in settings.items()}


def planned_runs(
    config: Config, labels: str, features: Mapping[str, str], folds: Sequence[Division]
) -> tuple[PlannedRun, ...]:
    """Returns the runs of ``config``: rows in their order, seeds within a row, folds within a seed.

    Args:
        config: the experiment.
        labels: digest of the labels.
        features: stream -> digest of its features.
        folds: the divisions of the clips.

    Raises:
        ConfigError: the rows are not as ``pipeline.rows`` expects them, or there is nothing to halve.
    """
    runs = tuple(
        planned_run(row, seed, division, labels, features)
        for row in sweep_rows(config)
        for seed in config.planned.seeds
        for division in folds
    )
    return runs if config.planned.halving is None else with_brackets(runs, config.planned.halving)


def planned_run(
    row: SweepRow, seed: int, division: Division, labels: str, features: Mapping[str, str]
) -> PlannedRun:
    """Returns the run of one row, one seed and one fold.

    Args:
        row: tasks, attention, streams and settings.
        seed: the run's seed.
        division: the fold.
        labels: digest of the labels.
        features: stream -> digest of its features.
    """
    run = PlannedRun(
        run_id="",
        name=row.name,
        tasks=row.tasks,
        attention=row.attention,
        seed=seed,
        training=row.training,
        settings=row.settings,
        streams=row.streams,
        fold=division.fold,
    )
    found = identity(run, data_digests(labels, features, division, run.streams))
    return replace(run, run_id=documents.digest(found)[:RUN_ID_DIGITS])


def identity(run: PlannedRun, data: Mapping[str, Json]) -> dict[str, Json]:
    """Returns everything that decides the result of a run on data with these digests."""
    return {
        "version": IDENTITY_VERSION,
        "tasks": list(run.tasks),
        "attention": run.attention,
        "seed": run.seed,
        "training": relevant(run.tasks, run.training, attention=run.attention),
        "data": dict(data),
    }


def data_digests(
    labels: str, features: Mapping[str, str], division: Division, streams: Sequence[str]
) -> dict[str, Json]:
    """Returns the digests of the data that runs of these streams read; no streams stand for all."""
    read: dict[str, Json] = {name: features[name] for name in streams or features}
    return {"labels": labels, "features": read, "division": documents.digest(division.splits)}


def with_brackets(runs: Iterable[PlannedRun], halving: Halving) -> tuple[PlannedRun, ...]:
    """Returns ``runs`` with the name of the bracket of each.

    In a bracket are all settings, with all their seeds, of one combination that share a stack: they differ in
    what a replica has for itself.

    Raises:
        ConfigError: no combination has two such settings, or no rung comes before the last epoch.
    """
    rule: dict[str, Json] = {"eta": halving.eta, "min_epochs": halving.min_epochs}
    members: dict[bytes, list[PlannedRun]] = {}
    for run in runs:
        alike = documents.canonical(
            [list(run.tasks), run.attention, list(run.streams), run.fold, shared_settings(run)]
        )
        members.setdefault(alike, []).append(run)
    names: dict[str, str] = {}
    for together in members.values():
        if len({run.name for run in together}) > 1:
            epochs = together[0].training["epochs"]
            if not isinstance(epochs, int) or epochs <= halving.min_epochs:
                msg = (
                    f"sweep.halving: {together[0].name} trains {epochs} epochs, so no rung comes before its"
                    f" end: lower min_epochs, now {halving.min_epochs}"
                )
                raise ConfigError(msg)
            ids = sorted(run.run_id for run in together)
            name = documents.digest({**rule, "runs": ids})[:RUN_ID_DIGITS]
            names |= {run.run_id: name for run in together}
    if not names:
        msg = (
            "sweep.halving: no combination has two settings that can train in one stack; it halves the axes"
            f" {', '.join(PER_REPLICA)}, which each run of a stack has for itself"
        )
        raise ConfigError(msg)
    return tuple(replace(run, bracket=names.get(run.run_id, "")) for run in runs)


def shared_settings(run: PlannedRun) -> dict[str, Json]:
    """Returns the settings that runs must have in common to train in one stack."""
    return {field.name: run.training[field.name] for field in fields(Training)}


def projection_of(training: Mapping[str, Any]) -> Projection | None:
    """Returns the reduction of the features that the settings of a run ask for; None for none."""
    if not training["pca"]:
        return None
    return Projection(training["pca"], training["centre"], training["standardise"])


def own_settings(run: PlannedRun) -> dict[str, Json]:
    """Returns the settings that each run of a stack has for itself."""
    return {key: value for key, value in run.training.items() if key in PER_REPLICA}


def _run(document: Mapping[str, Any]) -> PlannedRun:
    return PlannedRun(**{**document, **{key: tuple(document[key]) for key in ("tasks", "streams")}})
