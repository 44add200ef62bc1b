"""The whole table as one program beside a tuned loop over pytorch-tcn models and beside LibMTL.

Not a test: that every side computes the same losses from the same weights is checked first, then it is timed.

    python benchmarks/sweep.py [--rows 26] [--epochs 2] [--frames 6000] [--dim 2048] [--size demo|seed]
                               [--rounds 3] [--plot cost.png] [--score WORK] [--corpus-size FRAMES]

Prints one JSON document, ratios last. Contenders take turns in every round, each with the same windows,
epochs, features, schedule, clipping and validation; ratios are medians over rounds of the ratio within a
round, so that a neighbour on the machine hits both sides. CPU seconds, which suffer less from it, are beside.

What the loops are given: labels, statistics and validation from memory, worker processes that are already
running, files in the page cache, the faster of torch's AdamWs, whole-channel dropout instead of their own,
and LibMTL an optimiser that it does not offer. LibMTL 1.1.5 is older than the torch here: it is shimmed where
it imports a module that torchvision has lost, where it asks for a CUDA device and for ``iterator.next()``;
its training loop runs as it is.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

# This file may have the name of a package, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import pytorch_tcn  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

import stores  # noqa: E402
import temporal  # noqa: E402
from stores.testing import feature_spec, label_spec  # noqa: E402
from temporal import evaluate  # noqa: E402
from temporal.bank import Bank, Split, Standardiser, gather  # noqa: E402
from temporal.bank import statistics as feature_statistics  # noqa: E402
from temporal.epochs import lr_factor, rules_of  # noqa: E402
from temporal.fused import Stack, build  # noqa: E402
from temporal.losses import Objective, Targets, gather_targets, objective  # noqa: E402
from temporal.metrics import score, totals  # noqa: E402
from temporal.models import Heads, initialise  # noqa: E402
from temporal.models.gated import GatedAttention  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402
from temporal.tasks import TASKS  # noqa: E402
from temporal.windows import Ints, Windows, batches, cut, epoch_order  # noqa: E402

GONE = types.ModuleType("torchvision.models.utils")
GONE.load_state_dict_from_url = torch.hub.load_state_dict_from_url
with mock.patch.dict(sys.modules, {GONE.__name__: GONE}):
    import LibMTL.architecture
    import LibMTL.loss
    import LibMTL.metrics
    import LibMTL.trainer
    import LibMTL.weighting

SIZES = {
    "demo": Training(window=64, hop=48, channels=64, projection=64, patience=0),
    "seed": Training(window=300, hop=200, channels=128, projection=0, patience=0),
}
AFFWILD2_FRAMES = 2_800_000
FACETS, FACETS_TWO = "facets", "facets, 2 processes"
LOOP, LOOP_TWO, LIBMTL = "pytorch-tcn loop", "pytorch-tcn loop, 2 processes", "LibMTL"
OURS, PEERS = (FACETS, FACETS_TWO), (LOOP, LOOP_TWO, LIBMTL)


def told(text: str) -> None:
    """Says on stderr what is being measured; stdout is for the document alone."""
    print(text, file=sys.stderr, flush=True)


def all_rows() -> list[Run]:
    """Returns the 26 rows: the fifteen subsets, eleven of them also with attention."""
    subsets = [tasks for size in range(1, 5) for tasks in itertools.combinations(TASKS, size)]
    return [
        Run(tasks, attention=attention)
        for tasks in subsets
        for attention in (False, True)
        if not (attention and len(tasks) == 1)
    ]


def some_rows(count: int) -> list[Run]:
    """Returns ``count`` of the 26 rows, spread over them evenly; more than 26 are further seeds."""
    rows = all_rows()
    if count >= len(rows):
        return [replace(rows[i % len(rows)], seed=i // len(rows)) for i in range(count)]
    return [rows[round(i * (len(rows) - 1) / max(count - 1, 1))] for i in range(count)]


# -- data ----------------------------------------------------------------------------------------------------


def made(folder: Path, frames: int, dim: int) -> None:
    """Writes stores of random walks seen through a linear map, with all labels, 4/5 for training."""
    random, mixing = np.random.default_rng(0), np.random.default_rng(1).normal(size=(21, dim))
    features = stores.create(folder / "features", feature_spec(dim))
    labels = stores.create(folder / "labels", label_spec())
    for split, total in (("train", frames), ("validation", frames // 4)):
        number, left = 0, total
        while left > 0:
            length = min(left, int(random.integers(300, 1500)))
            latent = np.cumsum(random.normal(size=(length, 21)), 0)
            latent = (latent - latent.mean(0)) / (latent.std(0) + 1e-3)
            seen = latent @ mixing + random.normal(size=(length, dim))
            valid = random.random(length) > 0.02
            rows = np.where(valid[:, None], seen, 0.0).astype(np.float16)
            values = {"features": rows, "frame": np.arange(length, dtype=np.int32), "valid": valid}
            clip = f"{split}{number:04}"
            features.write(clip, values)
            valence, arousal = np.tanh(latent[:, :2]).T.astype(np.float32)
            truth = {
                "valence": valence,
                "arousal": arousal,
                "expression": latent[:, 2:9].argmax(1).astype(np.int8),
                "au": (latent[:, 9:] > 0.5).astype(np.int8),
            }
            labels.write(clip, truth, {"split": split, "fps": 30.0, "subject": clip, "corpus": "random"})
            number, left = number + 1, left - length


@dataclass(frozen=True)
class Data:
    """What every contender trains on: the stores, and what a loop may keep in memory beside them."""

    folder: Path
    bank: Bank
    standardise: Standardiser


def opened(features: Path, labels: Path) -> Data:
    """Opens stores."""
    bank = temporal.load_bank(stores.open(features), stores.open(labels))
    return Data(features, bank, feature_statistics(bank.train))


class WindowsInFiles(Dataset):
    """Windows read with h5py from the files of clips, a minibatch per call; handles stay open."""

    def __init__(self, folder: Path, split: Split, windows: Windows) -> None:
        self.paths = [str(next((folder / "clips").glob(f"{clip}.h*5"))) for clip in split.clips]
        clip = np.searchsorted(split.offsets, windows.start, side="right") - 1
        first = windows.start - np.asarray(split.offsets)[clip]
        self.places = list(zip(clip.tolist(), first.tolist(), windows.frames.tolist(), strict=True))
        self.files: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, chosen: Sequence[int]) -> tuple[list[int], Tensor]:
        longest = max(self.places[index][2] for index in chosen)
        batch: np.ndarray | None = None
        for row, index in enumerate(chosen):
            clip, start, frames = self.places[index]
            if clip not in self.files:
                self.files[clip] = h5py.File(self.paths[clip], "r")["features"]
            values = self.files[clip][start : start + frames]
            if batch is None:
                batch = np.zeros((len(chosen), longest, values.shape[1]), values.dtype)
            batch[row, :frames] = values
        return list(chosen), torch.from_numpy(batch)


class Order:
    """The minibatches of an epoch, the same for every contender; the epoch is set from outside."""

    def __init__(self, count: int, training: Training) -> None:
        self.count, self.training, self.epoch = count, training, 1

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self.count, self.training.data_seed, self.epoch)
        return (chosen.tolist() for chosen in batches(order, self.training.batch_size))

    def __len__(self) -> int:
        return math.ceil(self.count / self.training.batch_size)


class Loader:
    """A DataLoader over h5py, labels and statistics from memory; worker processes outlive epochs and runs."""

    def __init__(self, data: Data, training: Training, workers: int) -> None:
        self.data, self.training = data, training
        split = data.bank.train
        self.windows = cut(split.offsets, training.window, training.hop)
        self.order = Order(len(self.windows), training)
        self.loader = DataLoader(
            WindowsInFiles(data.folder, split, self.windows),
            batch_sampler=self.order,  # type: ignore[arg-type]
            collate_fn=lambda batch: batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="fork" if workers else None,
        )

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, tasks: Sequence[str]) -> Iterator[tuple[Tensor, Targets]]:
        """Yields standardised features (B, T, D) and targets."""
        self.order.epoch = number
        split = self.data.bank.train
        for chosen, stored in self.loader:
            index = np.asarray(chosen)
            frames, steps = self.windows.frames[index], np.arange(stored.shape[1])[None]
            within = np.minimum(steps, frames[:, None] - 1)
            rows = torch.from_numpy(self.windows.start[index][:, None] + within)
            usable = split.valid[rows] & torch.from_numpy(steps < frames[:, None])
            yield (
                self.data.standardise(stored, usable),
                gather_targets(split, rows, usable, dict.fromkeys(tasks)),
            )


# -- the loops -----------------------------------------------------------------------------------------------


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
        dim, sizes = data.bank.feature_spec.dim, sizes_of(data, run.tasks)
        self.encoder = Encoder(dim, run.tasks, training, run)
        self.heads = Heads(training.channels, sizes)
        network = build(dim, sizes, training, attention=run.attention)
        initialise(network, run.seed)
        self.load_state_dict(translated(network.state_dict(), self.state_dict()))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Returns logits (B, T, K) per task."""
        return self.heads(*self.encoder(features))


def sizes_of(data: Data, tasks: Sequence[str]) -> dict[str, int]:
    """Returns the outputs of each task."""
    return {task: TASKS[task].size(data.bank.label_spec) for task in tasks}


def translated(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns our weights under the names of ``Peer``; streaming buffers, which training ignores, stay."""
    state = {name: value for name, value in theirs.items() if name.endswith(".buffer")}
    for name, value in ours.items():
        place = name if name.startswith("heads.") else f"encoder.{name}"
        for old, new in (
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
    model = Peer(data, training, run)
    optimiser = adamw(model.parameters(), run, kind)
    labels = {t: data.bank.validation.labels[TASKS[t].array].numpy() for t in run.tasks}
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
        values = evaluate.predict(
            lambda x, mask: {task: z[None] for task, z in model(x).items()},
            data.bank.validation,
            windows,
            data.standardise,
            training.batch_size * 4,
        )
        predictions = {task: evaluate.as_labels(task, values[task][0].numpy()) for task in run.tasks}
        reached = score(totals(labels, predictions, rules))
        if reached > best:
            best, kept = reached, {name: value.clone() for name, value in model.state_dict().items()}
    assert losses is not None or kept
    return best


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
            yield batch.features, gather_targets(split, batch.rows, batch.usable, dict.fromkeys(self.tasks))


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
    with mock.patch.object(torch, "device", return_value="cpu"), contextlib.redirect_stdout(io.StringIO()):
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


# -- parity --------------------------------------------------------------------------------------------------


def require_parity(data: Data, training: Training, rows: Sequence[Run]) -> dict[str, float]:
    """Ends the program unless every side has the same losses in the first steps from the same weights.

    Returns:
        The largest relative difference per peer, in the first step and in the first ten.
    """
    short, plain = replace(training, epochs=1), [replace(row, dropout=0.0) for row in rows]
    form, loader = objective(data.bank.train, data.bank.label_spec, short), Loader(data, short, 0)
    tasks = tuple(task for task in TASKS if any(task in row.tasks for row in plain))
    stack = Stack(data.bank.feature_spec.dim, sizes_of(data, tasks), plain, short, torch.device("cpu"))
    everyone, found = torch.ones(len(plain), dtype=torch.bool), []
    for step, (features, targets) in enumerate(loader.epoch(1, tasks)):
        factor = lr_factor(step, len(loader), short.warmup)
        found.append(stack.step(features, None, targets, form, everyone, factor).losses.sum(1))
    ours = torch.stack(found, 1)[:, :10]
    worst = {}
    for name, train in ((LOOP, train_one), (LIBMTL, train_libmtl)):
        theirs: list[list[float]] = []
        for row in plain:
            theirs.append([])
            train(row, loader, short, form, "foreach", theirs[-1])
        other = torch.tensor(theirs)[:, :10]
        apart = (ours - other).abs() / other.abs().clamp_min(1e-3)
        worst[f"{name}, first step"], worst[f"{name}, ten steps"] = (
            float(apart[:, 0].max()),
            float(apart.max()),
        )
        # Adam's first steps go by the sign of a gradient, so rounding of those near 0 shows at once.
        if not (apart[:, 0].max() < 1e-5 and apart.max() < 2e-2):
            sys.exit(f"{name} has other losses than facets: {other.tolist()} and {ours.tolist()}")
    return worst


# -- timing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """Seconds of a contender's round: wall clock, and of the CPU in the processes that train."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Returns the CPU time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def clocked(work: Callable[[], Any]) -> Spent:
    """Returns what ``work`` took."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def faster(label: str, ways: Mapping[Any, Callable[[], Any]]) -> Any:
    """Returns the key of the fastest way, each tried twice in turns; what a good engineer does once."""
    seconds = {key: min(clocked(way).wall for _ in range(2)) for key, way in ways.items()}
    told(f"  {label}: {', '.join(f'{key} {value:.2f} s' for key, value in seconds.items())}")
    return min(seconds, key=lambda key: seconds[key])


CHILD: dict[str, Any] = {}


def begin(features: Path, labels: Path, training: Training, kind: str) -> None:
    """Prepares a worker process: one thread, its own bank and loader."""
    torch.set_num_threads(1)
    data = opened(features, labels)
    CHILD["loader"] = Loader(data, training, 0)
    CHILD["form"] = objective(data.bank.train, data.bank.label_spec, training)
    CHILD["training"], CHILD["kind"] = training, kind


def child_loop(run: Run) -> float:
    """Trains one run in a worker process; returns its CPU seconds."""
    before = cpu_seconds()
    train_one(run, CHILD["loader"], CHILD["training"], CHILD["form"], CHILD["kind"])
    return cpu_seconds() - before


def child_facets(runs: list[Run]) -> float:
    """Trains a group of runs in a worker process; returns its CPU seconds."""
    before = cpu_seconds()
    temporal.fit(CHILD["loader"].data.bank, runs, CHILD["training"], replicas=len(runs))
    return cpu_seconds() - before


def contenders(
    data: Data, labels: Path, training: Training, rows: Sequence[Run], stack: contextlib.ExitStack
) -> dict[str, Callable[[], Spent]]:
    """Tunes the loops and returns every contender as something that trains all rows."""
    form = objective(data.bank.train, data.bank.label_spec, training)
    once = replace(training, epochs=1)
    probe = rows[len(rows) // 2]
    loaders = {count: Loader(data, training, count) for count in (0, 1, 2)}
    kind = faster(
        "AdamW",
        {k: lambda k=k: train_one(probe, loaders[0], once, form, k, []) for k in ("fused", "foreach")},
    )
    workers = faster(
        "DataLoader workers",
        {n: lambda n=n: train_one(probe, loaders[n], once, form, kind, []) for n in loaders},
    )
    loader = loaders[workers]
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(ProcessPoolExecutor(2, context, begin, (data.folder, labels, training, kind)))
    list(pool.map(child_loop, [rows[0]] * 4))  # both processes are up, files are open, kernels are chosen

    def pooled(job: Callable[[Any], float], arguments: Sequence[Any]) -> Spent:
        began = time.perf_counter()
        cpu = sum(pool.map(job, arguments))
        return Spent(time.perf_counter() - began, cpu)

    # The long runs first, so that no process waits at the end for the other's last one.
    by_size = sorted(rows, key=lambda row: -len(row.tasks))
    ordered = sorted(rows, key=lambda row: row.attention)
    return {
        FACETS: lambda: clocked(lambda: temporal.fit(data.bank, rows, training, replicas=len(rows))),
        FACETS_TWO: lambda: pooled(child_facets, [ordered[::2], ordered[1::2]]),
        LOOP: lambda: clocked(lambda: [train_one(row, loader, training, form, kind) for row in rows]),
        LOOP_TWO: lambda: pooled(child_loop, by_size),
        LIBMTL: lambda: clocked(lambda: [train_libmtl(row, loader, training, form, kind) for row in rows]),
    }


def interleaved(ways: Mapping[str, Callable[[], Spent]], rounds: int) -> dict[str, list[Spent]]:
    """Measures every contender in every round, beginning with another one each time."""
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            found[name].append(ways[name]())
            told(f"  round {number + 1}, {name}: {found[name][-1]}")
    return found


def ratio(found: Mapping[str, list[Spent]], peer: str, ours: str, clock: str = "wall") -> float:
    """Returns how many times longer the peer takes, as the median over rounds."""
    pairs = zip(found[peer], found[ours], strict=True)
    return round(statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in pairs), 3)


def equal_work(folder: Path, training: Training, rows: Sequence[Run], rounds: int) -> dict[str, Any]:
    """Every contender trains all rows on the same windows for the same epochs."""
    data = opened(folder / "features", folder / "labels")
    told("parity")
    shown = [row for row in rows if len(row.tasks) in (1, 2)][:2] + list(rows[-1:])
    parity = require_parity(data, training, shown)
    told("equal work")
    with contextlib.ExitStack() as stack:
        found = interleaved(contenders(data, folder / "labels", training, rows, stack), rounds)
    seen = int(cut(data.bank.train.offsets, training.window, training.hop).frames.sum()) * training.epochs
    frames = seen * len(rows)
    ratios = {f"{peer} / {our}": ratio(found, peer, our) for our in OURS for peer in PEERS}
    ratios["fastest peer / facets, the better of its two forms"] = max(
        min(ratio(found, peer, our) for peer in PEERS) for our in OURS
    )
    return {
        "parity: largest relative difference of a loss": parity,
        "seconds": {name: [round(spent.wall, 2) for spent in each] for name, each in found.items()},
        "cpu_seconds": {name: [round(spent.cpu, 2) for spent in each] for name, each in found.items()},
        "training frames per second": {
            name: round(frames / statistics.median(spent.wall for spent in each))
            for name, each in found.items()
        },
        "ratios": ratios,
        "ratios of CPU time": {
            f"{peer} / {our}": ratio(found, peer, our, "cpu") for our in OURS for peer in PEERS
        },
    }


# -- equal score ---------------------------------------------------------------------------------------------


def equal_score(work: Path, rows: Sequence[Run], epochs: int) -> dict[str, Any]:
    """The recipe of a peer and cheaper ones: validation score and seconds of each, both ways of training.

    The loops' seconds are those of one epoch times the epochs: an epoch is the same work each time.
    """
    (features,) = (work / "features").iterdir()
    data = opened(features, work / "labels")
    base = replace(SIZES["demo"], epochs=epochs)
    recipes = {
        "peer: D to 128 channels, hop 3/4": replace(base, channels=128, projection=0),
        "projection first, 64 channels": base,
        "and hop = window": replace(base, hop=base.window),
        "and two thirds of the epochs": replace(base, hop=base.window, epochs=max(1, epochs * 2 // 3)),
        "and half of the epochs": replace(base, hop=base.window, epochs=max(1, epochs // 2)),
    }
    rows = [replace(row, lr=2e-3) for row in rows]
    found: dict[str, dict[str, float]] = {}
    for name, training in recipes.items():
        form, loader = objective(data.bank.train, data.bank.label_spec, training), Loader(data, training, 0)
        began = time.perf_counter()
        results = temporal.fit(data.bank, rows, training, replicas=len(rows))
        ours = time.perf_counter() - began
        once = replace(training, epochs=1)
        theirs = clocked(lambda: [train_one(row, loader, once, form, "foreach") for row in rows])  # noqa: B023
        found[name] = {
            "score": statistics.mean(result.score for result in results),
            "facets_seconds": ours,
            "loop_seconds": theirs.wall * training.epochs,
        }
        told(f"  {name}: {found[name]}")
    peer = next(iter(found))
    enough = found[peer]["score"] - 0.005
    cheapest = min(
        (name for name in found if found[name]["score"] >= enough), key=lambda n: found[n]["facets_seconds"]
    )
    return {
        "recipes": found,
        "cheapest with the peer's score less 0.005": cheapest,
        "ratios": {
            "loop, peer's recipe / facets, cheapest": round(
                found[peer]["loop_seconds"] / found[cheapest]["facets_seconds"], 2
            ),
            "loop, cheapest recipe too / facets, cheapest": round(
                found[cheapest]["loop_seconds"] / found[cheapest]["facets_seconds"], 2
            ),
        },
    }


# -- cost of replicas, size of a corpus ----------------------------------------------------------------------


def stepper(data: Data, training: Training, replicas: int) -> Callable[[], Any]:
    """Returns one training step of ``replicas`` rows."""
    rows = sorted(some_rows(replicas), key=lambda row: row.attention)
    tasks = tuple(task for task in TASKS if any(task in row.tasks for row in rows))
    stack = Stack(data.bank.feature_spec.dim, sizes_of(data, tasks), rows, training, torch.device("cpu"))
    form = objective(data.bank.train, data.bank.label_spec, training)
    windows: Windows = cut(data.bank.train.offsets, training.window, training.hop)
    chosen: Ints = np.arange(training.batch_size, dtype=np.int64)
    everyone = torch.ones(replicas, dtype=torch.bool)

    def step() -> None:
        batch = gather(data.bank.train, windows, chosen, data.standardise)
        targets = gather_targets(data.bank.train, batch.rows, batch.usable, dict.fromkeys(tasks))
        stack.step(batch.features, batch.mask, targets, form, everyone, 1.0)

    return step


def cost_of_replicas(
    folder: Path, training: Training, most: int, clock: str, plot: Path | None
) -> dict[str, Any]:
    """Time of a step of R replicas over that of one."""
    data = opened(folder / "features", folder / "labels")
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    steps = {count: stepper(data, training, count) for count in counts}
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(6):
        for count, step in steps.items():
            spent = clocked(step)
            if turn:  # the first is a warm-up
                seconds[count].append(getattr(spent, clock))
    middle = {count: statistics.median(values) for count, values in seconds.items()}
    cost = {count: middle[count] / middle[1] for count in counts}
    if plot is not None:
        draw(cost, plot)
    return {
        "seconds of a step": {count: round(value, 4) for count, value in middle.items()},
        "cost of R over cost of one": {count: round(value, 2) for count, value in cost.items()},
        "cost of R over R times the cost of one": {c: round(v / c, 3) for c, v in cost.items()},
    }


def draw(cost: Mapping[int, float], path: Path) -> None:
    """Draws the cost of R replicas on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.5, 4), layout="constrained")
    counts = list(cost)
    axes.plot(counts, counts, color="#999999", linestyle="--", label="one after the other")
    axes.plot(counts, list(cost.values()), color="#0072B2", marker="o", label="as one program")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_yticks(counts, [str(count) for count in counts])
    axes.set_xlabel("replicas R")
    axes.set_ylabel("time of a step, in steps of one replica")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    told(f"  {path}")


def corpus_size(frames: int, dim: int, training: Training, rows: Sequence[Run]) -> dict[str, Any]:
    """One epoch over generated features, in memory as a corpus would be: time, memory, projection."""
    random = torch.Generator().manual_seed(0)
    spec, names = feature_spec(dim), label_spec()

    def split(total: int) -> Split:
        features = torch.empty(total, dim, dtype=torch.float16)
        for first in range(0, total, 8192):
            part = features[first : first + 8192]
            part.copy_(torch.randn(part.shape, generator=random).relu_())
        lengths = [5000] * (total // 5000) + ([total % 5000] if total % 5000 else [])
        labels = {
            "valence": torch.rand(total, generator=random) * 2 - 1,
            "arousal": torch.rand(total, generator=random) * 2 - 1,
            "expression": torch.randint(0, 7, (total,), generator=random).to(torch.int8),
            "au": torch.randint(0, 2, (total, 12), generator=random).to(torch.int8),
        }
        clips, offsets = tuple(f"clip{i}" for i in range(len(lengths))), (0, *itertools.accumulate(lengths))
        return Split(clips, offsets, features, torch.ones(total, dtype=torch.bool), labels)

    bank = Bank(split(frames), split(max(frames // 20, training.window)), spec, names)
    began = time.perf_counter()
    temporal.fit(bank, rows, replace(training, epochs=1), replicas=len(rows))
    seconds = time.perf_counter() - began
    whole = seconds * AFFWILD2_FRAMES / frames
    return {
        "frames": frames,
        "rows": len(rows),
        "seconds of one epoch": round(seconds, 1),
        "peak memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "projected, 2.8 M frames: hours of one epoch": round(whole / 3600, 2),
        f"projected, 2.8 M frames: hours of {training.epochs} epochs": round(
            whole * training.epochs / 3600, 1
        ),
        "projected, 2.8 M frames: GB of the bank": round(AFFWILD2_FRAMES * dim * 2 / 1e9, 1),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=26)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--frames", type=int, default=6000, help="training frames")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--size", choices=list(SIZES), default="demo", help="windows and architecture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--replicas", type=int, default=64, help="most replicas of the cost curve")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="of the cost curve")
    parser.add_argument("--plot", type=Path, help="where the cost curve is drawn")
    parser.add_argument("--score", type=Path, help="work directory with features, for ratios at equal score")
    parser.add_argument("--score-epochs", type=int, default=30)
    parser.add_argument("--corpus-size", type=int, help="frames of the slice of a corpus of 2.8 million")
    parser.add_argument("--only", nargs="+", choices=["work", "score", "cost", "corpus"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    wanted = set(chosen.only or ("work", "cost"))
    wanted |= {name for name, given in (("score", chosen.score), ("corpus", chosen.corpus_size)) if given}
    training, rows = replace(SIZES[chosen.size], epochs=chosen.epochs), some_rows(chosen.rows)
    began, results = time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="facets-bench-") as name:
        folder = Path(name)
        if wanted & {"work", "cost"}:
            made(folder, chosen.frames, chosen.dim)
        if "work" in wanted:
            results["equal work"] = equal_work(folder, training, rows, chosen.rounds)
        if "cost" in wanted:
            told("cost of replicas")
            results["replicas"] = cost_of_replicas(
                folder, training, chosen.replicas, chosen.clock, chosen.plot
            )
    if "score" in wanted:
        told("equal score")
        results["equal score"] = equal_score(chosen.score, rows, chosen.score_epochs)
    if "corpus" in wanted:
        told("size of a corpus")
        results["corpus"] = corpus_size(chosen.corpus_size, chosen.dim, SIZES[chosen.size], rows)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_after": os.getloadavg()[0],
        "seconds": round(time.perf_counter() - began),
    }
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()}
    print(json.dumps({"machine": machine, "settings": settings, **results}, indent=1))


if __name__ == "__main__":
    main()
