"""Every sequence model with every kind of attention, trained in stacks, as ``temporal.train.fused``
promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import scaled
from tiny_stacks import RUNS, SIZES, TINY

import temporal
from temporal.data.minibatch import gather
from temporal.data.windows import batches, cut, epoch_order
from temporal.models import initialise
from temporal.models.network import build
from temporal.settings import ATTENTIONS, MODELS
from temporal.train.fused import Stack
from temporal.train.targets import gather_targets, objective

every = pytest.mark.parametrize(("model", "kind"), [(m, k) for m in MODELS for k in ATTENTIONS])


@pytest.fixture(scope="module")
def train(bank):
    """Returns a function that trains a stack on the same minibatches, gathered once, for some steps."""
    windows, standardise = cut(bank.train.offsets, TINY.window, TINY.hop), scaled(bank.train)
    target, minibatches = objective(bank.train, bank.label_spec, TINY), []
    for chosen in batches(epoch_order(len(windows), 0, 1), TINY.batch_size):
        batch = gather(bank.train, windows, chosen, standardise)
        minibatches.append((batch, gather_targets(bank.train, batch.rows, batch.usable(), SIZES)))

    def train(training, runs, steps, sizes=SIZES, spoil=None):
        stack = Stack(bank.train.dims, sizes, runs, training, torch.device("cpu"))
        for step in range(steps):
            if step == spoil:
                stack.parameters[0, 3] = torch.nan
            batch, targets = minibatches[step % len(minibatches)]
            everyone = torch.ones(len(stack), dtype=torch.bool)
            stack.step(batch.features, batch.mask, targets, target, everyone, 1.0)
        stack.remember(range(len(stack)))
        return stack

    assert any(batch.mask is not None for batch, _ in minibatches)
    return train


def worst(ours, theirs):
    """Returns the largest difference of the parameters that ``theirs`` has."""
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


def settings(model, kind):
    return replace(TINY, model=model, attention=kind)


# Every model and every kind, each once or twice.
some = pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("tcn", "vector"),
        ("multiscale_tcn", "hierarchical"),
        ("bigru", "cross_task"),
        ("transformer", "scalar"),
        ("mlp", "cross_task"),
    ],
)


@some
def test_after_20_steps_a_replica_equals_the_same_run_trained_alone(train, model, kind):
    training = settings(model, kind)
    together, alone = (
        train(training, RUNS, 20).best_weights(0),
        train(training, RUNS[:1], 20).best_weights(0),
    )
    assert worst(together, alone) <= 1e-5
    assert worst(train(training, RUNS[:1], 0).best_weights(0), alone) > 0.02


@every
def test_a_replica_is_the_run_trained_alone_by_a_model_of_its_own_tasks(train, model, kind):
    training, steps = settings(model, kind), 6
    together, spoilt = train(training, RUNS, steps), train(training, RUNS, steps, spoil=3)
    for row, run in enumerate(RUNS[:2]):
        own = {task: size for task, size in SIZES.items() if task in run.tasks}
        small = train(training, [run], steps, own)
        assert worst(together.best_weights(row), small.best_weights(0)) <= 1e-5
    # A replica that is not finite leaves the others bit for bit as they would have been.
    assert spoilt.alive.tolist() == [False, True, True]
    assert torch.equal(together.parameters[1:], spoilt.parameters[1:])
    # The first moment is zero if and only if no gradient ever came.
    together.best = together.first_moment
    for row, run in enumerate(RUNS):
        for name, moment in together.best_weights(row).items():
            assert bool(moment.any()) == learns(name, run, kind), (run.name, name)


def learns(name, run, kind):
    """Tells whether a run trains the parameter: a task it lacks, or attention it lacks, has no gradient."""
    part, *rest = name.split(".")
    if any(task in rest and task not in run.tasks for task in SIZES):
        return False
    if part != "attention":
        return True
    gate_of_the_first = rest[0] == "gates" and run.tasks[0] in rest
    no_path = kind == "hierarchical" and not {"AU", "EXPR"} <= set(run.tasks)
    return run.attention and not gate_of_the_first and not no_path


@some
def test_a_loaded_model_predicts_what_it_predicted_in_training(bank, tmp_path, model, kind):
    result = temporal.fit(bank, RUNS[:2], settings(model, kind))[0]
    temporal.save(result, tmp_path)
    loaded = temporal.load(tmp_path, bank.feature_specs["face"])
    assert loaded.training == settings(model, kind)
    for task, values in loaded.predict_arrays(*clip(bank)).items():
        np.testing.assert_allclose(values, result.predictions["clip0"][task], atol=1e-5)


@pytest.fixture(scope="module")
def fitted(bank):
    return temporal.fit(bank, RUNS[:1], TINY)[0]


@every
def test_a_loaded_model_predicts_the_same_bits(bank, fitted, tmp_path, model, kind):
    training, sizes = settings(model, kind), {task: SIZES[task] for task in RUNS[0].tasks}
    network = build(bank.train.dims, sizes, training, attention=True)
    initialise(network, 3)
    saved = replace(fitted.model, network=network, training=training)
    temporal.save(replace(fitted, model=saved), tmp_path)
    found, expected = (m.predict_arrays(*clip(bank)) for m in (temporal.load(tmp_path), saved))
    assert all(np.array_equal(found[task], expected[task]) for task in sizes)


def clip(bank):
    split = bank.validation
    return split.streams["face"].features[: split.offsets[1]].numpy(), split.valid[: split.offsets[1]].numpy()


def test_dropout_factors_have_the_shape_that_the_model_asks_for_and_come_from_each_run_alone():
    for model in MODELS:
        stack = Stack({"face": 6}, SIZES, RUNS, settings(model, "scalar"), torch.device("cpu"))
        alone = Stack({"face": 6}, SIZES, RUNS[1:2], settings(model, "scalar"), torch.device("cpu"))
        factors = stack.draw_dropout(3)
        assert factors.shape == (3, stack.body.trunk.dropout_shape[0], 3, 8)
        assert torch.equal(factors[0], torch.ones_like(factors[0]))
        assert torch.equal(factors[1], alone.draw_dropout(3)[0])
        assert factors[1].unique().tolist() == pytest.approx([0.0, 1 / 0.7])
