"""Stage 2 of an experiment: trains the planned runs that have no result, and commits each when it ends.

Not the trainer, which is ``temporal.fit``, and not the table.
"""

import importlib.metadata
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import runs as ledger
from pipeline.config import Config
from pipeline.data import SCORED, Data, open_data
from pipeline.halving import Rule, stop_rule
from pipeline.plan import PlannedRun, groups, own_settings, plan, shared_settings
from pipeline.splits import scored_split
from pipeline.workdir import WorkDir
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from temporal.settings import Run, Training
    from temporal.training import RunResult, StopAt

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
    scored_split(data, config.table.edition, place.splits)
    if not left:
        return {}

    import temporal
    from extract.engine import resolve_device

    device = resolve_device(config.training.device)
    bank = temporal.load_bank(data.features, data.labels, device=device)
    logger.info("training %d runs on %s, %d together", len(left), device, config.training.max_replicas)
    failures: dict[str, str] = {}
    everything, before = sum(training_settings(run).epochs for run in left), 0
    halving = config.sweep.halving
    rule = None if halving is None else stop_rule(planned, halving, place.runs)

    for group in groups(left, config.training.max_replicas):
        # fit delivers results in the order in which runs end; settings tell which planned run each one is.
        training = training_settings(group[0])
        waiting = {run_settings(run): run for run in group}

        def deliver(result: "RunResult", waiting: dict["Run", PlannedRun] = waiting) -> None:
            run = waiting[result.run]
            if result.status == "failed":
                failures[name_of(run)] = result.reason
                ledger.commit_error(place.runs / run.run_id, run, result.reason)
            elif result.status == "stopped":
                scores = [line["score"] for line in result.history]
                ledger.commit_stopped(place.runs / run.run_id, run, scores, result.best_epoch)
                logger.info("%s: stopped after epoch %d", name_of(run), result.epochs)
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
                stop_at=None if rule is None else stops(rule, waiting),
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


def stops(rule: Rule, group: Mapping["Run", PlannedRun]) -> "StopAt":
    """Returns a rule over planned runs in the terms of the temporal stage."""
    runs = {planned.run_id: run for run, planned in group.items()}

    def stop_at(epoch: int, scores: Mapping["Run", Sequence[float]]) -> "Collection[Run]":
        named = {run_id: scores[run] for run_id, run in runs.items() if run in scores}
        return [runs[run_id] for run_id in rule(epoch, named)]

    return stop_at


def training_settings(run: PlannedRun) -> "Training":
    """Returns what the runs of a group share, as the temporal stage takes it; any of them tells it."""
    from temporal.settings import Training

    return Training(**shared_settings(run))  # type: ignore[arg-type]  # as pipeline.config checked them


def run_settings(run: PlannedRun) -> "Run":
    """Returns one run as the temporal stage takes it."""
    from temporal.settings import Run

    return Run(tasks=run.tasks, attention=run.attention, seed=run.seed, **own_settings(run))  # type: ignore[arg-type]
