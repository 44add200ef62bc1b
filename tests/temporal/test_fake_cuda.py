"""The GPU path of training, rehearsed on tensors without values that say they are on a GPU.

What torch would refuse there (a tensor of the CPU beside one of the GPU, a dtype, a shape) it refuses here.
No kernel runs, and nothing is said of numbers or speed. Autograd does not go backward without a GPU: that
half is rehearsed on torch's ``meta`` device, which has no values either and is no GPU.
"""

from dataclasses import replace

import pytest
import torch
from conftest import plain, with_features
from tiny_stacks import RUNS, SIZES, TINY
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from temporal.data.minibatch import minibatches
from temporal.data.windows import batches, cut, epoch_order
from temporal.inference import frames
from temporal.settings import ATTENTIONS, MODELS
from temporal.train.fused import Stack
from temporal.train.targets import gather_targets, objective

CUDA = torch.device("cuda", 0)


def moved(split, device):
    labels = {name: values.to(device) for name, values in split.labels.items()}
    face = split.streams["face"]
    return replace(with_features(split, face.features.to(device), face.valid.to(device)), labels=labels)


@pytest.fixture
def pretended(monkeypatch):
    """Whatever is made while this lasts has no values, and gradients are zeros."""
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, parameters: (torch.zeros_like(parameters),))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
        assert isinstance(torch.zeros(1, device=CUDA), FakeTensor)


def step_and_predict(bank, training, device):
    """Two epochs of a stack that shrinks, and its predictions: (R, F, K) per task."""
    train, validation = moved(bank.train, device), moved(bank.validation, device)
    stack = Stack(bank.train.dims, SIZES, RUNS, training, device)
    standardise = {"face": plain()["face"].to(device)}
    target = objective(train, bank.label_spec, training)
    windows = cut(train.offsets, training.window, training.hop)
    pieces = batches(epoch_order(len(windows), 0, 1), training.batch_size)
    for staying in ([0, 1, 2], [0, 2]):
        stack.keep(staying)
        for batch in minibatches(train, windows, pieces, standardise):
            targets = gather_targets(train, batch.rows, batch.usable(), SIZES)
            everyone = torch.ones(len(stack), dtype=torch.bool, device=device)
            report = stack.step(batch.features, batch.mask, targets, target, everyone, 0.5)
            assert (report.losses.device, report.finite.device) == (device, device)
        stack.remember([1])
        stack.plateau(torch.tensor([0.1] * len(stack)))
    for name, tensor in stack.state().items():
        assert tensor.device == (torch.device("cpu") if name == "dropout_streams" else device), name
        assert len(tensor) == len(stack)
    windows = cut(validation.offsets, training.window, training.hop)
    parameters = stack.parameters
    return frames.predict(
        lambda features, mask: stack.forward(parameters, features, mask), validation, windows, standardise, 4
    )


# Each model and each attention once: test_model_stacks has all pairs, with numbers.
# Each model and each attention: test_model_stacks has all pairs, with numbers.
PAIRS = sorted({(model, "cross_task") for model in MODELS} | {("tcn", kind) for kind in ATTENTIONS})
every = pytest.mark.parametrize(("model", "kind"), PAIRS)


@every
def test_a_stack_steps_and_predicts_with_everything_on_the_gpu(model, kind, bank, pretended):
    values = step_and_predict(bank, replace(TINY, model=model, attention=kind), CUDA)
    for task, size in SIZES.items():
        assert values[task].shape == (2, bank.validation.frames, size)
        assert values[task].device == CUDA


@every
def test_gradients_go_backward_where_everything_is_on_another_device(model, kind, bank):
    values = step_and_predict(bank, replace(TINY, model=model, attention=kind), torch.device("meta"))
    assert {value.device.type for value in values.values()} == {"meta"}


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"precision": "tf32"},
        {"optimizer": "adam", "schedule": "plateau"},
        {"projection": 0},
        {"clip_norm": 0.0},
    ],
    ids=str,
)
def test_other_settings_keep_everything_on_the_gpu_too(changes, bank, pretended):
    values = step_and_predict(bank, replace(TINY, **changes), CUDA)
    assert {value.device for value in values.values()} == {CUDA}


def test_a_forgotten_tensor_of_the_cpu_is_noticed(bank, pretended):
    """What makes the tests above worth something."""
    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        step_and_predict(
            replace(bank, train=replace(bank.train, weight=torch.ones(bank.train.frames))), TINY, CUDA
        )
