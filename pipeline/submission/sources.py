"""Which run of a submission predicts which task, and which of its outputs the track asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.prediction.finished import FinishedRun, Values, open_run
from stores import LabelSpec
from stores.editions import Edition, Track
from stores.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """A finished run and the tasks that a submission takes from it.

    Attributes:
        run: the run.
        columns: task -> which outputs of the run are wanted, in the order of the track.
    """

    run: FinishedRun
    columns: dict[str, tuple[int, ...]]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Probability from which each AU of the track is on; empty if AU is not taken."""
        return tuple(self.run.thresholds[column] for column in self.columns.get("AU", ()))

    def pick(self, values: Values) -> dict[str, NDArray[np.float64]]:
        """Returns (T, K) per task: the outputs that the track asks for, of a run's predictions of a clip."""
        return {
            task: values[task].reshape(len(values[task]), -1)[:, columns].astype(np.float64)
            for task, columns in self.columns.items()
        }


def open_runs(runs: Path, run_ids: Sequence[str], track: Track) -> list[Source]:
    """Finds each task of ``track`` in one of the runs.

    Outputs are matched by name. AUs that the track does not ask for are left out. A class list must have
    exactly the track's names: a probability among other classes is another number.

    Args:
        runs: folder with one folder per run.
        run_ids: the runs.
        track: what to submit to.

    Raises:
        ConfigError: a run is not there or not finished, no run or several have a task, or names differ.
        StoreError: a run's files are damaged.
    """
    taken: dict[str, str] = {}
    sources = []
    for run_id in dict.fromkeys(run_ids):
        run = open_run(runs, run_id)
        wanted = [task for task in track.tasks if task in run.tasks]
        if not wanted:
            msg = f"run {run_id} predicts {', '.join(run.tasks)}, nothing that track {track.name} asks for"
            raise ConfigError(msg)
        for task in wanted:
            if task in taken:
                msg = f"runs {taken[task]} and {run_id} both predict {task}: leave one out"
                raise ConfigError(msg)
            taken[task] = run_id
        sources.append(Source(run, {task: _columns(task, run.names, track.rules, run_id) for task in wanted}))
    if lacking := [task for task in track.tasks if task not in taken]:
        msg = (
            f"track {track.name} needs {', '.join(track.tasks)}, and no given run predicts"
            f" {', '.join(lacking)}: add a run that does"
        )
        raise ConfigError(msg)
    return sources


def _columns(task: str, names: LabelSpec, rules: Edition, run_id: str) -> tuple[int, ...]:
    """Returns which outputs are the track's, in its order."""
    if task == "AU":
        ours, wanted, expected = names.au_names, rules.aus, "all AUs"
        fits = set(wanted) <= set(ours)
    elif task == "EXPR":
        ours, wanted, expected = names.expression_names, rules.expressions, "exactly the classes"
        fits = set(wanted) == set(ours)
    else:
        return (0,)
    if not fits:
        msg = (
            f"run {run_id} predicts {task} {', '.join(ours)}; {rules.name} asks for {expected}"
            f" {', '.join(wanted)}: choose the edition the run was trained for, or train on its label list"
        )
        raise ConfigError(msg)
    return tuple(ours.index(name) for name in wanted)
