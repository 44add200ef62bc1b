"""The plan of a sweep: every row times every seed, as runs whose ids follow from what decides their results.

Not an executor: ``pipeline.sweep`` trains what this page lists, ``pipeline.tabulate`` reads what was trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import Config, Row
from stores import documents
from stores.documents import Json

RUN_ID_DIGITS = 12
IDENTITY_VERSION = 1
"""Goes up when the same settings start to give other numbers: old results are not taken for new ones."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep: one combination, one seed.

    Attributes:
        run_id: first 12 hex digits of the SHA-256 of ``identity`` as canonical JSON; names the run's folder.
        name: the row it belongs to, such as ``A+AU+Attn``.
        tasks: the tasks it trains, in the order V, A, AU, EXPR.
        attention: whether multi-task attention gates its heads.
        seed: of initial weights and dropout; the order of windows is ``training.data_seed``'s.
        identity: everything that decides the result, as JSON values.
    """

    run_id: str
    name: str
    tasks: tuple[str, ...]
    attention: bool
    seed: int
    identity: Mapping[str, Json]


def row_name(row: Row) -> str:
    """Returns the name of a combination, such as ``V+AU+Attn``."""
    return "+".join([*row.tasks, "Attn"] if row.attention else row.tasks)


def planned_run(row: Row, seed: int, training: Mapping[str, Json], data: Mapping[str, Json]) -> PlannedRun:
    """Returns the run of one row and one seed.

    Args:
        row: tasks and attention.
        seed: the run's seed.
        training: the settings that every run shares and that decide its result (no device, no grouping).
        data: digests of the features and labels that it reads, and the edition that scores it.
    """
    identity: dict[str, Json] = {
        "version": IDENTITY_VERSION,
        "tasks": list(row.tasks),
        "attention": row.attention,
        "seed": seed,
        "training": dict(training),
        "data": dict(data),
    }
    return PlannedRun(
        run_id=documents.digest(identity)[:RUN_ID_DIGITS],
        name=row_name(row),
        tasks=row.tasks,
        attention=row.attention,
        seed=seed,
        identity=identity,
    )


def plan(config: Config, data: Mapping[str, Json]) -> list[PlannedRun]:
    """Returns the runs of ``config`` on data with these digests: rows in their order, seeds within a row."""
    training = config.training.deciding()
    return [
        planned_run(row, seed, training, data)
        for row in config.sweep.all_rows()
        for seed in config.sweep.seeds
    ]


def groups(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Splits ``runs`` into as few groups of at most ``size`` as possible, of like size, keeping the order.

    A run learns nothing from the runs beside it, but sums of float32 round differently in another group, and
    training amplifies that as it would any change in the last digit.
    """
    count = -(-len(runs) // size)
    return [list(runs[len(runs) * i // count : len(runs) * (i + 1) // count]) for i in range(count)]
