"""The memory of a stack as ``temporal.train.memory`` predicts it, beside the peak of a real process.

    python benchmarks/memory.py [--cases demo,affwild2,bigru] [--threads 1]

Every line is one process: it trains a tiny stack first, so that the program itself is loaded, then draws
random features, trains R replicas for two epochs, and prints how far its peak rose since (VmHWM, Linux). The
prediction is ``bank + shared + R * replica``. The demo has its 33 runs and the clips of its corpus;
``affwild2`` is the recipe of pipeline/configs/affwild2.yaml with 128 channels, ``bigru`` the same with that
model, both on a small bank.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

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
from temporal.data.bank import Bank, Split, Stream  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402
from temporal.train.memory import Footprint, Shapes, footprint  # noqa: E402

DEMO = Training(window=64, hop=48, batch_size=8, channels=64, levels=4, kernel_size=5, projection=64)
AFFWILD2 = Training(window=300, hop=200, batch_size=8, channels=128, levels=4, kernel_size=5, projection=64)
LONG = ([700] * 12, [700] * 6)
CASES = {
    "demo": (DEMO, 512, [100] * 64, [100] * 28, (11, 33)),
    "affwild2": (AFFWILD2, 2048, *LONG, (2, 4, 11)),
    "bigru": (replace(AFFWILD2, model="bigru", causal=False), 2048, *LONG, (2, 4, 11)),
    "test": (replace(DEMO, batch_size=16, levels=3), 256, [200] * 10, [100] * 4, (8,)),
}
ROWS = ["V", "A", "AU", "EXPR", "A+AU", "A+AU+Attn", "V+AU+Attn", "A+EXPR+Attn", "V+EXPR+Attn"]
ROWS += ["A+AU+EXPR+Attn", "AU+EXPR+Attn"]
RUNS = [Run.parse(name, seed=seed, lr=1e-5, dropout=0.1) for seed in range(3) for name in ROWS]


def status(key: str) -> int:
    """Returns a size of this process in bytes."""
    found = re.search(key + r":\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return 1024 * int(found[1]) if found else 0


def bank(train: list[int], validation: list[int], dim: int) -> Bank:
    """Returns random features, drawn in pieces that leave no trace in the peak, and labels."""
    splits = []
    for seed, lengths in enumerate((train, validation)):
        random, frames = np.random.default_rng(seed), sum(lengths)
        features = torch.empty((frames, dim), dtype=torch.float16)
        for piece in torch.split(features, 256):
            piece.copy_(torch.from_numpy(random.standard_normal(piece.shape, dtype=np.float32)))
        labels = {
            "valence": random.uniform(-1, 1, frames).astype(np.float32),
            "arousal": random.uniform(-1, 1, frames).astype(np.float32),
            "expression": random.integers(7, size=frames).astype(np.int8),
            "au": random.integers(2, size=(frames, 12)).astype(np.int8),
        }
        splits.append(
            Split(
                tuple(f"clip{seed}-{number}" for number in range(len(lengths))),
                (0, *accumulate(lengths)),
                {"face": Stream(features, torch.ones(frames, dtype=torch.bool))},
                {name: torch.from_numpy(values) for name, values in labels.items()},
            )
        )
    return Bank(splits[0], splits[1], {"face": feature_spec(dim, "float16")}, label_spec())


def measure(case: str, replicas: int) -> int:
    """Returns by how many bytes training raises the peak of this process."""
    training, dim, train, validation, _ = CASES[case]
    training = replace(training, epochs=2, patience=0)
    tiny = replace(training, window=8, hop=8, channels=4, projection=4, batch_size=2, epochs=1)
    temporal.fit(bank([20], [20], 4), RUNS[:6], tiny)
    before = status("VmRSS")
    temporal.fit(bank(train, validation, dim), RUNS[:replicas], training, replicas=replicas)
    return status("VmHWM") - before


def predicted(case: str, replicas: int) -> Footprint:
    """Returns what the model of ``temporal.train.memory`` says of a case."""
    training, dim, train, validation, _ = CASES[case]
    shapes = Shapes(train, validation, {"face": feature_spec(dim, "float16")}, label_spec())
    return footprint(RUNS[:replicas], training, shapes)


def peak(case: str, replicas: int, threads: int = 1) -> int:
    """Returns ``measure`` of a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps([case, replicas])],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    return int(done.stdout)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="demo,affwild2,bigru")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=json.loads)
    given = parser.parse_args()
    if given.child:
        print(measure(*given.child))
        return
    print("| case | R | bank | shared | replica | predicted | measured | predicted / measured |")
    print("| :--- | -: | -: | -: | -: | -: | -: | -: |")
    for case in given.cases.split(","):
        for replicas in CASES[case][-1]:
            memory, found = predicted(case, replicas), peak(case, replicas, given.threads)
            parts = [memory.bank, memory.shared, memory.replica, memory.of(replicas), found]
            cells = " | ".join(f"{size / 1e6:.1f} MB" for size in parts)
            print(f"| {case} | {replicas} | {cells} | {memory.of(replicas) / found:.2f} |", flush=True)


if __name__ == "__main__":
    main()
