import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
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
    p[~known] = np.inf
    assert metrics.ccc(t, p) == pytest.approx(brute_force_ccc(t[known], p[known]), abs=1e-10)


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


@pytest.mark.parametrize("edition", ["abaw1", "abaw2", "abaw6"])
def test_scores_rest_on_known_values_alone_and_name_the_edition_s_labels(edition):
    rules, random = EDITIONS[edition], np.random.default_rng(5)
    frames, classes, aus = 200, len(rules.expressions), len(rules.aus)
    labels = {
        "V": np.where(random.random(frames) < 0.3, np.nan, random.uniform(-1, 1, frames)),
        "AU": random.integers(-1, 2, (frames, aus)),
        "EXPR": random.integers(-1, classes, frames),
    }
    predictions = {
        "V": random.uniform(-1, 1, frames),
        "EXPR": random.dirichlet(np.ones(classes), frames),
        "AU": random.random((frames, aus)),
    }
    found = metrics.totals(labels, predictions, edition)
    assert list(found) == ["V", "AU", "EXPR"]
    assert list(found["EXPR"]["per_class"]) == list(rules.expressions)
    assert list(found["AU"]["per_au"]) == list(rules.aus)
    known = {task: np.isfinite(y) & (y >= 0) if task != "V" else np.isfinite(y) for task, y in labels.items()}
    counted = {task: found[task]["frames"] for task in found}
    assert counted == {task: mask.reshape(frames, -1).any(1).sum() for task, mask in known.items()}
    selected = [found["V"]["ccc"], found["AU"]["total"], found["EXPR"]["total"]]
    assert metrics.score(found) == pytest.approx(np.mean(selected))
    others = {
        "V": np.where(known["V"], predictions["V"], 0.3),
        "AU": np.where(known["AU"], predictions["AU"], 0.9),
        "EXPR": np.where(known["EXPR"][:, None], predictions["EXPR"], predictions["EXPR"][:, ::-1]),
    }
    assert metrics.totals(labels, others, edition) == found


@pytest.mark.parametrize(
    ("labels", "predictions", "word"),
    [
        ({"V": [0.0]}, {"AU": [[0.5] * 12]}, "AU"),
        ({"V": [0.0, 0.1]}, {"V": [0.0]}, "shape"),
        ({"AU": [[0.0] * 11]}, {"AU": [[0.5] * 12]}, "abaw2"),
        ({"EXPR": [0]}, {"EXPR": [[0.5] * 8]}, "abaw2"),
        ({"AU": [[2] * 12]}, {"AU": [[0.5] * 12]}, "up to 2"),
        ({"EXPR": [7]}, {"EXPR": [[0.5] * 7]}, "up to 7"),
    ],
)
def test_labels_that_do_not_fit_the_predictions_are_refused(labels, predictions, word):
    with pytest.raises(ConfigError, match=word):
        metrics.totals(labels, predictions, "abaw2")


def test_metrics_do_not_import_torch():
    code = "import sys, temporal.metrics, temporal.chance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
