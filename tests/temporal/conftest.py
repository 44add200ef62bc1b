from dataclasses import replace

import numpy as np
import pytest
import torch
from store_specs import feature_spec, label_spec

from temporal import Bank, Split, Stream
from temporal.data.scaling import identity, statistics
from temporal.settings import Training

DIM = 6


def make_split(frames, seed, dim=DIM, missing=0.1):
    """Random-walk latents seen through a linear map, with labels of all four tasks, some unknown."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(21, dim))
    latent = np.concatenate([np.cumsum(random.normal(size=(t, 21)), 0) for t in frames])
    latent = (latent - latent.mean(0)) / latent.std(0)
    rows = len(latent)
    valid = random.random(rows) >= missing
    features = (latent @ mixing).astype(np.float32)
    features[~valid] = 0
    valence, arousal = np.tanh(latent[:, :2]).T.astype(np.float32)
    valence[random.random(rows) < 0.2] = np.nan
    expression = latent[:, 2:9].argmax(1).astype(np.int8)
    expression[random.random(rows) < 0.2] = -1
    au = (latent[:, 9:] > 0.5).astype(np.int8)
    au[random.random(au.shape) < 0.2] = -1
    labels = {"valence": valence, "arousal": arousal, "expression": expression, "au": au}
    return Split(
        tuple(f"clip{i}" for i in range(len(frames))),
        (0, *np.cumsum(frames).tolist()),
        {"face": Stream(torch.from_numpy(features), torch.from_numpy(valid))},
        {name: torch.from_numpy(values.copy()) for name, values in labels.items()},
    )


def plain(dim=DIM):
    """Features as they are."""
    return {"face": identity(dim)}


def scaled(split):
    """Features standardised by the statistics of ``split``."""
    return {name: statistics(split, name) for name in split.streams}


def with_features(split, features, valid=None):
    """The split with other features, and other valid frames if given."""
    stream = split.streams["face"]
    return replace(
        split,
        streams={"face": replace(stream, features=features, valid=stream.valid if valid is None else valid)},
    )


@pytest.fixture(scope="session")
def bank():
    spec = feature_spec(DIM, "float32")
    return Bank(make_split([40, 9, 33, 25], 1), make_split([30, 7], 2), {"face": spec}, label_spec())


@pytest.fixture
def tiny():
    """Training small enough for hundreds of steps a second; 10 steps per epoch."""
    return Training(
        window=12,
        hop=10,
        batch_size=2,
        epochs=8,
        patience=0,
        channels=5,
        levels=2,
        kernel_size=3,
        projection=4,
    )
