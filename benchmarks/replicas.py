"""What replicas cost: a step of R of them over a step of one, and an epoch at the size of a whole corpus.

Not beside anybody: see ``benchmarks/sweep.py``.

    python benchmarks/replicas.py [--most 64] [--frames 6000] [--dim 2048] [--size demo|seed] [--threads 2]
                                  [--device cpu|cuda] [--clock wall|cpu] [--plot cost.png]
                                  [--corpus-size FRAMES] [--rows 26]

Prints one JSON document. The corpus is measured where its size is given: 26 rows on so many drawn frames,
scaled up to the 2.8 million of Aff-Wild2.
"""

import argparse
import itertools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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

import numpy as np  # noqa: E402
import torch  # noqa: E402
from store_specs import feature_spec, label_spec  # noqa: E402

import temporal  # noqa: E402
from benchmarks.peers.clock import clocked, document, told  # noqa: E402
from benchmarks.peers.experiment import SIZES, Data, made, opened, sizes_of, some_rows  # noqa: E402
from temporal.data.bank import Bank, Split, Stream  # noqa: E402
from temporal.data.minibatch import gather  # noqa: E402
from temporal.data.windows import Ints, Windows, cut  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402
from temporal.tasks import TASKS  # noqa: E402
from temporal.train.fused import Stack  # noqa: E402
from temporal.train.targets import gather_targets, objective  # noqa: E402

AFFWILD2_FRAMES = 2_800_000


def stepper(data: Data, training: Training, replicas: int) -> Callable[[], Any]:
    """Returns one training step of ``replicas`` rows."""
    rows = sorted(some_rows(replicas), key=lambda row: row.attention)
    tasks = tuple(task for task in TASKS if any(task in row.tasks for row in rows))
    device = data.bank.train.device
    stack = Stack(data.bank.train.dims, sizes_of(data, tasks), rows, training, device)
    form = objective(data.bank.train, data.bank.label_spec, training)
    windows: Windows = cut(data.bank.train.offsets, training.window, training.hop)
    chosen: Ints = np.arange(training.batch_size, dtype=np.int64)
    everyone = torch.ones(replicas, dtype=torch.bool, device=device)

    def step() -> None:
        batch = gather(data.bank.train, windows, chosen, data.standardise)
        targets = gather_targets(data.bank.train, batch.rows, batch.usable(), dict.fromkeys(tasks))
        stack.step(batch.features, batch.mask, targets, form, everyone, 1.0)

    return step


def cost_of_replicas(
    folder: Path, training: Training, most: int, clock: str, plot: Path | None, device: str
) -> dict[str, Any]:
    """Time of a step of R replicas over that of one."""
    data = opened(folder / "features", folder / "labels", device)
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


def corpus_size(
    frames: int, dim: int, training: Training, rows: Sequence[Run], device: str
) -> dict[str, Any]:
    """One epoch over generated features, in memory as a corpus would be: time, memory, projection."""
    random = torch.Generator(device).manual_seed(0)
    spec, names = feature_spec(dim), label_spec()

    def split(total: int) -> Split:
        features = torch.empty(total, dim, dtype=torch.float16, device=device)
        for first in range(0, total, 8192):
            part = features[first : first + 8192]
            part.copy_(torch.randn(part.shape, generator=random, device=device).relu_())
        lengths = [5000] * (total // 5000) + ([total % 5000] if total % 5000 else [])
        labels = {
            "valence": torch.rand(total, generator=random, device=device) * 2 - 1,
            "arousal": torch.rand(total, generator=random, device=device) * 2 - 1,
            "expression": torch.randint(0, 7, (total,), generator=random, device=device).to(torch.int8),
            "au": torch.randint(0, 2, (total, 12), generator=random, device=device).to(torch.int8),
        }
        clips, offsets = tuple(f"clip{i}" for i in range(len(lengths))), (0, *itertools.accumulate(lengths))
        return Split(
            clips,
            offsets,
            {"face": Stream(features, torch.ones(total, dtype=torch.bool, device=device))},
            labels,
        )

    bank = Bank(split(frames), split(max(frames // 20, training.window)), {"face": spec}, names)
    once = replace(training, epochs=1)
    seconds = clocked(lambda: temporal.fit(bank, rows, once, replicas=len(rows))).wall
    whole = seconds * AFFWILD2_FRAMES / frames
    return {
        "frames": frames,
        "rows": len(rows),
        "seconds of one epoch": round(seconds, 1),
        "peak memory, GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "peak memory of the GPU, GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "projected, 2.8 M frames: hours of one epoch": round(whole / 3600, 2),
        f"projected, 2.8 M frames: hours of {training.epochs} epochs": round(
            whole * training.epochs / 3600, 1
        ),
        "projected, 2.8 M frames: GB of the bank": round(AFFWILD2_FRAMES * dim * 2 / 1e9, 1),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=64, help="replicas at the end of the cost curve")
    parser.add_argument("--frames", type=int, default=6000, help="training frames")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--size", choices=list(SIZES), default="demo", help="windows and architecture")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--plot", type=Path, help="where the cost curve is drawn")
    parser.add_argument("--corpus-size", type=int, help="frames of the slice of a corpus of 2.8 million")
    parser.add_argument("--rows", type=int, default=26, help="of that slice")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    training = SIZES[chosen.size]
    began, results = time.perf_counter(), {}
    told("cost of replicas")
    with tempfile.TemporaryDirectory(prefix="facets-bench-") as name:
        made(Path(name), chosen.frames, chosen.dim)
        results["replicas"] = cost_of_replicas(
            Path(name), training, chosen.most, chosen.clock, chosen.plot, chosen.device
        )
    if chosen.corpus_size:
        told("size of a corpus")
        results["corpus"] = corpus_size(
            chosen.corpus_size, chosen.dim, training, some_rows(chosen.rows), chosen.device
        )
    print(document(chosen, began, results))


if __name__ == "__main__":
    main()
