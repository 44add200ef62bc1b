from dataclasses import replace

import pytest
import torch
from conftest import scaled

from temporal.data.minibatch import gather
from temporal.data.windows import batches, cut, epoch_order
from temporal.settings import Run
from temporal.train.fused import Stack
from temporal.train.targets import gather_targets, objective

SIZES = {"V": 1, "A": 1, "AU": 12, "EXPR": 7}
MIXED = [
    Run(("V",), seed=0, lr=3e-3, dropout=0.0),
    Run(("A", "AU"), attention=True, seed=1, lr=1e-2, dropout=0.1),
    Run(("V", "A", "AU", "EXPR"), attention=True, seed=2, weight_decay=0.1, dropout=0.3),
    Run(("AU", "EXPR"), seed=0, lr=5e-3, dropout=0.1, loss_weights={"AU": 0.3}),
    Run(("EXPR",), attention=True, seed=4, dropout=0.0),
]


def run_steps(bank, training, runs, steps, sizes=SIZES, *, spoil=None):
    """Trains a stack; ``spoil(stack, step)`` may interfere before each step."""
    stack = Stack(bank.train.dims, sizes, runs, training, torch.device("cpu"))
    windows = cut(bank.train.offsets, training.window, training.hop)
    standardise = scaled(bank.train)
    target = objective(bank.train, bank.label_spec, training)
    order = [
        c for epoch in range(steps) for c in batches(epoch_order(len(windows), 0, epoch), training.batch_size)
    ]
    for step, chosen in enumerate(order[:steps]):
        if spoil is not None:
            spoil(stack, step)
        batch = gather(bank.train, windows, chosen, standardise)
        targets = gather_targets(bank.train, batch.rows, batch.usable(), sizes)
        has_label = torch.ones(len(stack), dtype=torch.bool)
        stack.step(batch.features, batch.mask, targets, target, has_label, 1.0)
    stack.remember(range(len(stack)))
    return stack


@pytest.mark.parametrize(("projection", "steps", "rows"), [(4, 100, (2, 3)), (0, 25, range(5))])
def test_every_replica_equals_the_same_run_trained_alone(bank, tiny, projection, steps, rows):
    tiny = replace(tiny, projection=projection)
    together = run_steps(bank, tiny, MIXED, steps)
    for row in rows:
        run = MIXED[row]
        alone = run_steps(bank, tiny, [run], steps)
        # An attention block that nobody uses is not built, so compare what both have.
        ours, theirs = together.best_weights(row), alone.best_weights(0)
        worst = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
        assert worst <= 1e-5
        moved = Stack(bank.train.dims, SIZES, [run], tiny, torch.device("cpu")).best_weights(0)
        assert max((theirs[name] - moved[name]).abs().max().item() for name in theirs) > 0.02


def test_one_program_for_all_equals_one_per_use_of_attention(bank, tiny, monkeypatch):
    apart = run_steps(bank, tiny, MIXED, 20)
    monkeypatch.setattr(Stack, "_pieces", lambda stack: [stack.runs])
    together = run_steps(bank, tiny, MIXED, 20)  # as on CUDA
    assert (apart.parameters - together.parameters).abs().max().item() <= 1e-5


def test_a_run_equals_a_model_built_without_the_other_heads(bank, tiny):
    run = MIXED[3]
    masked = run_steps(bank, tiny, [run], 50)
    small = run_steps(bank, tiny, [run], 50, {"AU": 12, "EXPR": 7})
    ours, theirs = masked.best_weights(0), small.best_weights(0)
    assert max((ours[name] - theirs[name]).abs().max().item() for name in theirs) <= 1e-5


def test_a_masked_task_has_exactly_zero_gradient(bank, tiny):
    stack = run_steps(bank, tiny, MIXED, 3)
    stack.best = stack.first_moment  # zero if and only if no gradient ever came
    for row, run in enumerate(MIXED):
        for name, moment in stack.best_weights(row).items():
            if name.startswith("heads.linear."):
                assert bool(moment.any()) == (name.split(".")[2] in run.tasks), (run.name, name)
            if name.startswith("attention."):
                off = any(f".{task}." in name and task not in run.tasks for task in SIZES)
                assert not (moment.any() and (off or not run.attention)), (run.name, name)


def test_a_replica_that_diverges_leaves_the_others_bit_for_bit_as_they_were(bank, tiny):
    def spoil(stack, step):
        if step == 7:
            stack.parameters[2, 5] = torch.nan

    clean, spoilt = run_steps(bank, tiny, MIXED, 20), run_steps(bank, tiny, MIXED, 20, spoil=spoil)
    others = [0, 1, 3, 4]
    assert torch.equal(clean.parameters[others], spoilt.parameters[others])
    assert spoilt.alive.tolist() == [True, True, False, True, True]
    assert spoilt.steps.squeeze(1).tolist() == [20, 20, 7, 20, 20]


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_a_replica_that_diverges_keeps_the_parameters_it_had(bank, tiny, optimizer):
    def spoil(stack, step):
        if step == 7:
            stack.lr[2] = torch.inf  # its parameters overflow in this step, its loss in the next

    spoilt = run_steps(bank, replace(tiny, optimizer=optimizer), MIXED, 12, spoil=spoil)
    assert spoilt.steps.squeeze(1).tolist()[2] == 8
    assert bool(torch.isfinite(spoilt.first_moment).all())


def test_a_minibatch_without_a_label_leaves_the_replica_untouched(bank, tiny):
    stack = run_steps(bank, tiny, MIXED, 5)
    before = [
        stack.parameters.clone(),
        stack.first_moment.clone(),
        stack.second_moment.clone(),
        stack.steps.clone(),
    ]
    windows = cut(bank.train.offsets, tiny.window, tiny.hop)
    batch = gather(bank.train, windows, epoch_order(len(windows), 0, 0)[:2], scaled(bank.train))
    targets = gather_targets(bank.train, batch.rows, batch.usable(), SIZES)
    target = objective(bank.train, bank.label_spec, tiny)
    has_label = torch.tensor([True, False, True, False, True])
    stack.step(batch.features, batch.mask, targets, target, has_label, 1.0)
    after = [stack.parameters, stack.first_moment, stack.second_moment, stack.steps]
    for old, new in zip(before, after, strict=True):
        assert [torch.equal(old[row], new[row]) for row in range(5)] == (~has_label).tolist()


@pytest.mark.parametrize(("name", "torchs"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimiser_equals_torch(tiny, name, torchs):
    run = Run(("V",), lr=1e-2, weight_decay=0.1)
    stack = Stack({"face": 6}, {"V": 1}, [run], replace(tiny, optimizer=name), torch.device("cpu"))
    reference = torch.nn.Parameter(stack.parameters[0].clone())
    optimiser = torchs([reference], lr=1e-2, weight_decay=0.1)
    for seed in range(20):
        reference.grad = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
        stack._update(reference.grad[None].clone(), torch.ones(1, 1), 1.0)
        optimiser.step()
    torch.testing.assert_close(stack.parameters[0], reference.data)


def test_each_replica_cuts_its_rate_where_torchs_plateau_schedule_does(tiny):
    runs = [Run(("V",), lr=lr) for lr in (1e-2, 1e-3, 1e-5, 1e-7)]
    training = replace(tiny, schedule="plateau", plateau_patience=2, plateau_factor=0.3, plateau_min_lr=1e-6)
    stack = Stack({"face": 6}, {"V": 1}, runs, training, torch.device("cpu"))
    optimisers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=run.lr) for run in runs[:3]]
    schedules = [
        torch.optim.lr_scheduler.ReduceLROnPlateau(each, "max", factor=0.3, patience=2, min_lr=1e-6)
        for each in optimisers
    ]
    random = torch.Generator().manual_seed(0)
    for epoch in range(60):
        scores = torch.rand(4, generator=random, dtype=torch.float64) * 0.5 + epoch / 60 - 0.6
        scores[1] = scores[1] if epoch % 7 else torch.nan
        stack.plateau(scores)
        for schedule, score in zip(schedules, scores.tolist(), strict=False):
            schedule.step(score)
        expected = [each.param_groups[0]["lr"] for each in optimisers]
        assert stack.lr.squeeze(1).tolist() == pytest.approx([*expected, 1e-7], rel=1e-5)
    assert expected != [run.lr for run in runs[:3]]
    stack.keep([0, 2])
    assert len(stack.plateau_waited) == len(stack.plateau_best) == 2


def test_each_replica_is_clipped_by_its_own_norm(bank, tiny):
    loose, tight = (run_steps(bank, replace(tiny, clip_norm=norm), MIXED[:1], 1) for norm in (0.0, 1e-3))
    # After one step the first moment is a tenth of the gradient.
    assert (10 * loose.first_moment).norm().item() > 1e-2
    assert (10 * tight.first_moment).norm().item() == pytest.approx(1e-3, rel=1e-4)
