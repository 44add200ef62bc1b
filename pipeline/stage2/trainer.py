"""Trains one group of planned runs and commits each as it ends.

Not the trainer, which is ``temporal.fit``, and not who trains which group where, which is
``pipeline.stage2.driver``.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipeline import ledger
from pipeline.config import Config
from pipeline.data import SCORED
from pipeline.plan import Plan, PlannedRun, own_settings, shared_settings
from pipeline.stage2 import groups as grouping
from pipeline.stage2.groups import Group
from pipeline.stage2.halving import Rule, stop_rule
from pipeline.workdir import WorkDir
from stores.errors import FacetsError
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from temporal.data.bank import Bank
    from temporal.settings import Run, Training
    from temporal.train.outcome import RunResult
    from temporal.train.stack import StopAt

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Mapping[str, str]
"""Run id -> why it failed; empty where it has a result."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker must know beside its group; paths must mean the same on every machine.

    Attributes:
        config: the experiment.
        place: where it is.
        plan: all runs, and the data as the driver sees it.
        threads: of torch on the CPU, or None for what the worker's environment says.
    """

    config: Config
    place: WorkDir
    plan: Plan
    threads: int | None = None


def train_group(group: Group, work: Work, bank: "Bank", progress: Progress = silent) -> dict[str, str]:
    """Trains one group, from its state if there is one, and commits each run as it ends.

    Runs that have results already train along, because the numbers of the others rest on them.

    Returns:
        Of the runs that ended now: id -> why it failed, empty where it is finished.
    """
    import temporal
    from temporal.train.resume import StateFile

    config, place = work.config, work.place
    outcome: dict[str, str] = {}
    # Results tell by their settings which planned run each one is.
    planned = {run_settings(run): run for run in group.runs}
    halving = config.planned.halving
    # All planned runs, not the group's: others of a bracket may have ended in an earlier group.
    rule = None if halving is None else stop_rule(work.plan.runs, halving, place.runs)

    def deliver(result: "RunResult") -> None:
        run = planned[result.run]
        folder = place.runs / run.run_id
        if ledger.settled(run, place.runs):
            return
        try:
            if result.status == "failed":
                reason = (result.reason, FloatingPointError.__name__, result.epochs, result.failed_step)
                outcome[run.run_id] = ledger.commit_error(folder, run, *reason)
            elif result.status == "stopped":
                scores = [line["score"] for line in result.history]
                ledger.commit_stopped(folder, run, scores, result.best_epoch)
                logger.info("%s: stopped after epoch %d", run, result.epochs)
                outcome[run.run_id] = ""
            else:
                commit(work, run, result, len(group.runs))
                outcome[run.run_id] = ""
        except Exception as error:  # one run that cannot be written does not end the others
            logger.debug("%s was not committed", run, exc_info=True)
            outcome[run.run_id] = ledger.commit_error(folder, run, told(error), type(error).__name__)

    with grouping.held(group) as ours:
        if not ours:
            return outcome
        try:
            temporal.fit(
                bank,
                list(planned),
                training_settings(group.runs[0]),
                progress=progress,
                on_result=deliver,
                stop_at=None if rule is None else stops(rule, planned),
                replicas=len(group.runs),
                state=StateFile(group.state, {"data": work.plan.data_of(group.runs[0])}),
            )
        except Exception as error:  # such as memory that ran out: the other groups go on
            # Record and state stay: the next sweep goes on from there.
            logger.debug("%s failed", group, exc_info=True)
            return fail(group, place, outcome, told(error), type(error).__name__)
        grouping.close(group)
    return outcome


def fail(group: Group, place: WorkDir, ended: Outcome, reason: str, kind: str) -> dict[str, str]:
    """Commits ``reason`` for the runs of a group that have not ended; returns the outcome of all."""
    outcome = dict(ended)
    for run in ledger.unfinished(group.runs, place.runs):
        if run.run_id not in outcome:
            outcome[run.run_id] = ledger.commit_error(place.runs / run.run_id, run, reason, kind)
    return outcome


def told(error: Exception) -> str:
    """Returns an error with its notes; what nobody foresaw says of which type it is."""
    foreseen = isinstance(error, FacetsError | OSError | RuntimeError) and str(error)
    text = str(error) if foreseen else f"{type(error).__name__}: {error}"
    return "; ".join([text, *getattr(error, "__notes__", [])])


def commit(work: Work, run: PlannedRun, result: "RunResult", replicas: int) -> None:
    """Writes the folder of a run that is done; ``replicas`` runs began their training together.

    Float32 sums round differently with other ``replicas``, ``threads``, ``device_name`` or ``versions``, and
    long training amplifies that: results of one run that differ have them in ``result.json`` for a reason.
    """
    import torch

    import temporal
    from temporal import machine

    record = {
        "run_id": run.run_id,
        "name": run.name,
        "tasks": list(run.tasks),
        "attention": run.attention,
        "streams": list(run.streams or work.plan.features),
        "seed": run.seed,
        "fold": run.fold,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "metrics": result.metrics,
        "score": result.score,
        "seconds": result.seconds,
        "replicas": replicas,
        **machine.describe(torch.device(result.device)),
        "threads": result.threads,
        "identity": work.plan.identity(run),
    }
    names = work.plan.provenance.labels
    attributes = {
        "run_id": run.run_id,
        "split": SCORED,
        "edition": names.edition,
        "au_names": list(names.au_names),
        "expression_names": list(names.expression_names),
    }
    ledger.commit(
        work.place.runs / run.run_id,
        record,
        result.history,
        result.predictions,
        result.units,
        attributes,
        lambda folder: temporal.save(result, folder),
    )
    logger.info("%s: %.3f at epoch %d of %d", run, result.score, result.best_epoch, result.epochs)


def stops(rule: Rule, planned: Mapping["Run", PlannedRun]) -> "StopAt":
    """Returns a rule over planned runs in the terms of the temporal stage."""
    runs = {planned_run.run_id: run for run, planned_run in planned.items()}

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

    return Run(run.tasks, run.attention, run.seed, streams=run.streams, **own_settings(run))  # type: ignore[arg-type]
