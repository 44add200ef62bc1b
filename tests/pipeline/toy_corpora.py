"""Corpora with label sets of their own, made by a test and read by a reader of their own.

Not a format of anybody: ``toy.json`` holds labels by name, so that a test knows the truth without any list.
"""

import json
from pathlib import Path

import numpy as np
from store_specs import feature_spec

import stores
from extract.corpora import Clip, Corpus, Labels

KIND = "toy"
DIM = 8


def write(root, name, expressions, aus, clips, *, static=False, values=True, frames=24, seed=0):
    """Writes a corpus; ``clips`` is a list of (id, split, subject)."""
    rng = np.random.default_rng(seed)
    document = {"name": name, "expressions": expressions, "aus": aus, "static": static, "clips": []}
    for clip, split, subject in clips:
        rows = [
            {
                "expression": str(rng.choice(expressions)) if expressions else None,
                "intensity": {unit: int(rng.integers(0, 6)) for unit in aus},
                "valence": float(rng.uniform(-1, 1)) if values else None,
                "arousal": float(rng.uniform(-1, 1)) if values else None,
            }
            for _ in range(frames)
        ]
        document["clips"].append({"id": clip, "split": split, "subject": subject, "rows": rows})
    root.mkdir(parents=True)
    (root / "toy.json").write_text(json.dumps(document))
    return document


def load(root: Path, edition: str, *, au_threshold: int = 2) -> Corpus:
    document = json.loads((root / "toy.json").read_text())
    expressions, aus = document["expressions"], document["aus"]
    clips = []
    for clip in document["clips"]:
        rows = clip["rows"]
        labels = Labels(
            np.array([np.nan if r["valence"] is None else r["valence"] for r in rows], np.float32),
            np.array([np.nan if r["arousal"] is None else r["arousal"] for r in rows], np.float32),
            np.array([expressions.index(r["expression"]) if expressions else -1 for r in rows], np.int8),
            np.array([[r["intensity"][u] >= au_threshold for u in aus] for r in rows], np.int8),
        )
        paths = tuple(root / f"{clip['id']}-{i}.jpg" for i in range(len(rows)))
        fps = 1.0 if document["static"] else 30.0
        clips.append(
            Clip(clip["id"], clip["split"], paths, labels, fps, clip["subject"], static=document["static"])
        )
    return Corpus(document["name"], root, "", tuple(expressions), tuple(aus), tuple(clips))


def write_features(path, frames, trained_on=("ImageNet-1k",), backend="hdf5"):
    """Writes a feature store with random vectors; ``frames`` maps clip ids to numbers of frames."""
    from dataclasses import replace

    rng = np.random.default_rng(0)
    store = stores.create(path, replace(feature_spec(DIM), weights_trained_on=trained_on), backend)
    for clip, count in frames.items():
        vectors = rng.normal(size=(count, DIM)).astype(np.float16)
        arrays = {"features": vectors, "frame": np.arange(count, dtype=np.int32)}
        store.write(clip, arrays | {"valid": np.ones(count, bool)})
    return store
