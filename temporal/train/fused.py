"""R replicas of one network trained as one program, each exactly as if it were alone.

``temporal.train.stack`` decides order, schedule and stopping. R = 1 is the plain case.

All parameters of a replica are one row of an (R, P) tensor: the optimiser, clipping, freezing, compaction
and keeping the best epoch are row operations. ``torch.func`` maps the network over the rows; the input
projection, which all replicas apply to the same minibatch, is one dense product for all of them. Nothing is
averaged over replicas.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from temporal.models.network import build, initialise, part_seed
from temporal.settings import Run, Training
from temporal.train.precision import products, require_parity
from temporal.train.targets import Objective, Targets

Program: TypeAlias = Callable[..., Tensor]
"""``Stack._losses``, or the same compiled."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
PLATEAU_THRESHOLD = 1e-4
RECOMPILE_LIMIT = 1000
PER_REPLICA = (
    *("parameters", "first_moment", "second_moment", "best", "steps", "lr", "weight_decay"),
    *("alive", "active", "attend", "loss_weights", "plateau_best", "plateau_waited"),
)
"""Tensors of a stack whose first axis is the replicas."""


def compiled(program: Program, device: torch.device) -> Program:
    """Returns ``program`` compiled by torch when it is first called; on CUDA replayed as a CUDA graph."""
    # Replicas leave one by one, each time for another program; beyond the limit torch would not compile.
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    return torch.compile(program, mode="reduce-overhead" if device.type == "cuda" else None)


def windows_of(features: Mapping[str, Tensor]) -> int:
    """Returns the number of windows B of a minibatch."""
    return len(next(iter(features.values())))


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did, per replica; everything stays on the device.

    Attributes:
        losses: (R, N) loss per task, before its weight; 0 for tasks that a replica does not train.
        finite: (R,) bool, loss and gradient were finite.
    """

    losses: Tensor
    finite: Tensor


class Stack:
    """R replicas: parameters, AdamW state, dropout streams, and which of them still learn.

    Args:
        dims: length of the vectors of each stream that any run reads.
        sizes: outputs of each task that any run trains, in canonical order.
        runs: one per replica.
        training: what they share.
        device: where they live.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        sizes: Mapping[str, int],
        runs: Sequence[Run],
        training: Training,
        device: torch.device,
    ) -> None:
        self.runs = list(runs)
        self.tasks, self.streams = tuple(sizes), tuple(dims)
        self.training = training
        self.device = device
        network = build(dims, sizes, training, attention=any(run.attention for run in runs))
        rows = []
        for run in runs:
            initialise(network, run.seed)
            rows.append(torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
        self.shapes = {name: p.shape for name, p in network.named_parameters()}
        self.body = network
        self.plain = build(dims, sizes, training, attention=False)
        self.project = network.projection is not None
        self.body.projection = self.plain.projection = None
        self.parameters = torch.stack(rows).to(device)
        self.first_moment = torch.zeros_like(self.parameters)
        self.second_moment = torch.zeros_like(self.parameters)
        self.best = self.parameters.clone()

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(1)

        self.steps = column([0.0] * len(runs))
        self.lr = column([run.lr for run in runs])
        self.weight_decay = column([run.weight_decay for run in runs])
        self.plateau_best = column([-math.inf] * len(runs)).double()
        self.plateau_waited = column([0.0] * len(runs))
        self.alive = torch.ones(len(runs), dtype=torch.bool, device=device)
        self.active = torch.tensor([[t in run.tasks for t in self.tasks] for run in runs], device=device)
        self.attend = torch.tensor([run.attention for run in runs], device=device)
        self.loss_weights = torch.tensor(
            [[run.loss_weights.get(t, 1.0) for t in self.tasks] for run in runs], device=device
        )
        self.dropout_streams = [torch.Generator().manual_seed(part_seed(run.seed, "dropout")) for run in runs]
        self.program = compiled(self._losses, device) if training.compile else self._losses

    def __len__(self) -> int:
        return len(self.runs)

    def draw_dropout(self, batch: int) -> Tensor | None:
        """Returns (R, layers, B, C) channel factors, each replica's from its own stream; None for none."""
        if not any(run.dropout for run in self.runs):
            return None
        layers, width = self.body.trunk.dropout_shape
        shape = (layers, batch, width)
        factors = []
        for run, stream in zip(self.runs, self.dropout_streams, strict=True):
            kept = torch.rand(shape, generator=stream) >= run.dropout
            factors.append(kept.float() / (1.0 - run.dropout))
        return torch.stack(factors).to(self.device, non_blocking=True)

    def forward(
        self,
        parameters: Tensor,
        features: Mapping[str, Tensor],
        mask: Tensor | None,
        dropout: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns logits (R, B, T, K) per task for ``parameters`` (R, P), features (B, T, D) per stream."""
        pieces = self._pieces()
        lengths = [len(runs) for runs in pieces]
        rows, active = torch.split(parameters, lengths), torch.split(self.active, lengths)
        factors = torch.split(dropout, lengths) if dropout is not None else [None] * len(pieces)
        parts = [
            self._forward(runs, rows[index], active[index], features, mask, factors[index])
            for index, runs in enumerate(pieces)
        ]
        return {task: torch.cat([part[task] for part in parts]) for task in parts[0]}

    def _pieces(self) -> list[list[Run]]:
        """Returns the runs in pieces that are one program each.

        On a CPU a step costs its arithmetic, so replicas without attention run apart from those with it and
        do not compute it. On CUDA a step costs its launches, so there is one piece.
        """
        if self.device.type != "cpu":
            return [self.runs]
        return [list(alike) for _, alike in groupby(self.runs, key=lambda run: run.attention)]

    def reads(self, run: Run) -> list[bool]:
        """Returns which of the stack's streams a run reads."""
        return [not run.streams or name in run.streams for name in self.streams]

    def _forward(
        self,
        runs: Sequence[Run],
        parameters: Tensor,
        active: Tensor,
        features: Mapping[str, Tensor],
        mask: Tensor | None,
        dropout: Tensor | None,
    ) -> dict[str, Tensor]:
        """Returns logits of neighbouring replicas; all arguments but features and mask are theirs."""
        attends = {run.attention for run in runs}
        body = self.body if any(attends) else self.plain
        attend = self.attend if len(attends) > 1 else None
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = torch.split(parameters, sizes, dim=1)
        named = {
            name: piece.view(len(piece), *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        reads = [self.reads(run) for run in runs]
        streams, x_axis = dict(features), None
        if self.project:
            streams, x_axis = self._projected(features, named, reads), 2
        choice = None
        if len(self.streams) > 1:
            choice = torch.tensor(reads, device=self.device)
        own = {name: named[name] for name, _ in body.named_parameters()}

        def one(
            part: dict[str, Tensor],
            x: dict[str, Tensor],
            active: Tensor,
            attend: Tensor | None,
            dropout: Tensor | None,
            choice: Tensor | None,
        ) -> dict[str, Tensor]:
            arguments = (x, mask, active, attend, dropout, choice)
            logits: dict[str, Tensor] = functional_call(body, part, arguments)
            return logits

        axes = (0, x_axis, 0, *(None if given is None else 0 for given in (attend, dropout, choice)))
        logits: dict[str, Tensor] = torch.vmap(one, in_dims=axes)(
            own, streams, active, attend, dropout, choice
        )
        return logits

    def _projected(
        self, features: Mapping[str, Tensor], named: Mapping[str, Tensor], reads: Sequence[Sequence[bool]]
    ) -> dict[str, Tensor]:
        """Returns (B, T, R, P) of each stream; zeros for replicas that do not read it.

        These take no part in the product, so that nothing in the stream reaches them or their gradients.
        """
        projected = {}
        for index, name in enumerate(self.streams):
            weight, bias = named[f"projection.{name}.weight"], named[f"projection.{name}.bias"]
            readers = [row for row, read in enumerate(reads) if read[index]]
            rows = torch.tensor(readers, dtype=torch.int64, device=self.device)
            if len(readers) < len(reads):
                weight, bias = weight.index_select(0, rows), bias.index_select(0, rows)
            x = F.linear(features[name], weight.flatten(0, 1), bias.flatten())
            x = x.view(*x.shape[:2], *bias.shape)
            if len(readers) < len(reads):
                everyone = x.new_zeros(*x.shape[:2], len(reads), x.shape[-1])
                x = everyone.index_copy(2, rows, x)
            projected[name] = x
        return projected

    def step(
        self,
        features: Mapping[str, Tensor],
        mask: Tensor | None,
        targets: Targets,
        objective: Objective,
        has_label: Tensor,
        lr_factor: float,
    ) -> StepReport:
        """Takes one step of Adam or AdamW for every replica that the minibatch can teach.

        A replica without a label in the minibatch is left exactly as it is, moments included. A replica whose
        loss or gradient is not finite is left as it was before this step and never learns again.

        Args:
            features: per stream, (B, T, D) float32, the same minibatch for all replicas.
            mask: (B, T) float32 or None, as for ``Network``.
            targets: labels of the minibatch.
            objective: losses per task.
            has_label: (R,) bool, the minibatch holds a label of a task of the replica.
            lr_factor: factor of the schedule on every replica's learning rate.
        """
        dropout = self.draw_dropout(windows_of(features))
        losses, gradient = self._gradient(
            self.program, features, mask, targets, objective, dropout, self.training.precision
        )
        loss = (losses * self.loss_weights).sum(1)
        norm = gradient.norm(dim=1)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self.alive &= finite
        learns = (self.alive & has_label).unsqueeze(1)
        # In place: these tensors are the largest there are, and a fresh one costs more than the arithmetic.
        gradient.masked_fill_(~learns, 0.0)
        if self.training.clip_norm:
            scale = self.training.clip_norm / norm.clamp_min(self.training.clip_norm)
            gradient.mul_(torch.where(learns, scale.unsqueeze(1), 0.0))
        # Zero gradients and zero rates leave the other rows bit for bit as they are.
        self._update(gradient, learns.to(gradient.dtype), lr_factor)
        return StepReport(losses, finite)

    def pass_gate(
        self, features: Mapping[str, Tensor], mask: Tensor | None, targets: Targets, objective: Objective
    ) -> None:
        """Compares a minibatch's gradients as training computes them with those of plain float32.

        Raises:
            ConfigError: they point elsewhere.
        """
        precision, program = self.training.precision, self.program
        if precision == "float32" and not self.training.compile:
            return
        # Factors of one, not none, so that the program that is compiled is the one that steps run.
        dropout = None
        if any(run.dropout for run in self.runs):
            layers, width = self.body.trunk.dropout_shape
            dropout = torch.ones(len(self), layers, windows_of(features), width, device=self.device)
        batch = (features, mask, targets, objective, dropout)
        plain = self._gradient(self._losses, *batch, "float32")[1]
        reduced = self._gradient(program, *batch, precision)[1]
        require_parity(f"{precision}, compiled" if self.training.compile else precision, plain, reduced)

    def _gradient(
        self,
        program: Program,
        features: Mapping[str, Tensor],
        mask: Tensor | None,
        targets: Targets,
        objective: Objective,
        dropout: Tensor | None,
        precision: str,
    ) -> tuple[Tensor, Tensor]:
        """Returns losses (R, N), 0 for tasks that a replica does not train, and gradients (R, P)."""
        parameters = self.parameters.detach().requires_grad_()
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        with products(self.device, tf32=precision == "tf32"):
            losses = program(parameters, features, mask, targets, objective, dropout, dtype)
            (gradient,) = torch.autograd.grad((losses * self.loss_weights).sum(), parameters)
        return losses.detach(), gradient

    def _losses(
        self,
        parameters: Tensor,
        features: Mapping[str, Tensor],
        mask: Tensor | None,
        targets: Targets,
        objective: Objective,
        dropout: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Returns losses (R, N) of a network that computes in ``dtype``."""
        # Cast by hand: autocast does not reach what vmap maps.
        mask, dropout = (None if x is None else x.to(dtype) for x in (mask, dropout))
        streams = {name: x.to(dtype) for name, x in features.items()}
        logits = self.forward(parameters.to(dtype), streams, mask, dropout)
        full = {task: values.float() for task, values in logits.items()}
        losses = objective.of_stack(full, targets)
        return torch.where(self.active, losses, 0.0)

    def _update(self, gradient: Tensor, learns: Tensor, lr_factor: float) -> None:
        """Updates moments and parameters; the memory of ``gradient`` (R, P) is used up."""
        decoupled = self.training.optimizer == "adamw"
        if not decoupled:
            gradient.addcmul_(self.parameters, self.weight_decay * learns)
            gradient.masked_fill_(learns == 0.0, 0.0)  # 0 times what overflowed is not 0
        self.steps += learns
        self.first_moment.lerp_(gradient, (1.0 - BETA1) * learns)
        self.second_moment.mul_(1.0 - (1.0 - BETA2) * learns).addcmul_(gradient, gradient, value=1.0 - BETA2)
        steps = self.steps.clamp_min(1.0)
        rate = self.lr * lr_factor * learns
        # m / (sqrt(v / c) + e) = sqrt(c) m / (sqrt(v) + sqrt(c) e), which corrects the bias per row.
        root = (1.0 - BETA2**steps).sqrt()
        update = torch.sqrt(self.second_moment, out=gradient).add_(EPSILON * root)
        torch.div(self.first_moment, update, out=update)
        if decoupled:
            self.parameters.mul_(1.0 - rate * self.weight_decay)
        self.parameters.addcmul_(update, rate * root / (1.0 - BETA1**steps), value=-1.0)

    def plateau(self, scores: Tensor) -> None:
        """Cuts the rate of every replica whose score (R,) has not risen for ``plateau_patience`` epochs.

        The rule is that of ``torch.optim.lr_scheduler.ReduceLROnPlateau(mode="max")``: to rise is to exceed
        the best score by one part in 10^4.
        """
        score = scores.to(self.device, torch.float64).unsqueeze(1)
        rises = score > self.plateau_best * (1.0 + PLATEAU_THRESHOLD)
        self.plateau_best = torch.where(rises, score, self.plateau_best)
        waited = torch.where(rises, 0.0, self.plateau_waited + 1.0)
        cut = waited > self.training.plateau_patience
        lower = torch.clamp(self.lr * self.training.plateau_factor, min=self.training.plateau_min_lr)
        # A rate that starts below the smallest one stays where it is.
        self.lr = torch.where(cut, torch.minimum(lower, self.lr), self.lr)
        self.plateau_waited = torch.where(cut, 0.0, waited)

    def remember(self, rows: Sequence[int]) -> None:
        """Keeps the present parameters of ``rows`` as their best."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        self.best.index_copy_(0, index, self.parameters.index_select(0, index))

    def keep(self, rows: Sequence[int]) -> None:
        """Drops every replica but ``rows``; the others' numbers do not change."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        for name in PER_REPLICA:
            setattr(self, name, getattr(self, name).index_select(0, index))
        self.runs = [self.runs[row] for row in rows]
        self.dropout_streams = [self.dropout_streams[row] for row in rows]

    def state(self) -> dict[str, Tensor]:
        """Returns all that training changes, by name; not a copy, so for use before the next step."""
        streams = torch.stack([stream.get_state() for stream in self.dropout_streams])
        return {**{name: getattr(self, name) for name in PER_REPLICA}, "dropout_streams": streams}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over ``state`` of a stack of the same replicas: its next steps are those of that stack."""
        for name in PER_REPLICA:
            getattr(self, name).copy_(state[name])
        for stream, kept in zip(self.dropout_streams, state["dropout_streams"], strict=True):
            stream.set_state(kept.clone())

    def best_weights(self, row: int) -> dict[str, Tensor]:
        """Returns the best parameters of one replica by name, on the CPU."""
        flat = self.best[row].cpu()
        pieces = torch.split(flat, [math.prod(shape) for shape in self.shapes.values()])
        return {
            name: piece.view(shape).clone()
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
