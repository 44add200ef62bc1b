"""Trains the runs of a sweep together, in stacks that fit into memory."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import torch

from stores.documents import Json
from stores.errors import ConfigError
from stores.progress import Progress, silent
from temporal import machine
from temporal.data.bank import Bank
from temporal.data.reduction import prepared
from temporal.registries import counting
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.outcome import RunResult
from temporal.train.resume import StateFile
from temporal.train.stack import StackTraining, StopAt

logger = logging.getLogger(__name__)


def fit(
    bank: Bank,
    runs: Sequence[Run],
    training: Training,
    *,
    device: torch.device | str | None = None,
    progress: Progress = silent,
    on_result: Callable[[RunResult], None] | None = None,
    stop_at: StopAt | None = None,
    replicas: int = 32,
    state: StateFile | None = None,
) -> list[RunResult]:
    """Trains runs together and evaluates each at its best epoch.

    Args:
        bank: features and labels; training happens on the device that holds it.
        runs: any combinations, seeds and rates.
        training: what they share.
        device: if given, must be the bank's device.
        progress: called as ``("train", total, completed)`` in epochs of single runs.
        on_result: called with each result as soon as its run stops.
        stop_at: asked after every epoch which runs end before their time; the others are not touched by it.
        replicas: most runs trained at the same time; bounds memory. If a loss counts labels, runs that read
            other streams train in another stack. Where memory runs out all the same, what is not finished
            starts again in groups of half the size. Another number rounds float32 sums differently, which
            long training amplifies, though less than a change of 1e-7 in the weights.
        state: where to keep what is needed to go on after a kill; for ``replicas`` runs at most. A call with
            the same arguments goes on from there, on the CPU with the same bytes as if it had never stopped,
            and delivers again what ended after that state was written. Removed when all is delivered.

    Returns:
        One result per run, in the order of ``runs``; those that had stopped before the state that training
        went on from were delivered then and are left out.

    Raises:
        ConfigError: no runs, or a split lacks every label of a task that a run trains, or a wrong device, or
            a state for runs that cannot train together.
    """
    home = bank.train.device
    if device is not None and torch.empty(0, device=device).device != home:
        msg = f"the bank is on {home}, training was asked for on {device}: load the bank on that device"
        raise ConfigError(msg)
    if not runs or replicas < 1:
        msg = f"{len(runs)} runs, {replicas} replicas at a time: expected at least one of each"
        raise ConfigError(msg)
    # Of each run, the place among the kinds of runs that may share a stack, and the place within its kind.
    kinds = [bank.streams_of(run) if counting(training.losses) else () for run in runs]
    kind = [kinds.index(streams) for streams in kinds]
    rank = [kind[:index].count(own) for index, own in enumerate(kind)]
    if state is not None and (len(runs) > replicas or any(kind)):
        msg = (
            f"{len(runs)} runs of {len(set(kind))} kinds, {replicas} replicas at a time: one state is of runs"
            " that train together"
        )
        raise ConfigError(msg)
    _check_labels(bank, runs)
    bank, standardise = prepared(bank, training)
    results: dict[int, RunResult] = {}
    # In every stack those with attention side by side: neighbours that are alike run as one program.
    order = sorted(
        range(len(runs)), key=lambda index: (kind[index], rank[index] // replicas, runs[index].attention)
    )
    runs = [runs[index] for index in order]

    def deliver(position: int, result: RunResult) -> None:
        results[order[position]] = result
        if on_result is not None:
            on_result(result)

    total = len(runs) * training.epochs
    waiting = list(range(len(runs)))
    while waiting:
        positions = [p for p in waiting[:replicas] if kind[order[p]] == kind[order[waiting[0]]]]
        waiting = waiting[len(positions) :]
        group, before = [runs[p] for p in positions], len(results) * training.epochs
        make = partial(StackTraining, bank, group, positions, training, standardise, deliver, stop_at)
        shortage = _train(make, partial(_report, progress, total, before), state)
        if state is not None:
            state.remove()
        if not shortage:
            continue
        state = None  # of a stack that does not fit
        if home.type == "cuda":
            torch.cuda.empty_cache()
        if len(positions) == 1:
            reason = f"no memory for even one replica ({shortage}): lower batch_size, window or channels"
            deliver(positions[0], _failed(runs[positions[0]], reason, home))
            continue
        left = [p for p in positions if order[p] not in results]
        replicas = max(1, len(left) // 2)
        logger.warning(
            "no memory for %d replicas (%s): from now on %d at a time", len(positions), shortage, replicas
        )
        waiting = left + waiting
    return [results[position] for position in sorted(results)]


def _train(make: Callable[[], StackTraining], report: Callable[[int], None], state: StateFile | None) -> str:
    """Trains a stack; returns what the allocator says if memory runs out, and keeps nothing of the stack."""
    sweep = None
    try:
        sweep = make()
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            sweep.train(report, _keeper(state, sweep))
    except Exception as error:
        if _out_of_memory(error):
            return str(error).splitlines()[0]
        if sweep is not None:
            error.add_note(
                f"in epoch {sweep.epoch} of {sweep.training.epochs}, {len(sweep.stack)} runs together"
            )
        raise
    return ""


def _keeper(state: StateFile | None, sweep: StackTraining) -> StateFile | None:
    """Returns ``state`` with all that decides what it may be used for."""
    if state is None:
        return None
    identity: dict[str, Json] = {
        "given": state.identity,
        "runs": [asdict(run) for run in sweep.stack.runs],
        "training": asdict(sweep.training),
        "machine": machine.describe(sweep.device),
    }
    return StateFile(state.path, identity)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _failed(run: Run, reason: str, device: torch.device) -> RunResult:
    logger.warning("%s, seed %d: %s", run.name, run.seed, reason)
    return RunResult(
        run, "failed", reason, {}, math.nan, 0, 0, [], {}, {}, None, 0.0, str(device), torch.get_num_threads()
    )


def _report(progress: Progress, total: int, before: int, done: int) -> None:
    progress("train", total, before + done)


def _check_labels(bank: Bank, runs: Sequence[Run]) -> None:
    needed = {(task, bank.streams_of(run)): run.name for run in runs for task in run.tasks}
    for (task, streams), row in needed.items():
        spec = TASKS[task]
        labelled = {"training": bank.train.usable(spec, streams), "validation": bank.validation.known(spec)}
        for name, found in labelled.items():
            if not bool(found.any()):
                msg = f"the {name} split has no label of {task}, which {row} trains: drop the task or the row"
                raise ConfigError(msg)
