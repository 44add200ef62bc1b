"""The whole table as one program beside a tuned loop over pytorch-tcn models and beside LibMTL.

Not a test: that every side computes the same losses from the same weights is checked first, then it is timed.

    python benchmarks/sweep.py [--rows 26] [--epochs 2] [--frames 6000] [--dim 2048] [--size demo|seed]
                               [--rounds 3] [--device cpu|cuda] [--score WORK]

Prints one JSON document, ratios last. Contenders take turns in every round, each with the same windows,
epochs, features, schedule, clipping and validation; ratios are medians over rounds of the ratio within a
round, so that a neighbour on the machine hits both sides. CPU seconds, which suffer less from it, are beside.

What the loops are given: labels, statistics and validation from memory, worker processes that are already
running, files in the page cache, the faster of torch's AdamWs, whole-channel dropout instead of their own,
and LibMTL an optimiser that it does not offer. The contenders are in ``benchmarks/peers``.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

# This file may have the name of a package, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [
    str(ROOT),
    str(ROOT / "tests"),
    *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE),
]

import torch  # noqa: E402

import temporal  # noqa: E402
from benchmarks.peers.clock import Spent, clocked, cpu_seconds, document, told  # noqa: E402
from benchmarks.peers.experiment import SIZES, Data, Loader, made, opened, sizes_of, some_rows  # noqa: E402
from benchmarks.peers.libmtl import train_libmtl  # noqa: E402
from benchmarks.peers.tcn_loop import train_one  # noqa: E402
from temporal.data.windows import cut  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402
from temporal.tasks import TASKS  # noqa: E402
from temporal.train.fused import Stack  # noqa: E402
from temporal.train.stack import lr_factor  # noqa: E402
from temporal.train.targets import objective  # noqa: E402

FACETS, FACETS_TWO, COMPILED = "facets", "facets, 2 processes", "facets, compiled"
LOOP, LOOP_TWO, LIBMTL = "pytorch-tcn loop", "pytorch-tcn loop, 2 processes", "LibMTL"
OURS, PEERS = (FACETS, FACETS_TWO, COMPILED), (LOOP, LOOP_TWO, LIBMTL)


def require_parity(data: Data, training: Training, rows: Sequence[Run]) -> dict[str, float]:
    """Ends the program unless every side has the same losses in the first steps from the same weights.

    Returns:
        The largest relative difference per peer, in the first step and in the first ten.
    """
    short, plain = replace(training, epochs=1), [replace(row, dropout=0.0) for row in rows]
    form, loader = objective(data.bank.train, data.bank.label_spec, short), Loader(data, short, 0)
    tasks = tuple(task for task in TASKS if any(task in row.tasks for row in plain))
    device = data.bank.train.device
    stack = Stack(data.bank.train.dims, sizes_of(data, tasks), plain, short, device)
    everyone, found = torch.ones(len(plain), dtype=torch.bool, device=device), []
    for step, (features, targets) in enumerate(loader.epoch(1, tasks)):
        factor = lr_factor(step, len(loader), short.warmup)
        found.append(stack.step(features, None, targets, form, everyone, factor).losses.sum(1))
    ours = torch.stack(found, 1)[:, :10].cpu()
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
    on_gpu = data.bank.train.device.type == "cuda"
    loaders = {count: Loader(data, training, count) for count in ((0, 1, 2, 4, 8) if on_gpu else (0, 1, 2))}
    kind = faster(
        "AdamW",
        {k: lambda k=k: train_one(probe, loaders[0], once, form, k, []) for k in ("fused", "foreach")},
    )
    workers = faster(
        "DataLoader workers",
        {n: lambda n=n: train_one(probe, loaders[n], once, form, kind, []) for n in loaders},
    )
    loader = loaders[workers]
    alone: dict[str, Callable[[], Spent]] = {
        FACETS: lambda: clocked(lambda: temporal.fit(data.bank, rows, training, replicas=len(rows))),
        LOOP: lambda: clocked(lambda: [train_one(row, loader, training, form, kind) for row in rows]),
        LIBMTL: lambda: clocked(lambda: [train_libmtl(row, loader, training, form, kind) for row in rows]),
    }
    if on_gpu:  # which two processes would share
        faster_step = replace(training, compile=True)
        return alone | {
            COMPILED: lambda: clocked(lambda: temporal.fit(data.bank, rows, faster_step, replicas=len(rows)))
        }
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
    return alone | {
        FACETS_TWO: lambda: pooled(child_facets, [ordered[::2], ordered[1::2]]),
        LOOP_TWO: lambda: pooled(child_loop, by_size),
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


def equal_work(
    folder: Path, training: Training, rows: Sequence[Run], rounds: int, device: str
) -> dict[str, Any]:
    """Every contender trains all rows on the same windows for the same epochs."""
    data = opened(folder / "features", folder / "labels", device)
    told("parity")
    shown = [row for row in rows if len(row.tasks) in (1, 2)][:2] + list(rows[-1:])
    parity = require_parity(data, training, shown)
    told("equal work")
    with contextlib.ExitStack() as stack:
        found = interleaved(contenders(data, folder / "labels", training, rows, stack), rounds)
    seen = int(cut(data.bank.train.offsets, training.window, training.hop).frames.sum()) * training.epochs
    frames = seen * len(rows)
    ours, peers = ([name for name in names if name in found] for names in (OURS, PEERS))
    ratios = {f"{peer} / {our}": ratio(found, peer, our) for our in ours for peer in peers}
    ratios["fastest peer / facets, the best of its forms"] = max(
        min(ratio(found, peer, our) for peer in peers) for our in ours
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
            f"{peer} / {our}": ratio(found, peer, our, "cpu") for our in ours for peer in peers
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
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of equal work")
    parser.add_argument("--score", type=Path, help="work directory with features, for ratios at equal score")
    parser.add_argument("--score-epochs", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=["work", "score"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    wanted = set(chosen.only or ("work",)) | ({"score"} if chosen.score else set())
    training, rows = replace(SIZES[chosen.size], epochs=chosen.epochs), some_rows(chosen.rows)
    began, results = time.perf_counter(), {}
    if "work" in wanted:
        with tempfile.TemporaryDirectory(prefix="facets-bench-") as name:
            made(Path(name), chosen.frames, chosen.dim)
            results["equal work"] = equal_work(Path(name), training, rows, chosen.rounds, chosen.device)
    if "score" in wanted:
        told("equal score")
        results["equal score"] = equal_score(chosen.score, rows, chosen.score_epochs)
    print(document(chosen, began, results))


if __name__ == "__main__":
    main()
