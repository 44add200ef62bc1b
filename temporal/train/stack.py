"""One stack of replicas from its first epoch to its last result: schedule, validation, early stopping."""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stores import LabelSpec
from stores.editions import Edition
from stores.editions import edition as edition_named
from temporal.data.bank import Bank, Split
from temporal.data.minibatch import Batch, minibatches
from temporal.data.scaling import Standardisers
from temporal.data.windows import Ints, Windows, cut, epoch_batches
from temporal.inference import frames
from temporal.inference.model import TrainedModel
from temporal.metrics import Metrics, score, totals, unit_sums
from temporal.models.network import build
from temporal.registries import SAMPLERS, made
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.fused import Stack
from temporal.train.outcome import RunResult
from temporal.train.resume import StateFile
from temporal.train.sampling import Order
from temporal.train.targets import Objective, gather_targets, objective

logger = logging.getLogger(__name__)

EVALUATION_FACTOR = 4
"""Windows per evaluation batch, in training batches: no gradients are kept, so more fit."""

StopAt = Callable[[int, Mapping[Run, Sequence[float]]], Collection[Run]]
"""Given an epoch that ended and the score of every epoch so far of each run that trained it without failure:
the runs to stop now."""


def lr_factor(step: int, steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Returns the factor on the learning rate at ``step`` of ``steps``: warm-up, then ``schedule``.

    ``plateau`` is constant here: what it cuts is each replica's own rate, see ``Stack.plateau``.
    """
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (math.ceil(rising) + 1)
    if schedule != "cosine":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(steps - rising, 1.0)))


def rules_of(labels: LabelSpec) -> Edition:
    """Returns the edition of a label store, with the store's own lists of names."""
    return replace(edition_named(labels.edition), expressions=labels.expression_names, aus=labels.au_names)


@dataclass(slots=True)
class _State:
    """How far one replica is: its best epoch so far, or why it failed."""

    position: int
    score: float = -math.inf
    best_epoch: int = 0
    metrics: dict[str, Metrics] = field(default_factory=dict)
    predictions: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    failure: str = ""
    failed_step: int | None = None
    stopped: bool = False
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Returns all but the predictions, which are arrays."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "predictions"}


class StackTraining:
    """One stack of replicas from its first epoch to its last result."""

    def __init__(
        self,
        bank: Bank,
        runs: Sequence[Run],
        positions: Sequence[int],
        training: Training,
        standardise: Standardisers,
        deliver: Callable[[int, RunResult], None],
        stop_at: StopAt | None,
    ) -> None:
        self.stop_at = stop_at
        self.bank, self.training, self.deliver = bank, training, deliver
        self.streams = {run: bank.streams_of(run) for run in runs}
        read = {name for names in self.streams.values() for name in names}
        self.standardise = {name: standardise[name] for name in bank.feature_specs if name in read}
        self.device = bank.train.device
        self.tasks = tuple(task for task in TASKS if any(task in run.tasks for run in runs))
        self.sizes = {task: TASKS[task].size(bank.label_spec) for task in self.tasks}
        dims = {name: bank.train.dims[name] for name in self.standardise}
        self.stack = Stack(dims, self.sizes, runs, training, self.device)
        self.states = [_State(position) for position in positions]
        self.epoch = 0
        self.windows, self.validation_windows = (
            cut(split.offsets, training.window, training.hop, split.static)
            for split in (bank.train, bank.validation)
        )
        # As a run trained alone would see it: without what only the other streams of the bank have.
        seen = replace(bank.train, streams={name: bank.train.streams[name] for name in self.standardise})
        self.objective: Objective = objective(seen, bank.label_spec, training)
        self.order: Order = made("sampler", SAMPLERS, training.sampler)(
            self.windows, seen, self.tasks, bank.label_spec
        )
        self.labelled = {
            names: _labelled_windows(bank.train, self.windows, self.tasks, names)
            for names in set(self.streams.values())
        }
        self.rules = rules_of(bank.label_spec)
        self.labels = {task: bank.validation.labels[TASKS[task].array].cpu().numpy() for task in self.tasks}

    def train(self, report: Callable[[int], None], keeper: StateFile | None = None) -> None:
        """Trains to the end, from the state in ``keeper`` if there is one that fits."""
        epochs = self.training.epochs
        trained, completed = (0, 0) if keeper is None else self._resume(keeper)
        for epoch in range(trained + 1, epochs + 1):
            self.epoch = epoch
            began, shared = time.perf_counter(), len(self.stack)
            losses = self._epoch(epoch)
            self._validate(epoch, losses)
            self._stop(epoch)
            leaving = [row for row in range(shared) if self._is_over(row, epoch)]
            for state in self.states:
                state.seconds += (time.perf_counter() - began) / shared
            for row in leaving:
                self.deliver(self.states[row].position, self._result(row, epoch))
            completed += shared + len(leaving) * (epochs - epoch)
            report(completed)
            staying = [row for row in range(shared) if row not in leaving]
            if not staying:
                return
            if leaving:
                self.stack.keep(staying)
                self.states = [self.states[row] for row in staying]
            if keeper is not None and keeper.due():
                keeper.write(*self._snapshot(epoch, completed))

    def _snapshot(self, epoch: int, completed: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Returns tensors and facts from which the epochs after ``epoch`` follow."""
        tensors = {f"stack.{name}": tensor for name, tensor in self.stack.state().items()}
        for state in self.states:
            for task, values in state.predictions.items():
                tensors[f"predictions.{state.position}.{task}"] = torch.from_numpy(values)
        states = [state.facts() for state in self.states]
        return tensors, {"epoch": epoch, "completed": completed, "states": states}

    def _resume(self, keeper: StateFile) -> tuple[int, int]:
        """Takes over the state that was kept; returns epochs trained and completed, 0 and 0 without one."""
        kept = keeper.read()
        if kept is None:
            return 0, 0
        tensors, facts = kept
        first = self.states[0].position
        # Exactly the replicas that were in the stack then: beside others float32 sums round differently.
        self.stack.keep([state["position"] - first for state in facts["states"]])
        self.stack.restore(
            {name.removeprefix("stack."): tensor for name, tensor in tensors.items() if name[:6] == "stack."}
        )
        self.states = [_State(**state) for state in facts["states"]]
        for run, state in zip(self.stack.runs, self.states, strict=True):
            if state.best_epoch:
                arrays = {task: tensors[f"predictions.{state.position}.{task}"] for task in run.tasks}
                state.predictions = {task: array.numpy().copy() for task, array in arrays.items()}
        logger.info("going on after epoch %d with %d runs: %s", facts["epoch"], len(self.states), keeper.path)
        return facts["epoch"], facts["completed"]

    def _epoch(self, epoch: int) -> NDArray[np.float64]:
        """Trains one epoch; returns (R, N) mean losses over the minibatches that held a label of the task."""
        seed = self.training.data_seed
        order = self.order(seed, epoch)
        pieces = epoch_batches(self.windows, order, self.training.batch_size, seed, epoch)
        steps = len(pieces)
        sums = torch.zeros(len(self.stack), len(self.tasks), device=self.device)
        seen = np.zeros((len(self.stack), len(self.tasks)))
        read = [self.streams[run] for run in self.stack.runs]
        failed_step = torch.zeros(len(self.stack), dtype=torch.int64, device=self.device)
        active = self.stack.active.cpu().numpy()
        gathered = minibatches(self.bank.train, self.windows, pieces, self.standardise)
        for index, (chosen, batch) in enumerate(zip(pieces, gathered, strict=True)):
            held = {names: self.labelled[names][:, chosen].any(1) for names in set(read)}
            present = np.stack([held[names] for names in read])
            targets = gather_targets(self.bank.train, batch.rows, self._usable(batch), self.sizes)
            has_label = torch.from_numpy((active & present).any(1)).to(self.device)
            factor = lr_factor(
                (epoch - 1) * steps + index,
                self.training.epochs * steps,
                self.training.warmup,
                self.training.schedule,
            )
            if (epoch, index) == (1, 0):
                self.stack.pass_gate(batch.features, batch.mask, targets, self.objective)
            step = self.stack.step(batch.features, batch.mask, targets, self.objective, has_label, factor)
            sums += step.losses
            seen += present
            failed_step = torch.where((failed_step == 0) & ~step.finite, index + 1, failed_step)
        for row, failed in enumerate(failed_step.tolist()):
            if failed:
                where = f"epoch {epoch}, step {failed} of {steps}"
                state = self.states[row]
                state.failure = f"loss or gradient not finite at {where}: lower lr or check the features"
                state.failed_step = failed
        return sums.double().cpu().numpy() / np.maximum(seen, 1.0)

    def _usable(self, batch: Batch) -> torch.Tensor:
        """Returns (B, T) bool, or (R, B, T) if replicas read different streams: frames of use to the loss."""
        read = [self.streams[run] for run in self.stack.runs]
        if len(set(read)) == 1:
            return batch.usable(read[0])
        return torch.stack([batch.usable(names) for names in read])

    def _validate(self, epoch: int, losses: NDArray[np.float64]) -> None:
        parameters = self.stack.parameters
        values = frames.predict(
            lambda features, mask: self.stack.forward(parameters, features, mask),
            self.bank.validation,
            self.validation_windows,
            self.standardise,
            self.training.batch_size * EVALUATION_FACTOR,
        )
        improved = []
        scores = np.full(len(self.stack), np.nan)
        for row, (run, state) in enumerate(zip(self.stack.runs, self.states, strict=True)):
            predictions = {t: frames.as_labels(t, values[t][row].cpu().numpy()) for t in run.tasks}
            if not state.failure and not all(np.isfinite(array).all() for array in predictions.values()):
                state.failure = f"predictions not finite after epoch {epoch}: lower lr or check the features"
            if state.failure:
                continue
            entries = totals(self.labels, predictions, self.rules)
            scores[row] = reached = score(entries)
            own = {t: float(losses[row, self.tasks.index(t)]) for t in run.tasks}
            line: dict[str, Any] = {"epoch": epoch, "score": reached}
            line["loss"] = sum(run.loss_weights.get(t, 1.0) * loss for t, loss in own.items())
            line["losses"] = own
            for task, entry in entries.items():
                line[task] = {key: value for key, value in entry.items() if isinstance(value, float)}
            state.history.append(line)
            if reached > state.score:
                state.score, state.best_epoch = reached, epoch
                # A copy: these are rows of an array of all replicas, which would live as long as they do.
                state.metrics, state.predictions = entries, {t: a.copy() for t, a in predictions.items()}
                improved.append(row)
        self.stack.remember(improved)
        if self.training.schedule == "plateau":
            self.stack.plateau(torch.from_numpy(scores))

    def _is_over(self, row: int, epoch: int) -> bool:
        state, patience = self.states[row], self.training.patience
        waited = epoch - state.best_epoch
        over = bool(state.failure) or epoch == self.training.epochs or (patience > 0 and waited >= patience)
        return over or state.stopped

    def _stop(self, epoch: int) -> None:
        """Marks the runs that the caller stops; one that ends at this epoch anyway is not among them."""
        if self.stop_at is None:
            return
        rows = {run: row for row, run in enumerate(self.stack.runs) if not self.states[row].failure}
        scores = {run: [line["score"] for line in self.states[row].history] for run, row in rows.items()}
        for run in self.stop_at(epoch, scores):
            self.states[rows[run]].stopped = not self._is_over(rows[run], epoch)

    def _result(self, row: int, epoch: int) -> RunResult:
        state, run, threads = self.states[row], self.stack.runs[row], torch.get_num_threads()
        if state.failure:
            logger.warning("%s, seed %d: %s", run.name, run.seed, state.failure)
        if state.failure or state.stopped:
            score, best = (math.nan, 0) if state.failure else (state.score, state.best_epoch)
            return RunResult(
                run, "failed" if state.failure else "stopped", state.failure, {}, score, best, epoch,
                state.history, {}, {}, None, state.seconds, str(self.device), threads, state.failed_step,
            )  # fmt: skip
        split = self.bank.validation
        predictions = {
            clip: {task: values[first:end] for task, values in state.predictions.items()}
            for clip, first, end in zip(split.clips, split.offsets[:-1], split.offsets[1:], strict=True)
        }
        units = unit_sums(self.labels, state.predictions, split.clips, split.offsets, self.rules)
        return RunResult(
            run, "done", "", state.metrics, state.score, state.best_epoch, epoch, state.history, predictions,
            units, self._model(row), state.seconds, str(self.device), threads,
        )  # fmt: skip

    def _model(self, row: int) -> TrainedModel:
        """Returns the best weights as a network that has the run's own parts and nothing else."""
        run, bank = self.stack.runs[row], self.bank
        sizes = {task: self.sizes[task] for task in run.tasks}
        names = self.streams[run]
        dims = {name: bank.train.dims[name] for name in names}
        network = build(dims, sizes, self.training, attention=run.attention)
        weights = self.stack.best_weights(row)
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
        thresholds = {task: (0.5,) * size for task, size in sizes.items() if TASKS[task].metric == "binary"}
        return TrainedModel(
            network,
            {name: (bank.reduction or self.standardise)[name].to("cpu") for name in names},
            {name: bank.feature_specs[name] for name in names},
            bank.label_spec,
            run,
            self.training,
            thresholds,
        )


def _labelled_windows(
    split: Split, windows: Windows, tasks: Sequence[str], streams: Sequence[str]
) -> NDArray[np.bool_]:
    """Returns (N, W) bool: the window holds a label that the loss of a run on ``streams`` may use."""
    table = np.zeros((len(tasks), len(windows)), dtype=bool)
    ends: Ints = windows.start + windows.frames
    for row, task in enumerate(tasks):
        usable = split.usable(TASKS[task], streams).cpu().numpy().reshape(split.frames, -1).any(1)
        before = np.concatenate([[0], np.cumsum(usable)])
        table[row] = before[ends] > before[windows.start]
    return table
