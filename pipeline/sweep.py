"""Stage 2 of an experiment: trains the planned runs that have no result, and commits each when it ends.

Not the trainer, which is ``temporal.fit``, and not the table.
"""

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pipeline import rules
from pipeline import runs as ledger
from pipeline.config import Config
from pipeline.data import SCORED, Data, open_data
from pipeline.plan import PlannedRun, groups, plan
from pipeline.splits import scored_split
from pipeline.workdir import WorkDir
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from temporal.settings import Run, Training
    from temporal.training import RunResult

logger = logging.getLogger(__name__)

VERSIONS = ("facets", "torch", "numpy")


def run_sweep(config: Config, place: WorkDir, progress: Progress = silent) -> dict[str, str]:
    """Trains what has no result yet.

    Each result is on disk as soon as its run ends: killing the sweep loses the runs in training alone.

    Returns:
        Runs that failed, with the reason; the next sweep tries them again.

    Raises:
        FacetsError: the stores are missing, or do not hold what the sweep needs.
    """
    data = open_data(place)
    planned = plan(config, data.digests)
    left = ledger.unfinished(planned, place.runs)
    logger.info("%s: %d of %d runs are finished", place.runs, len(planned) - len(left), len(planned))
    found = rules.found_breaches(config, data, scored_split(data, config.table.edition, place.splits))
    if config.table.rules == "refuse":
        rules.refuse(config.table.edition, found)
    for sentence in rules.sentences(config.table.edition, found):
        logger.warning("rules: %s", sentence)
    if not left:
        return {}

    import temporal
    from extract.engine import resolve_device

    device = resolve_device(config.training.device)
    training = training_settings(config)
    bank = temporal.load_bank(data.features, data.labels, device=device)
    logger.info("training %d runs on %s, %d together", len(left), device, config.training.max_replicas)
    failures: dict[str, str] = {}
    everything, before = len(left) * training.epochs, 0

    for group in groups(left, config.training.max_replicas):
        # fit delivers results in the order in which runs end; settings tell which planned run each one is.
        waiting = {run_settings(config, run): run for run in group}

        def deliver(result: "RunResult", waiting: dict["Run", PlannedRun] = waiting) -> None:
            run = waiting[result.run]
            if result.status == "failed":
                failures[name_of(run)] = result.reason
                ledger.commit_error(place.runs / run.run_id, run, result.reason)
            else:
                commit(place, data, run, result)
            del waiting[result.run]  # not before: a run that could not be committed counts as failed

        def advance(step: str, total: int, completed: int, before: int = before) -> None:
            progress(step, everything, before + completed)

        try:
            temporal.fit(
                bank,
                list(waiting),
                training,
                progress=advance,
                on_result=deliver,
                replicas=config.training.max_replicas,
            )
        except RuntimeError as error:  # torch's own, such as memory that ran out: the other groups go on
            logger.debug("a group of %d runs failed", len(waiting), exc_info=True)
            for run in waiting.values():
                failures[name_of(run)] = str(error)
                ledger.commit_error(place.runs / run.run_id, run, str(error))
        before += len(group) * training.epochs
    return failures


def commit(place: WorkDir, data: Data, run: PlannedRun, result: "RunResult") -> None:
    """Writes the folder of a run that is done."""
    import temporal

    record = {
        "run_id": run.run_id,
        "name": run.name,
        "tasks": list(run.tasks),
        "attention": run.attention,
        "seed": run.seed,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "metrics": result.metrics,
        "score": result.score,
        "seconds": result.seconds,
        "device": result.device,
        "threads": result.threads,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "identity": run.identity,
    }
    names = {
        "run_id": run.run_id,
        "split": SCORED,
        "edition": data.label_spec.edition,
        "au_names": list(data.label_spec.au_names),
        "expression_names": list(data.label_spec.expression_names),
    }
    ledger.commit(
        place.runs / run.run_id,
        record,
        result.history,
        result.predictions,
        names,
        lambda folder: temporal.save(result, folder),
    )
    logger.info("%s: %.3f at epoch %d of %d", name_of(run), result.score, result.best_epoch, result.epochs)


def name_of(run: PlannedRun) -> str:
    """Returns how a run is called in messages."""
    return f"{run.run_id} ({run.name}, seed {run.seed})"


def training_settings(config: Config) -> "Training":
    """Returns what the runs of a sweep share, as the temporal stage takes it."""
    from temporal.settings import Training

    return Training(**{field.name: getattr(config.training, field.name) for field in fields(Training)})


def run_settings(config: Config, run: PlannedRun) -> "Run":
    """Returns one run as the temporal stage takes it."""
    from temporal.settings import Run

    shared = config.training
    return Run(
        tasks=run.tasks,
        attention=run.attention,
        seed=run.seed,
        lr=shared.lr,
        weight_decay=shared.weight_decay,
        dropout=shared.dropout,
        loss_weights={str(task): weight for task, weight in shared.loss_weights.items()},
    )


def describe_plan(config: Config, place: WorkDir) -> str:
    """Returns the plan of a sweep as text: settings, rows by seeds with the state of each run, and groups.

    Raises:
        StoreError: the stores are missing; what a run is called depends on their content.
    """
    planned = plan(config, open_data(place).digests)
    left = ledger.unfinished(planned, place.runs)
    split = groups(left, config.training.max_replicas)
    rows: dict[str, list[str]] = {}
    for run in planned:
        rows.setdefault(run.name, []).append(f"{run.run_id} {ledger.status(place.runs / run.run_id)}")
    lines = [
        f"experiment {config.name}, runs in {place.runs}",
        settings_line(config.training.model_dump()),
        "",
    ]
    lines += table_lines(["row", *(f"seed {seed}" for seed in config.sweep.seeds)], rows)
    lines += [
        "",
        f"{len(rows)} rows x {len(config.sweep.seeds)} seeds = {len(planned)} runs:"
        f" {len(planned) - len(left)} finished, {len(left)} unfinished",
        f"groups, one after the other: {', '.join(f'{len(group)} runs' for group in split) or 'none'}",
    ]
    return "\n".join(lines)


def settings_line(settings: Mapping[str, Any]) -> str:
    """Returns settings as ``key value`` pairs."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def table_lines(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns a head and named rows as lines in columns of equal width."""
    cells = [list(head), *([name, *row] for name, row in rows.items())]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
