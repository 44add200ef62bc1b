"""An ordinary loop over one model: pytorch-tcn's TCN with our heads and attention, from the same weights.

Not what a sweep runs: see ``temporal.train.fused``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import pytorch_tcn
import torch
from torch import Tensor, nn

from benchmarks.peers.experiment import Data, Loader, sizes_of
from temporal.data.windows import cut
from temporal.inference import frames
from temporal.metrics import score, totals
from temporal.models import Heads, initialise
from temporal.models.gated import GatedAttention
from temporal.models.network import build
from temporal.settings import Run, Training
from temporal.tasks import TASKS
from temporal.train.stack import lr_factor, rules_of
from temporal.train.targets import Objective


class Encoder(nn.Module):
    """The same network around pytorch-tcn's TCN: projection, TCN, attention."""

    def __init__(self, dim: int, tasks: Sequence[str], training: Training, run: Run) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, training.projection) if training.projection else None
        self.tcn = pytorch_tcn.TCN(
            training.projection or dim,
            [training.channels] * training.levels,
            kernel_size=training.kernel_size,
            dropout=run.dropout,
            causal=training.causal,
            use_norm="weight_norm",
            activation="leaky_relu",
            input_shape="NCL",
        )
        for block in self.tcn.network:
            block.dropout1, block.dropout2 = nn.Dropout1d(run.dropout), nn.Dropout1d(run.dropout)
        self.attention = GatedAttention(training.channels, tasks, 1) if run.attention else None
        self.register_buffer("active", torch.ones(len(tasks), dtype=torch.bool), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns channels (B, C, T) and the gate (B, N, T), if there is attention."""
        x = features if self.projection is None else self.projection(features)
        h = self.tcn(x.transpose(1, 2))
        return h, None if self.attention is None else self.attention.weights(h, self.active).squeeze(2)


class Peer(nn.Module):
    """Encoder and heads."""

    def __init__(self, data: Data, training: Training, run: Run) -> None:
        super().__init__()
        dims, sizes = data.bank.train.dims, sizes_of(data, run.tasks)
        self.encoder = Encoder(dims["face"], run.tasks, training, run)
        self.heads = Heads(training.channels, sizes)
        network = build(dims, sizes, training, attention=run.attention)
        initialise(network, run.seed)
        self.load_state_dict(translated(network.state_dict(), self.state_dict()))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Returns logits (B, T, K) per task."""
        return self.heads(*self.encoder(features))


def translated(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns our weights under the names of ``Peer``; streaming buffers, which training ignores, stay."""
    state = {name: value for name, value in theirs.items() if name.endswith(".buffer")}
    for name, value in ours.items():
        place = name if name.startswith("heads.") else f"encoder.{name}"
        for old, new in (
            ("projection.face.", "projection."),
            ("tcn.blocks.", "tcn.network."),
            (".direction", ".parametrizations.weight.original1"),
            (".magnitude", ".parametrizations.weight.original0"),
            (".skip.", ".downsample."),
        ):
            place = place.replace(old, new)
        state[place] = value.clone()
    return state


def adamw(parameters: Iterator[nn.Parameter], run: Run, kind: str) -> torch.optim.AdamW:
    """Returns torch's AdamW, ``fused`` or ``foreach``."""
    return torch.optim.AdamW(parameters, lr=run.lr, weight_decay=run.weight_decay, **{kind: True})


def train_one(
    run: Run,
    loader: Loader,
    training: Training,
    form: Objective,
    kind: str,
    losses: list[float] | None = None,
) -> float:
    """Trains one run as an ordinary loop does; returns its best score.

    With a list for ``losses``, appends the loss of every step instead of validating.
    """
    data = loader.data
    model = Peer(data, training, run).to(data.bank.train.device)
    optimiser = adamw(model.parameters(), run, kind)
    labels = {t: data.bank.validation.labels[TASKS[t].array].cpu().numpy() for t in run.tasks}
    rules = rules_of(data.bank.label_spec)
    windows = cut(data.bank.validation.offsets, training.window, training.hop)
    steps, step, best, kept = len(loader) * training.epochs, 0, -math.inf, {}
    for epoch in range(1, training.epochs + 1):
        model.train()
        for features, targets in loader.epoch(epoch, run.tasks):
            optimiser.param_groups[0]["lr"] = run.lr * lr_factor(step, steps, training.warmup)
            step += 1
            loss = form(model(features), targets).sum()
            if losses is not None:
                losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm, foreach=True)
            optimiser.step()
        if losses is not None:
            continue
        model.eval()
        values = frames.predict(
            lambda x, mask: {task: z[None] for task, z in model(x["face"]).items()},
            data.bank.validation,
            windows,
            data.standardise,
            training.batch_size * 4,
        )
        predictions = {task: frames.as_labels(task, values[task][0].cpu().numpy()) for task in run.tasks}
        reached = score(totals(labels, predictions, rules))
        if reached > best:
            best, kept = reached, {name: value.clone() for name, value in model.state_dict().items()}
    assert losses is not None or kept
    return best
