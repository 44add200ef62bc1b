import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.chance import binary_chance, categorical_chance, chance_levels

shares = st.sampled_from([0.0, 0.5, 0.67, 1.0])
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 4), shares)
def test_no_blind_au_predictor_beats_binary_chance(seed, aus, share):
    random = np.random.default_rng(seed)
    y = (random.random((50, aus)) < random.random(aus)).astype(int)
    y[random.random(y.shape) < 0.2] = -1
    y[0] = 0
    known = (y >= 0).sum(0)
    p = (y == 1).sum(0) / known
    q = np.linspace(0, 1, 2001)[:, None]
    f1 = np.divide(2 * p * q, p + q, out=np.zeros((2001, aus)), where=p + q > 0)
    accuracy = q * p + (1 - q) * (1 - p)
    best = (share / aus * f1 + (1 - share) * known / known.sum() * accuracy).max(0).sum()
    assert binary_chance(y, share) == pytest.approx(best, abs=1e-5)
    assert binary_chance(y, share) >= best - 1e-12


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 8), shares)
def test_no_blind_class_predictor_beats_categorical_chance(seed, classes, share):
    random = np.random.default_rng(seed)
    y = random.choice(classes, 200, p=random.dirichlet(np.full(classes, 0.7)))
    p = np.bincount(y, minlength=classes) / 200
    q = np.concatenate([random.dirichlet(np.full(classes, a), 500) for a in (0.1, 1.0, 10.0)])
    q = np.concatenate([q, np.eye(classes), p[None]])
    f1 = np.divide(2 * p * q, p + q, out=np.zeros_like(q), where=p + q > 0).mean(1)
    best = (share * f1 + (1 - share) * (p * q).sum(1)).max()
    assert categorical_chance(y, classes, share) >= best - 1e-9


def test_chance_of_one_metric_alone_has_the_known_closed_forms():
    y = np.array([0] * 6 + [1] * 3 + [2])
    assert categorical_chance(y, 7, 1.0) == pytest.approx(1 / 7)
    assert categorical_chance(y, 7, 0.0) == 0.6
    au = np.array([[1, 0]] * 3 + [[0, 0]] * 7)
    assert binary_chance(au, 1.0) == pytest.approx((2 * 0.3 / 1.3 + 0) / 2)
    assert binary_chance(au, 0.0) == pytest.approx((0.7 + 1.0) / 2)


def test_chance_covers_every_task_and_metric():
    labels = {"V": [0.1, np.nan], "AU": [[1] * 12, [0] * 12], "EXPR": [0, -1]}
    found = chance_levels(labels, "abaw2")
    assert found["V"] == {"ccc": 0.0}
    assert set(found["AU"]) == set(found["EXPR"]) == {"f1", "accuracy", "total"}
    assert found["EXPR"]["accuracy"] == 1.0
    assert found["AU"]["f1"] == pytest.approx(2 / 3)
