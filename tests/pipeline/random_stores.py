"""A work directory with a feature store and a label store of random numbers, in a fraction of a second.

Not a test: it lets tests of the sweep run without faces and without a backbone.
"""

import numpy as np
from store_specs import feature_spec, label_spec

import stores

FAST = "training={window: 16, hop: 12, epochs: 3, channels: 4, levels: 2, kernel_size: 3, device: cpu}"
"""Settings that train a run on these stores in milliseconds."""


def random_work(folder):
    """Makes the stores of the demo below ``folder``: 6 training clips, 3 for validation, 20 to 28 frames."""
    random, labels = np.random.default_rng(0), label_spec()
    features = stores.create(folder / "features" / "narrow_resnet50.rendered-112", feature_spec(dim=8))
    annotations = stores.create(folder / "labels", labels)
    for i in range(9):
        frames = 20 + i
        features.write(
            f"clip{i}",
            {
                "features": random.normal(size=(frames, 8)).astype(np.float16),
                "frame": np.arange(frames, dtype=np.int32),
                "valid": np.ones(frames, bool),
            },
        )
        annotations.write(
            f"clip{i}",
            {
                "valence": random.uniform(-1, 1, frames).astype(np.float32),
                "arousal": random.uniform(-1, 1, frames).astype(np.float32),
                "expression": random.integers(7, size=frames).astype(np.int8),
                "au": random.integers(2, size=(frames, len(labels.au_names))).astype(np.int8),
            },
            {"split": "train" if i < 6 else "validation", "fps": 30.0, "subject": "", "corpus": "rendered"},
        )
    return folder
