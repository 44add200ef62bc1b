"""Per-frame linear probe of a feature store: what a backbone carries about affect, before any temporal model.

Not a sweep: one ridge regression per quantity, fitted on training frames, scored on people never seen.

    python benchmarks/probe.py [FEATURES LABELS]

The default stores are those of the demo (``make features``).
"""

import argparse
import json
import sys
from pathlib import Path

# A file beside this one has the name of a package, and Python looks beside a script first.
ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import numpy as np  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.metrics import f1_score  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import stores  # noqa: E402
from temporal import metrics  # noqa: E402


def frames(features: stores.Store, labels: stores.Store, split: str) -> dict[str, np.ndarray]:
    """All frames of a split that have a crop: features (F, D) and the label arrays."""
    gathered: dict[str, list[np.ndarray]] = {}
    for clip in labels.clips():
        if labels.record(clip).attrs["split"] != split:
            continue
        valid = features.read(clip, "valid")
        gathered.setdefault("features", []).append(features.read(clip)[valid].astype(np.float32))
        for name in ("valence", "arousal", "expression", "au"):
            gathered.setdefault(name, []).append(labels.read(clip, name)[valid])
    return {name: np.concatenate(parts) for name, parts in gathered.items()}


def main() -> None:
    """Fits and prints the scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    demo = Path("work/demo")
    parser.add_argument(
        "features", type=Path, nargs="?", default=demo / "features/narrow_resnet50.rendered-112"
    )
    parser.add_argument("labels", type=Path, nargs="?", default=demo / "labels")
    chosen = parser.parse_args()
    features, labels = stores.open(chosen.features), stores.open(chosen.labels)
    names = labels.spec.au_names
    train, test = frames(features, labels, "train"), frames(features, labels, "validation")
    scaler = StandardScaler().fit(train["features"])
    x, y = scaler.transform(train["features"]), scaler.transform(test["features"])
    scores: dict[str, float] = {}
    for task in ("valence", "arousal"):
        known, asked = np.isfinite(train[task]), np.isfinite(test[task])
        model = Ridge(alpha=1000.0).fit(x[known], train[task][known])
        scores[f"ccc {task}"] = float(metrics.ccc(test[task][asked], model.predict(y[asked])))
    for column, name in enumerate(names):
        known, asked = train["au"][:, column] >= 0, test["au"][:, column] >= 0
        # A ridge on 0/1 labels, cut where the training frames' F1 is highest.
        model = Ridge(alpha=1000.0).fit(x[known], train["au"][known, column])
        fitted = model.predict(x[known])
        cuts = np.linspace(0.2, 0.6, 21)
        best = max(cuts, key=lambda cut, t=train["au"][known, column], p=fitted: f1_score(t, p > cut))
        scores[f"f1 {name}"] = float(f1_score(test["au"][asked, column], model.predict(y[asked]) > best))
    scores["f1 au mean"] = float(np.mean([scores[f"f1 {name}"] for name in names]))
    known, asked = train["expression"] >= 0, test["expression"] >= 0
    model = LogisticRegression(C=1e-3, max_iter=300, class_weight="balanced").fit(
        x[known], train["expression"][known]
    )
    scores["f1 expression macro"] = float(
        f1_score(test["expression"][asked], model.predict(y[asked]), average="macro")
    )
    counts = {"train_frames": len(x), "test_frames": len(y)}
    print(json.dumps({"probe": scores, **counts, "backbone": features.spec.weights_sha256[:12]}, indent=1))


if __name__ == "__main__":
    main()
