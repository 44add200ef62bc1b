"""How many frames the default recipe trains on to reach the best score of the seed TCN project's recipe.

Not a measure of speed: frame-updates (real frames in the minibatches of a run) count, seconds are only told.

    python benchmarks/recipes.py --work work/demo [--tasks V A AU EXPR] [--seeds 0 1 2]

Both recipes are packaged configurations, ``demo`` and ``seed_recipe``, on the same features and labels. The
default recipe is trained to its end, because its schedule is part of it; what counts is its first epoch whose
validation score is at least the other recipe's best. Prints one JSON document, ratios last.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import torch  # noqa: E402

import stores  # noqa: E402
import temporal  # noqa: E402
from pipeline.configfile import load  # noqa: E402
from temporal.data.windows import cut  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402

RECIPE, DEFAULT = "seed_recipe", "demo"


def told(text: str) -> None:
    """Says on stderr what is being measured; stdout is for the document alone."""
    print(text, file=sys.stderr, flush=True)


def settings(name: str) -> tuple[Training, dict[str, Any]]:
    """Returns what the runs of a packaged configuration share, and what each run takes from it."""
    values = load(name).training.model_dump()
    shared = {key: value for key, value in values.items() if key in Training.__dataclass_fields__}
    own = {key: values[key] for key in ("lr", "weight_decay", "dropout", "loss_weights")}
    return Training(**shared), own


def trained(name: str, bank: temporal.Bank, task: str, seeds: list[int]) -> list[dict[str, Any]]:
    """Trains one task by a recipe; returns per seed the frames of an epoch and the score of every epoch."""
    training, own = settings(name)
    frames = int(cut(bank.train.offsets, training.window, training.hop).frames.sum())
    began = time.perf_counter()
    results = temporal.fit(bank, [Run((task,), seed=seed, **own) for seed in seeds], training)
    seconds = time.perf_counter() - began
    return [
        {
            "seed": result.run.seed,
            "frames_per_epoch": frames,
            "scores": [line["score"] for line in result.history],
            "best": result.score,
            "best_epoch": result.best_epoch,
            "seconds": seconds / len(results),
        }
        for result in results
    ]


def compared(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Returns the frame-updates of both recipes until the best score of the first one."""
    reached = next((e for e, score in enumerate(ours["scores"], 1) if score >= theirs["best"]), None)
    spent = theirs["best_epoch"] * theirs["frames_per_epoch"]
    needed = None if reached is None else reached * ours["frames_per_epoch"]
    return {
        "seed": ours["seed"],
        "recipe_best": round(theirs["best"], 4),
        "recipe_epochs": theirs["best_epoch"],
        "recipe_frame_updates": spent,
        "default_best": round(ours["best"], 4),
        "default_epochs": reached,
        "default_frame_updates": needed,
        "ratio": None if needed is None else round(needed / spent, 4),
        "recipe_seconds": round(theirs["seconds"], 1),
        "default_seconds": round(ours["seconds"], 1),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "work/demo", help="where `facets features` wrote")
    parser.add_argument("--tasks", nargs="+", default=["V", "A", "AU", "EXPR"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    chosen = parser.parse_args()
    (features,) = (chosen.work / "features").iterdir()
    bank = temporal.load_bank(stores.open(features), stores.open(chosen.work / "labels"))
    found: dict[str, list[dict[str, Any]]] = {}
    for task in chosen.tasks:
        told(task)
        pair = [trained(name, bank, task, chosen.seeds) for name in (RECIPE, DEFAULT)]
        found[task] = [compared(*each) for each in zip(*pair, strict=True)]
        told(json.dumps(found[task]))
    ratios = {
        f"{task}: frame-updates of the default recipe / of {RECIPE}": (
            round(statistics.median(row["ratio"] for row in rows), 4)
            if all(row["ratio"] is not None for row in rows)
            else "not reached by every seed"
        )
        for task, rows in found.items()
    }
    print(json.dumps({"torch": torch.__version__, "runs": found, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
