"""The outcome of training one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from temporal.inference.model import TrainedModel
from temporal.metrics import Metrics, Units
from temporal.settings import Run


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome of one run.

    Attributes:
        run: what was asked for.
        status: ``done``; ``failed`` with a ``reason``, or ``stopped`` because the caller said so: these have
            no model, metrics or predictions.
        reason: one line, empty unless failed.
        metrics: ``metrics.totals`` of the validation split at the best epoch, for the tasks trained.
        score: mean over the tasks trained of CCC (V, A) or the edition's total (AU, EXPR); NaN if failed.
        best_epoch: epoch of the best score, from 1; 0 if failed.
        epochs: epochs trained.
        history: one row per epoch: epoch, loss, loss per task, score, ccc or f1, accuracy, total per task.
        predictions: per validation clip and task, (T,) for V and A, (T, K) probabilities for AU and EXPR.
        units: per validation clip and task the sums that its scores are functions of, see
            ``metrics.unit_sums``: ``metrics.scores_of(metrics.pooled(units.values()), ...)`` is ``metrics``.
        model: the weights of the best epoch.
        seconds: this run's share of the wall clock: each epoch's time divided by the replicas that shared it.
        device: where it trained.
        threads: CPU threads of torch; another number rounds float32 sums differently.
        failed_step: the step of the last epoch at which a run failed, from 1; None if it failed after all
            steps, or did not fail.
    """

    run: Run
    status: Literal["done", "failed", "stopped"]
    reason: str
    metrics: Mapping[str, Metrics]
    score: float
    best_epoch: int
    epochs: int
    history: Sequence[Mapping[str, Any]]
    predictions: Mapping[str, Mapping[str, NDArray[np.float32]]]
    units: Units
    model: TrainedModel | None
    seconds: float
    device: str
    threads: int
    failed_step: int | None = None

    def __repr__(self) -> str:
        reached = f"{self.status}, score {self.score:.3f} at epoch {self.best_epoch} of {self.epochs}"
        return f"<RunResult {self.run.name}, seed {self.run.seed}: {self.reason or reached}>"
