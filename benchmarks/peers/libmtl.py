"""The same model trained by LibMTL 1.1.5 with equal weighting and hard parameter sharing.

Not LibMTL as it is: it is older than the torch here, and shimmed where it imports a module that torchvision
has lost, where it asks for a CUDA device and for ``iterator.next()``. Its training loop runs as it is.
"""

import contextlib
import io
import itertools
import math
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.experiment import Loader
from benchmarks.peers.tcn_loop import Encoder, Peer, adamw
from temporal.data.minibatch import gather
from temporal.data.windows import batches, cut
from temporal.settings import Run, Training
from temporal.train.stack import lr_factor
from temporal.train.targets import Objective, Targets, gather_targets

GONE = types.ModuleType("torchvision.models.utils")
GONE.load_state_dict_from_url = torch.hub.load_state_dict_from_url
with mock.patch.dict(sys.modules, {GONE.__name__: GONE}):
    import LibMTL.architecture
    import LibMTL.loss
    import LibMTL.metrics
    import LibMTL.trainer
    import LibMTL.weighting


class TaskLoss(LibMTL.loss.AbsLoss):
    """A task's loss in LibMTL's form; targets (B, T, ..., 2) are labels and their mask."""

    def __init__(self, form: Callable[[Tensor, Tensor, Tensor], Tensor], *, classes: bool) -> None:
        super().__init__()
        self.form, self.classes = form, classes

    def compute_loss(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Returns the loss of logits (B, T, K)."""
        target, known = gt.unbind(-1)
        return self.form(pred, target.long() if self.classes else target, known)


class NoMetric(LibMTL.metrics.AbsMetric):
    """Costs nothing: LibMTL is not asked to score its validation."""

    def update_fun(self, pred: Tensor, gt: Tensor) -> None:
        """Does nothing."""

    def score_fun(self) -> list[float]:
        """Returns a score of 1, which LibMTL can divide by."""
        return [1.0]


class Head(nn.Module):
    """A decoder: one linear head on the channels, which may be gated."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, gated: Tensor) -> Tensor:
        """Maps channels (B, C, T) to logits (B, T, K)."""
        return self.linear(gated.transpose(1, 2))


class GatedEncoder(nn.Module):
    """The encoder in the form that LibMTL's hard parameter sharing expects: one representation per task."""

    def __init__(self, encoder: Encoder, tasks: int) -> None:
        super().__init__()
        self.encoder, self.tasks = encoder, tasks

    def forward(self, features: Tensor) -> list[Tensor]:
        """Maps features (B, T, D) to channels (B, C, T) per task."""
        h, gate = self.encoder(features)
        return [h if gate is None else h * gate[:, task : task + 1] for task in range(self.tasks)]


class Minibatches:
    """A dataloader as LibMTL 1.1.5 reads it: an iterator with ``next``, targets per task as one tensor."""

    def __init__(self, loader: Loader, tasks: Sequence[str], size: int, epochs: Iterator[int]) -> None:
        self.loader, self.tasks, self.size, self.epochs = loader, tasks, size, epochs

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        self.batches = self.loader.epoch(next(self.epochs), self.tasks)
        return self  # type: ignore[return-value]

    def __next__(self) -> tuple[Tensor, dict[str, Tensor]]:
        features, targets = next(self.batches)
        values, known = targets.values, targets.known
        return features, {t: torch.stack([values[t].float(), known[t]], -1) for t in self.tasks}

    next = __next__


class ValidationBatches(Minibatches):
    """Windows of the validation split, from memory."""

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        self.batches = self.windows()
        return self  # type: ignore[return-value]

    def windows(self) -> Iterator[tuple[Tensor, Targets]]:
        """Yields features and targets."""
        data, training = self.loader.data, self.loader.training
        split = data.bank.validation
        windows = cut(split.offsets, training.window, training.hop)
        for chosen in batches(np.arange(len(windows)), training.batch_size * 4):
            batch = gather(split, windows, chosen, data.standardise)
            yield (
                batch.features["face"],
                gather_targets(split, batch.rows, batch.usable(), dict.fromkeys(self.tasks)),
            )


def train_libmtl(
    run: Run,
    loader: Loader,
    training: Training,
    form: Objective,
    kind: str,
    losses: list[float] | None = None,
) -> float:
    """Trains one run with LibMTL's Trainer, equal weighting, hard parameter sharing."""
    data = loader.data
    peer = Peer(data, training, run)
    tasks = {
        task: {
            "metrics": ["none"],
            "metrics_fn": NoMetric(),
            "loss_fn": TaskLoss(form.forms[task], classes=task == "EXPR"),
            "weight": [1],
        }
        for task in run.tasks
    }
    device = str(data.bank.train.device)
    with mock.patch.object(torch, "device", return_value=device), contextlib.redirect_stdout(io.StringIO()):
        trainer = LibMTL.trainer.Trainer(
            tasks,
            LibMTL.weighting.EW,
            LibMTL.architecture.HPS,
            lambda: GatedEncoder(peer.encoder, len(run.tasks)),
            nn.ModuleDict({task: Head(peer.heads.linear[task]) for task in run.tasks}),
            rep_grad=False,
            multi_input=False,
            optim_param={"optim": "adam", "lr": run.lr},
            scheduler_param=None,
            weight_args={},
            arch_args={},
        )
    parameters = list(trainer.model.parameters())
    trainer.optimizer = adamw(iter(parameters), run, kind)
    step, steps = itertools.count(), len(loader) * training.epochs

    def before(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        nn.utils.clip_grad_norm_(parameters, training.clip_norm, foreach=True)
        optimiser.param_groups[0]["lr"] = run.lr * lr_factor(next(step), steps, training.warmup)

    trainer.optimizer.register_step_pre_hook(before)
    if losses is not None:
        plain = trainer._compute_loss

        def recorded(*args: Any) -> Tensor:
            found = plain(*args)
            if trainer.model.training:
                losses.append(found.sum().item())
            return found

        trainer._compute_loss = recorded
    train = Minibatches(loader, run.tasks, len(loader), itertools.count(1))
    windows = len(cut(data.bank.validation.offsets, training.window, training.hop))
    test = ValidationBatches(
        loader, run.tasks, math.ceil(windows / (4 * training.batch_size)), itertools.count()
    )
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train(train, test, training.epochs)
    return math.nan
