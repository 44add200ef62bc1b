"""Successive halving (Jamieson & Talwalkar 2016): now and then only the best settings of a combination go on.

Not a trainer: this decides, from the scores so far, which runs ``temporal.fit`` should stop.

Runs of a bracket train in one stack, so all reach a rung at the same time and the synchronous form costs no
waiting; ASHA (Li et al. 2020) is for settings that train apart. A setting goes on with all its seeds or none:
it is ranked by the mean over seeds of the best validation score so far, so that a row of the table has them
all. Learning rates follow the schedule of the full length, and a run that is never stopped is the run that it
would be without halving.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline import ledger
from pipeline.config import Halving
from pipeline.plan import PlannedRun
from stores.errors import FacetsError

Scores = Mapping[str, Sequence[float]]
"""Run id -> validation score of each epoch that it trained."""

Rule = Callable[[int, Scores], set[str]]
"""Given the epoch that ended and the scores of the runs still training: those that stop."""


def rungs(halving: Halving, epochs: int) -> list[int]:
    """Returns the epochs after which settings are compared: ``min_epochs`` times powers of ``eta``."""
    found, epoch = [], halving.min_epochs
    while epoch < epochs:
        found.append(epoch)
        epoch *= halving.eta
    return found


def survivors(halving: Halving, settings: int, epochs: int) -> list[int]:
    """Returns how many of ``settings`` go on after each rung: floor(n / eta^k), at least one."""
    return [max(1, settings // halving.eta**k) for k in range(1, len(rungs(halving, epochs)) + 1)]


def losers(bracket: Sequence[PlannedRun], halving: Halving, epoch: int, scores: Scores) -> set[str]:
    """Returns the runs that end at the rung of ``epoch``; a pure function of its arguments.

    Earlier rungs are decided again from the same scores, so nothing needs to be remembered between rungs.

    Args:
        bracket: its runs, all seeds of all settings.
        halving: how many go on, and when.
        epoch: a rung.
        scores: of every run of the bracket as far as it came; a run without scores failed and ranks last.
    """
    seeds: dict[str, list[str]] = {}
    for run in bracket:
        seeds.setdefault(run.name, []).append(run.run_id)
    epochs = int(str(bracket[0].training["epochs"]))
    left = list(seeds)
    for rung, kept in zip(rungs(halving, epochs), survivors(halving, len(left), epochs), strict=True):

        def standing(name: str, rung: int = rung) -> float:
            best = [best_of(scores.get(run_id, ())[:rung]) for run_id in seeds[name]]
            return sum(best) / len(best)

        ranked = sorted(left, key=standing, reverse=True)  # stable: of equals the first in the plan
        if rung == epoch:
            return {run_id for name in ranked[kept:] for run_id in seeds[name]}
        left = [name for name in left if name in ranked[:kept]]
    return set()


def best_of(scores: Sequence[float]) -> float:
    """Returns the highest score, minus infinity where there is none."""
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)


def stop_rule(planned: Sequence[PlannedRun], halving: Halving, folder: Path) -> Rule:
    """Returns what stops runs while they train.

    The scores of runs that left the stack, or that an earlier process finished, are read from their folders;
    so a sweep that was interrupted takes the same decisions.

    Args:
        planned: all runs of the sweep.
        halving: how many go on, and when.
        folder: of the runs.
    """
    brackets: dict[str, list[PlannedRun]] = {}
    for run in planned:
        if run.bracket:
            brackets.setdefault(run.bracket, []).append(run)

    def stop(epoch: int, scores: Scores) -> set[str]:
        stopped: set[str] = set()
        for bracket in brackets.values():
            training = [run for run in bracket if run.run_id in scores]
            if training and epoch in rungs(halving, int(str(training[0].training["epochs"]))):
                known = {
                    run.run_id: scores[run.run_id] if run.run_id in scores else past_scores(folder, run)
                    for run in bracket
                }
                stopped |= losers(bracket, halving, epoch, known)
        return stopped & set(scores)

    return stop


def past_scores(folder: Path, run: PlannedRun) -> Sequence[float]:
    """Returns the scores per epoch of a run that is not training; none if it failed.

    Raises:
        FacetsError: it has left no trace: it belongs to this stack, but is not in it.
    """
    home = folder / run.run_id
    status = ledger.status(home, run.bracket)
    if status == "missing":
        msg = (
            f"{home} has no result, and {run.name}, seed {run.seed}, is not training beside the runs it is"
            " compared with: train its bracket in one group; where there was no memory for that, lower"
            " training.batch_size or window, or plan fewer settings or seeds"
        )
        raise FacetsError(msg)
    if status == "failed":
        return ()
    return ledger.epoch_scores(home, run)
