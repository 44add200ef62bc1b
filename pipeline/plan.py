"""The plan of a sweep: every row times every seed, as runs whose ids follow from what decides their results.

Not an executor: ``pipeline.stage2.driver`` trains what this page lists, ``pipeline.report.tabulate`` reads
what was trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from pipeline.config import Config, Halving
from pipeline.rows import SweepRow, deciding, sweep_rows
from stores import documents
from stores.documents import Json
from stores.errors import ConfigError
from temporal.settings import Run, Training, settings_of

RUN_ID_DIGITS = 12
IDENTITY_VERSION = 3
"""Goes up when the same settings start to give other numbers: old results are not taken for new ones."""
PER_REPLICA = tuple(name for name, (_, setting) in settings_of(Run).items() if setting.scope == "run")
"""Settings that runs of one stack may differ in: ``lr``, ``weight_decay``, ``dropout``, ``loss_weights``."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep: one combination, its settings, one seed.

    Attributes:
        run_id: first 12 hex digits of the SHA-256 of ``identity`` as canonical JSON; names the run's folder.
        name: the row it belongs to, such as ``A+AU+Attn`` or ``A+AU lr=0.0003``.
        tasks: the tasks it trains, in the order V, A, AU, EXPR.
        attention: whether multi-task attention gates its heads.
        seed: of initial weights and dropout; the order of windows is ``training.data_seed``'s.
        training: all its settings but those that decide no result, as JSON values.
        settings: those that differ from the sweep's shared ones.
        identity: everything that decides the result, as JSON values.
        bracket: names the runs that it competes with in successive halving; empty where it does not.
    """

    run_id: str
    name: str
    tasks: tuple[str, ...]
    attention: bool
    seed: int
    training: Mapping[str, Json]
    settings: Mapping[str, Json]
    identity: Mapping[str, Json]
    bracket: str = ""
    streams: tuple[str, ...] = ()
    fold: int | None = None


def planned_run(row: SweepRow, seed: int, data: Mapping[str, Json]) -> PlannedRun:
    """Returns the run of one row and one seed.

    Args:
        row: tasks, attention and settings.
        seed: the run's seed.
        data: digests of the features and labels that it reads, and the edition that scores it.
    """
    identity: dict[str, Json] = {
        "version": IDENTITY_VERSION,
        "tasks": list(row.tasks),
        "attention": row.attention,
        "seed": seed,
        "training": deciding(row),
        "data": dict(data),
    }
    return PlannedRun(
        run_id=documents.digest(identity)[:RUN_ID_DIGITS],
        name=row.name,
        tasks=row.tasks,
        attention=row.attention,
        seed=seed,
        training=row.training,
        settings=row.settings,
        identity=identity,
    )


def plan(config: Config, data: Mapping[str, Json]) -> list[PlannedRun]:
    """Returns the runs of ``config`` on data with these digests: rows in their order, seeds within a row.

    Raises:
        ConfigError: the rows are not as ``pipeline.rows`` expects them, or there is nothing to halve.
    """
    runs = [planned_run(row, seed, data) for row in sweep_rows(config) for seed in config.sweep.seeds]
    return runs if config.sweep.halving is None else with_brackets(runs, config.sweep.halving)


def with_brackets(runs: Sequence[PlannedRun], halving: Halving) -> list[PlannedRun]:
    """Returns ``runs`` with the name of the bracket of each.

    In a bracket are all settings, with all their seeds, of one combination that share a stack: they differ in
    what a replica has for itself.

    Raises:
        ConfigError: no combination has two such settings, or no rung comes before the last epoch.
    """
    rule: dict[str, Json] = {"eta": halving.eta, "min_epochs": halving.min_epochs}
    members: dict[bytes, list[PlannedRun]] = {}
    for run in runs:
        members.setdefault(
            documents.canonical([list(run.tasks), run.attention, shared_settings(run)]), []
        ).append(run)
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
    return [replace(run, bracket=names.get(run.run_id, "")) for run in runs]


def shared_settings(run: PlannedRun) -> dict[str, Json]:
    """Returns the settings that runs must have in common to train in one stack."""
    return {field.name: run.training[field.name] for field in fields(Training)}


def own_settings(run: PlannedRun) -> dict[str, Json]:
    """Returns the settings that each run of a stack has for itself."""
    return {key: value for key, value in run.training.items() if key in PER_REPLICA}


def groups(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Splits ``runs`` into stacks: few, of like size, at most ``size``, the order kept within each.

    Runs of a stack have their shared settings in common, and a bracket of successive halving is in one stack.
    A run learns nothing from the runs beside it, but sums of float32 round differently in another group, and
    training amplifies that as it would any change in the last digit.

    Raises:
        ConfigError: a bracket has more than ``size`` runs.
    """
    alike: dict[bytes, list[PlannedRun]] = {}
    for run in runs:
        alike.setdefault(documents.canonical(shared_settings(run)), []).append(run)
    return [group for members in alike.values() for group in evenly(members, size)]


def evenly(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Splits runs that could all train together; see ``groups``."""
    units: dict[str, list[PlannedRun]] = {}
    for run in runs:
        units.setdefault(run.bracket or run.run_id, []).append(run)
    for unit in units.values():
        if len(unit) > size:
            msg = (
                f"{len(unit)} runs of {unit[0].name} and the rows beside it are halved together, but only"
                f" {size} may train together: raise training.max_replicas, or plan fewer settings or seeds"
            )
            raise ConfigError(msg)
    count = -(-len(runs) // size)
    while True:
        made: list[list[PlannedRun]] = [[] for _ in range(count)]
        before = 0
        for unit in units.values():
            # The group is that of the unit's middle, so that all groups end near their share of the runs.
            made[(2 * before + len(unit)) * count // (2 * len(runs))] += unit
            before += len(unit)
        if all(len(group) <= size for group in made):
            return [group for group in made if group]
        count += 1
