"""What storing features in float16 costs: the features and scores of a store, beside those of one in float32.

Not a comparison of trainings: training amplifies any change in the last digit, as it does another seed.

    python benchmarks/dtypes.py [WORK [WORK_IN_FLOAT32]]

Every finished run of the first work directory (by default the demo's, after ``make sweep``) predicts the
validation split from both stores; without a second one, the demo is extracted once more. Prints JSON.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# A file beside this one has the name of a package, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import numpy as np  # noqa: E402

import stores  # noqa: E402
import temporal  # noqa: E402
from temporal import metrics  # noqa: E402
from temporal.tasks import TASKS  # noqa: E402
from temporal.train.stack import rules_of  # noqa: E402


def store_of(work: Path) -> stores.Store:
    """Opens the one feature store of a work directory."""
    (path,) = (work / "features").iterdir()
    return stores.open(path)


def least_cosine(one: stores.Store, other: stores.Store, clips: list[str]) -> float:
    """Least cosine of the two features of a frame that has a crop."""
    least = 1.0
    for clip in clips:
        valid = one.read(clip, "valid")
        a, b = (store.read(clip)[valid].astype(np.float64) for store in (one, other))
        cosine = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        least = min(least, float(cosine.min()))
    return least


def scores(run: Path, features: stores.Store, labels: stores.Store, clips: list[str]) -> dict[str, float]:
    """Every score of a trained model on these features."""
    model = temporal.load(run)
    predicted = [model.predict_arrays(features.read(clip), features.read(clip, "valid")) for clip in clips]
    joined = {task: np.concatenate([each[task] for each in predicted]) for task in model.run.tasks}
    truth = {
        task: np.concatenate([labels.read(clip, TASKS[task].array) for clip in clips]) for task in joined
    }
    found = metrics.totals(truth, joined, rules_of(labels.spec))
    return {
        f"{task} {name}": value
        for task, entry in found.items()
        for name, value in entry.items()
        if isinstance(value, float)
    }


def compare(half_work: Path, single_work: Path) -> dict[str, object]:
    """Compares the features, and the scores of every run on them."""
    half, single = store_of(half_work), store_of(single_work)
    if (half.spec.dtype, single.spec.dtype) != ("float16", "float32"):
        sys.exit(f"{half.path} is of {half.spec.dtype}, {single.path} of {single.spec.dtype}")
    labels = stores.open(half_work / "labels")
    clips = [clip for clip in labels.clips() if labels.record(clip).attrs["split"] == "validation"]
    runs = sorted(path.parent for path in half_work.glob("runs/*/result.json"))
    if not runs:
        sys.exit(f"{half_work} has no finished run: make sweep")
    largest: dict[str, float] = {}
    for run in runs:
        one, other = (scores(run, store, labels, clips) for store in (half, single))
        for name, value in one.items():
            largest[name] = max(largest.get(name, 0.0), abs(value - other[name]))
    return {
        "runs": len(runs),
        "least cosine of a frame's features": least_cosine(half, single, clips),
        "largest change of a score": {name: round(value, 6) for name, value in largest.items()},
    }


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("half", type=Path, nargs="?", default=ROOT / "work/demo")
    parser.add_argument("single", type=Path, nargs="?")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        single = chosen.single
        if single is None:
            single = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facets-bench-"))) / "work"
            facets = Path(sys.executable).with_name("facets")
            options = ["--work", single, "--set", "streams.face.dtype=float32"]
            subprocess.run([facets, "features", *options], check=True, stdout=sys.stderr)
        print(json.dumps(compare(chosen.half, single), indent=1))


if __name__ == "__main__":
    main()
