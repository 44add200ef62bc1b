import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from torchmetrics.functional import concordance_corrcoef

from stores.editions import EDITIONS
from stores.errors import ConfigError
from temporal import metrics

seeds = st.integers(0, 2**32 - 1)


def brute_force_ccc(t, p):
    n = len(t)
    mt, mp = sum(t) / n, sum(p) / n
    vt, vp = sum((x - mt) ** 2 for x in t) / n, sum((x - mp) ** 2 for x in p) / n
    return 2 * sum((x - mt) * (y - mp) for x, y in zip(t, p, strict=True)) / n / (vt + vp + (mt - mp) ** 2)


@settings(deadline=None)  # on a busy machine a single example may take long
@given(seeds, st.integers(3, 60))
def test_ccc_equals_the_population_formula_over_known_frames(seed, frames):
    random = np.random.default_rng(seed)
    t, p = random.normal(size=(2, frames))
    known = random.random(frames) < 0.7
    assume(known.sum() >= 2)
    t[~known] = np.nan
    assert metrics.ccc(t, p) == pytest.approx(brute_force_ccc(t[known], p[known]), abs=1e-10)
    assert metrics.ccc(np.nan_to_num(t), p, known) == metrics.ccc(t, p)


def test_ccc_equals_torchmetrics_up_to_its_sample_variance():
    t, p = np.random.default_rng(0).normal(size=(2, 200_000))
    p += t
    theirs = concordance_corrcoef(torch.from_numpy(p), torch.from_numpy(t)).item()
    assert metrics.ccc(t, p) == pytest.approx(theirs, abs=1e-5)


@settings(deadline=None)
@given(seeds, st.integers(2, 50))
def test_identical_series_have_ccc_exactly_1(seed, frames):
    x = np.random.default_rng(seed).normal(size=frames)
    assert metrics.ccc(x, x) == 1.0


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.7, 1e-200])
def test_a_constant_has_ccc_0(constant):
    x = np.linspace(-1, 1, 10)
    flat = np.full(10, constant)
    assert metrics.ccc(x, flat) == metrics.ccc(flat, x) == metrics.ccc(flat, flat) == 0.0
    assert metrics.ccc(np.full(4, np.nan), np.zeros(4)) == 0.0


def test_ccc_refuses_a_prediction_that_is_not_finite():
    with pytest.raises(ConfigError, match="not finite"):
        metrics.ccc([0.1, 0.2], [np.nan, 0.0])


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 80), st.integers(2, 9))
def test_macro_f1_equals_scikit_learn_over_the_fixed_class_list(seed, frames, classes):
    random = np.random.default_rng(seed)
    t, p = random.integers(-1, classes, frames), random.integers(0, classes, frames)
    known = t >= 0
    assume(known.any())
    theirs = f1_score(t[known], p[known], labels=range(classes), average="macro", zero_division=0)
    assert metrics.macro_f1(t, p, classes) == pytest.approx(theirs, abs=1e-10)


def test_macro_f1_of_predictions_collapsed_to_two_classes_stays_macro():
    t, p = np.array([0, 1, 2, 3]), np.array([0, 1, 1, 0])
    assert metrics.macro_f1(t, p, 4) == pytest.approx((2 / 3 + 2 / 3) / 4)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 60), st.integers(1, 12))
def test_au_f1_equals_scikit_learn_over_the_known_cells(seed, frames, aus):
    random = np.random.default_rng(seed)
    t, p = random.integers(-1, 2, (frames, aus)), random.integers(0, 2, (frames, aus))
    known = t >= 0
    theirs = [
        f1_score(t[known[:, k], k], p[known[:, k], k], zero_division=0) if known[:, k].any() else 0.0
        for k in range(aus)
    ]
    assert metrics.au_f1(t, p) == pytest.approx(np.mean(theirs), abs=1e-10)
    if known.any():
        assert metrics.au_accuracy(t, p) == pytest.approx(accuracy_score(t[known], p[known]), abs=1e-10)


def test_au_f1_refuses_probabilities():
    with pytest.raises(ConfigError, match="threshold"):
        metrics.au_f1([[0, 1]], [[0.2, 0.8]])


def test_totals_give_the_published_abaw2_leaderboard():
    # Team rows of the ABAW-2 leaderboard, percent: (F1, accuracy) -> total.
    assert metrics.au_total(50.59, 88.82, "total") == pytest.approx(69.70, abs=0.006)
    assert metrics.au_total(34.93, 87.74, "total") == pytest.approx(61.34, abs=0.006)
    assert metrics.expr_total(76.33, 80.69, "total") == pytest.approx(77.77, abs=0.006)
    assert metrics.expr_total(29.00, 64.81, "total") == pytest.approx(40.82, abs=0.006)


@pytest.mark.parametrize("edition", ["abaw1", "abaw2", "abaw6"])
def test_totals_score_known_frames_alone_by_the_edition(edition):
    rules, random = EDITIONS[edition], np.random.default_rng(5)
    frames, classes, aus = 200, len(rules.expressions), len(rules.aus)
    labels = {
        "V": np.where(random.random(frames) < 0.3, np.nan, random.uniform(-1, 1, frames)),
        "AU": random.integers(-1, 2, (frames, aus)),
        "EXPR": random.integers(-1, classes, frames),
    }
    predictions = {
        "V": random.uniform(-1, 1, frames),
        "AU": random.random((frames, aus)),
        "EXPR": random.dirichlet(np.ones(classes), frames),
    }
    found = metrics.totals(labels, predictions, edition)
    assert list(found) == ["V", "AU", "EXPR"]
    assert found["V"] == {
        "ccc": metrics.ccc(labels["V"], predictions["V"]),
        "frames": np.isfinite(labels["V"]).sum(),
    }
    known = labels["EXPR"] >= 0
    accuracy = (labels["EXPR"] == predictions["EXPR"].argmax(1))[known].mean()
    f1 = metrics.macro_f1(labels["EXPR"], predictions["EXPR"].argmax(1), rules.expressions)
    expected = {"abaw6": f1}.get(edition, 0.67 * f1 + 0.33 * accuracy)
    assert found["EXPR"]["total"] == pytest.approx(expected)
    assert found["EXPR"]["frames"] == known.sum()
    assert list(found["EXPR"]["per_class"]) == list(rules.expressions)
    assert list(found["AU"]["per_au"]) == list(rules.aus)
    selected = [found["V"]["ccc"], found["AU"]["total"], found["EXPR"]["total"]]
    assert metrics.score(found) == pytest.approx(np.mean(selected))
    changed = {**labels, "EXPR": np.where(known, labels["EXPR"], -1)}
    shuffled = {
        **predictions,
        "EXPR": np.where(known[:, None], predictions["EXPR"], predictions["EXPR"][:, ::-1]),
    }
    assert metrics.totals(changed, shuffled, edition) == found


def test_a_task_without_labels_is_refused_by_name():
    with pytest.raises(ConfigError, match="AU"):
        metrics.totals({"V": [0.0]}, {"AU": [[0.5] * 12]}, "abaw2")
