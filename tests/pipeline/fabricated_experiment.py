"""A work directory with small made-up stores, and the configuration of a sweep over them that takes a second.

Not a test: sweeps that are killed, or trained by workers, need no corpus and no backbone.
"""

from pathlib import Path

import numpy as np
import yaml
from store_specs import feature_spec, label_spec

import stores

DIM = 6
CLIPS = {
    "train": {"one": 40, "two_left": 9, "two_right": 33, "three": 25},
    "validation": {"four": 30, "five": 7},
}
SETTINGS = {
    "name": "tiny",
    "corpus": {"kind": "rendered", "edition": "abaw2"},
    "training": {
        "window": 16,
        "hop": 16,
        "batch_size": 4,
        "epochs": 12,
        "patience": 3,
        "lr": 0.01,
        "channels": 4,
        "levels": 1,
        "kernel_size": 3,
        "projection": 4,
        "device": "cpu",
        "max_replicas": 4,
    },
    "sweep": {
        "rows": [
            {"tasks": ["V"]},
            {"tasks": ["EXPR"]},
            {"tasks": ["A", "AU"], "attention": True},
            {"tasks": ["V", "A", "EXPR"]},
        ],
        "seeds": [0, 1],
    },
}


def write_stores(work):
    """Writes features that a linear map makes from random walks, and labels made from the same walks."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(21, DIM))
    features = stores.create(work / "features", feature_spec(DIM, "float32"))
    labels = stores.create(work / "labels", label_spec())
    for split, clips in CLIPS.items():
        for clip, frames in clips.items():
            latent = np.cumsum(random.normal(size=(frames, 21)), 0)
            latent = (latent - latent.mean(0)) / latent.std(0)
            affect = np.tanh(latent[:, :2]).astype(np.float32)
            features.write(
                clip,
                {
                    "features": (latent @ mixing).astype(np.float32),
                    "frame": np.arange(frames, dtype=np.int32),
                    "valid": np.ones(frames, dtype=bool),
                },
            )
            labels.write(
                clip,
                {
                    "valence": affect[:, 0].copy(),
                    "arousal": affect[:, 1].copy(),
                    "expression": latent[:, 2:9].argmax(1).astype(np.int8),
                    "au": (latent[:, 9:] > 0.5).astype(np.int8),
                },
                {"split": split, "fps": 30.0, "subject": "", "corpus": "made up"},
            )


def write_config(folder: Path, work: Path, **training) -> Path:
    """Writes the YAML of the experiment in ``work``; ``training`` changes settings of that section."""
    path = folder / "tiny.yaml"
    changed = SETTINGS | {
        "streams": {"face": {"store": str(work / "features")}},
        "training": SETTINGS["training"] | training,
    }
    path.write_text(yaml.safe_dump(changed))
    return path
