import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.errors import ConfigError
from temporal import TASKS, Training, metrics
from temporal.settings import LOSSES, Choice, Parameter
from temporal.train import losses
from temporal.train.targets import TaskBatch, gather_targets, objective

seeds = st.integers(0, 2**32 - 1)


def draw(seed, *shape):
    random = np.random.default_rng(seed)
    known = torch.from_numpy(random.random(shape) < 0.6)
    return random, known.float()


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_ccc_loss_is_one_minus_the_metric_pooled_over_the_batch(seed):
    random, known = draw(seed, 3, 20)
    known[0] = 0
    p, t = torch.from_numpy(random.normal(size=(2, 3, 20)))
    loss = losses.ccc_loss(p, t, known.double())
    expected = 1 - metrics.ccc(np.where(known.numpy() > 0, t.numpy(), np.nan), p.numpy())
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("prediction", [0.0, 0.3, 1e4])
@pytest.mark.parametrize("target", [0.0, 0.3])
@pytest.mark.parametrize("frames", [0, 1, 12])
def test_the_ccc_loss_of_constants_has_a_finite_gradient(prediction, target, frames):
    p = torch.full((2, 12), prediction, requires_grad=True)
    known = torch.zeros(2, 12)
    known[0, :frames] = 1
    loss = losses.ccc_loss(p, torch.full((2, 12), target), known)
    (gradient,) = torch.autograd.grad(loss, p)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())
    assert loss.item() == pytest.approx(1.0 if frames else 0.0)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_binary_loss_equals_torch_over_the_known_cells(seed):
    random, known = draw(seed, 2, 9, 4)
    z, w = torch.from_numpy(random.normal(size=(2, 9, 4))) * 5, torch.from_numpy(random.random(4)) * 3
    y = torch.from_numpy(random.integers(0, 2, (2, 9, 4))).double()
    cells = F.binary_cross_entropy_with_logits(z, y, pos_weight=w, reduction="none")
    torch.testing.assert_close(losses.binary_loss(z, y, known.double(), w), cells[known > 0].mean())


def test_the_focal_loss_follows_its_formula():
    z, y = torch.randn(2, 9, 4).double() * 4, torch.randint(0, 2, (2, 9, 4)).double()
    p = torch.sigmoid(z)
    expected = -(0.95 * y * (1 - p) ** 2 * p.log() + 0.05 * (1 - y) * p**2 * (1 - p).log()).mean()
    found = losses.focal_loss(z, y, torch.ones_like(z), gamma=2.0, alpha=0.95)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_losses_of_extreme_logits_have_a_finite_gradient(logit, gamma):
    z = torch.full((1, 3, 2), logit, requires_grad=True)
    y, known = torch.tensor([[[0.0, 1.0]] * 3]), torch.ones(1, 3, 2)
    for loss in (
        losses.focal_loss(z, y, known, gamma, 0.95),
        losses.binary_loss(z, y, known, torch.ones(2)),
        losses.categorical_loss(z, torch.zeros(1, 3, dtype=torch.int64), known[..., 0], torch.ones(2)),
    ):
        (gradient,) = torch.autograd.grad(loss, z)
        assert bool(torch.isfinite(gradient).all())


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_categorical_loss_equals_torch_over_the_known_frames(seed):
    random, known = draw(seed, 2, 9)
    z, w = torch.from_numpy(random.normal(size=(2, 9, 5))), torch.from_numpy(random.random(5))
    y = torch.from_numpy(random.integers(0, 5, (2, 9)))
    frames = F.cross_entropy(z.flatten(0, 1), y.flatten(), weight=w, reduction="none").view(2, 9)
    torch.testing.assert_close(losses.categorical_loss(z, y, known.double(), w), frames[known > 0].mean())


def test_balanced_weights_keep_the_mean_weight_of_a_training_label_at_1():
    y = torch.tensor([0, 0, 0, 0, 1, 2, 2, -1])
    weights = losses.class_weights(y, y >= 0, 5)
    assert weights[y[:-1].long()].mean().item() == pytest.approx(1.0)
    assert weights.tolist() == pytest.approx([7 / 12, 7 / 3, 7 / 6, 0, 0])
    au = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, -1], [0, 0, -1]])
    assert losses.positive_weights(au, au >= 0, 2.5).tolist() == pytest.approx([2.5, 2.5, 0.4])


EVERY_LOSS = [(task, name) for task, spec in TASKS.items() for name in LOSSES[spec.loss]]


@pytest.mark.parametrize(("task", "name"), EVERY_LOSS)
def test_every_registered_loss_gives_one_finite_number_and_zero_gradient_where_nothing_is_known(
    bank, task, name
):
    goal = objective(bank.train, bank.label_spec, Training(losses={task: name}))
    rows, usable = torch.arange(12).reshape(2, 6), torch.ones(2, 6, dtype=torch.bool)
    for seen in (usable, ~usable):
        labels = gather_targets(bank.train, rows, seen, [task])
        logits = torch.randn(2, 6, TASKS[task].size(bank.label_spec), requires_grad=True)
        (value,) = goal({task: logits}, labels)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert bool(gradient.any()) == bool(seen.any() and labels.known[task].any())


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_squared_error_is_the_mean_over_the_known_frames(seed):
    random, known = draw(seed, 3, 7)
    p, t = torch.from_numpy(random.normal(size=(2, 3, 7)))
    loss = losses.mse(None, None, None)(TaskBatch(p.unsqueeze(-1), t, known.double()))
    cells = [(p[i, j] - t[i, j]) ** 2 for i in range(3) for j in range(7) if known[i, j]]
    assert loss.item() == pytest.approx(float(sum(cells)) / max(1, len(cells)))


def test_a_loss_with_a_parameter_is_one_function_and_one_line(bank, monkeypatch):
    def huber(train, task, labels, *, delta):
        return lambda batch: F.huber_loss(batch.logits.squeeze(-1), batch.target, delta=delta)

    monkeypatch.setattr(losses, "huber", huber, raising=False)
    line = Choice("temporal.train.losses:huber", parameters={"delta": Parameter(1.0, "knee", gt=0)})
    monkeypatch.setitem(LOSSES["ccc"], "huber", line)
    for value, expected in (("huber", 1.5), ({"name": "huber", "delta": 0.5}, 0.875)):
        goal = objective(bank.train, bank.label_spec, Training(losses={"V": value}))
        batch = TaskBatch(torch.full((1, 1, 1), 2.0), torch.zeros(1, 1), torch.ones(1, 1))
        assert goal.forms["V"](batch).item() == pytest.approx(expected)
    with pytest.raises(ConfigError, match=r"delta 0: expected .* 0"):
        Training(losses={"V": {"name": "huber", "delta": 0}})
