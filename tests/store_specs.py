"""Valid specs and arrays of stores, for tests and benchmarks."""

import numpy as np

from stores.digest import Array
from stores.documents import Json
from stores.spec import FeatureSpec, LabelSpec

LABEL_ATTRS: dict[str, Json] = {"split": "train", "fps": 30.0, "subject": "", "corpus": "rendered"}


def feature_spec(dim: int = 2048, dtype: str = "float16") -> FeatureSpec:
    """Returns a valid feature spec of vectors of length ``dim``."""
    return FeatureSpec(
        stream="resnet50.rendered",
        backbone="resnet50",
        weights="rendered",
        weights_sha256="0" * 64,
        weights_trained_on=("rendered",),
        image_size=112,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="none",
        decoder="pillow",
        dtype=dtype,
        dim=dim,
        versions={"numpy": np.__version__},
    )


def label_spec() -> LabelSpec:
    """Returns a valid label spec: seven expressions, twelve action units."""
    return LabelSpec(
        corpus="rendered",
        edition="abaw2",
        expression_names=("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise"),
        au_names=("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26"),
    )


def feature_arrays(frames: int, spec: FeatureSpec, seed: int = 0) -> dict[str, Array]:
    """Returns the arrays of a feature clip; about a tenth of its frames are not valid."""
    random = np.random.default_rng(seed)
    valid = random.random(frames) > 0.1
    features = random.standard_normal((frames, spec.dim), dtype=np.float32).astype(spec.dtype)
    features[~valid] = 0
    return {"features": features, "frame": np.arange(frames, dtype=np.int32), "valid": valid}


def label_arrays(frames: int, spec: LabelSpec, seed: int = 0) -> dict[str, Array]:
    """Returns the arrays of a label clip; some of each are unknown."""
    random = np.random.default_rng(seed)
    unknown = random.random(frames) < 0.2
    return {
        "valence": np.where(unknown, np.nan, random.uniform(-1, 1, frames)).astype(np.float32),
        "arousal": np.where(unknown, np.nan, random.uniform(-1, 1, frames)).astype(np.float32),
        "expression": random.integers(-1, len(spec.expression_names), frames, dtype=np.int8),
        "au": random.integers(-1, 2, (frames, len(spec.au_names)), dtype=np.int8),
    }
