import pytest
import torch

from temporal.models import MultiTaskAttention, Network, initialise

SIZES = {"V": 1, "A": 1, "AU": 3, "EXPR": 4}


def network(sizes=SIZES, *, attention=True, seed=0):
    model = Network(
        6, sizes, channels=5, levels=2, kernel_size=3, projection=4, causal=True, attention=attention
    )
    initialise(model, seed)
    return model


def active(*names):
    return torch.tensor([name in names for name in SIZES])


def test_attention_follows_its_equations():
    attention = MultiTaskAttention(5, tuple(SIZES))
    h = torch.randn(2, 5, 7)
    x = h.transpose(1, 2)
    for names in (["V", "A", "AU", "EXPR"], ["A", "EXPR"], ["V", "AU"]):
        a = torch.tanh(attention.summary(x))
        for name in names[1:]:
            a = a * torch.sigmoid(attention.gates[name](x))
        scores = torch.cat([attention.score[name](a) for name in names], dim=-1)
        expected = torch.softmax(scores, dim=-1).transpose(1, 2)
        alpha = attention(h, active(*names))
        torch.testing.assert_close(alpha[:, active(*names)], expected)
        assert bool((alpha[:, ~active(*names)] == 0).all())


@pytest.mark.parametrize("name", SIZES)
def test_one_active_task_has_weight_exactly_1(name):
    alpha = MultiTaskAttention(5, tuple(SIZES))(torch.randn(2, 5, 7), active(name))
    assert torch.equal(alpha[:, active(name)], torch.ones(2, 1, 7))


@pytest.mark.parametrize("name", SIZES)
def test_every_head_is_gated_by_its_own_column(name):
    model = network()
    features = torch.randn(2, 9, 6)
    h = model.tcn(model.projection(features).transpose(1, 2))
    gate = model.attention(h, active(*SIZES)).detach().requires_grad_()
    logits = model.heads(h, gate)[name]
    (gradient,) = torch.autograd.grad(logits.square().sum(), gate)
    touched = [task for task, column in zip(SIZES, gradient.abs().sum((0, 2)), strict=True) if column > 0]
    assert touched == [name]
    head = model.heads.linear[name]
    own = gate[:, list(SIZES).index(name), :, None]
    torch.testing.assert_close(logits, head(own * h.transpose(1, 2)))


def test_attention_switched_off_equals_a_model_without_attention():
    features = torch.randn(2, 9, 6)
    off = network()(features, None, active("A", "AU"), torch.tensor(False))
    without = network(attention=False)(features)
    for task in SIZES:
        torch.testing.assert_close(off[task], without[task])


@pytest.mark.parametrize("attention", [True, False])
def test_masking_a_task_equals_a_model_built_without_its_head(attention):
    features, kept = torch.randn(2, 9, 6), {"A": 1, "EXPR": 4}
    whole = network(attention=attention)(features, None, active(*kept))
    small = network(kept, attention=attention)(features)
    for task in kept:
        torch.testing.assert_close(whole[task], small[task])


def test_parts_start_from_the_seed_and_their_own_name():
    whole, small, other = network(), network({"A": 1}, attention=False), network(seed=1)
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, whole.get_parameter(name))
        if "bias" not in name:
            assert not torch.equal(parameter, other.get_parameter(name))
