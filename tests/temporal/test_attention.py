"""Multi-task attention of every kind: equations, and the promises that all kinds keep."""

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from temporal.models import Heads
from temporal.models.gated import GatedAttention
from temporal.settings import ATTENTIONS, Training

SIZES = {"V": 1, "A": 1, "AU": 3, "EXPR": 4}
C = 6
SUBSETS = [names for size in (1, 2, 3, 4) for names in combinations(SIZES, size)]
ON, OFF = torch.tensor(True), torch.tensor(False)

every_kind = pytest.mark.parametrize("kind", ATTENTIONS)


def active(*names, sizes=SIZES):
    return torch.tensor([name in names for name in sizes])


def parts(kind, sizes=SIZES):
    torch.manual_seed(0)
    training = Training(attention_heads=2)
    return ATTENTIONS[kind].load()(C, sizes, training), Heads(C, sizes)


def channels(batch=2, frames=7):
    return torch.randn(batch, C, frames, generator=torch.Generator().manual_seed(1))


def own_task(name):
    """Returns the task that a parameter belongs to, or None."""
    return next((task for task in SIZES if task in name.split(".")), None)


@pytest.mark.parametrize("width", [1, C])
@pytest.mark.parametrize("names", [["V", "A", "AU", "EXPR"], ["A", "EXPR"], ["V", "AU"]])
def test_gates_follow_their_equations(width, names):
    attention, h = GatedAttention(C, tuple(SIZES), width), channels()
    x = h.transpose(1, 2)
    a = torch.tanh(attention.summary(x))
    for name in names[1:]:
        a = a * torch.sigmoid(attention.gates[name](x))
    scores = torch.stack([attention.score[name](a) for name in names], dim=1)
    expected = torch.softmax(scores, dim=1).transpose(2, 3)
    alpha = attention.weights(h, active(*names))
    torch.testing.assert_close(alpha[:, active(*names)], expected)
    assert bool((alpha[:, ~active(*names)] == 0).all())


@pytest.mark.parametrize("kind", ["scalar", "vector"])
@pytest.mark.parametrize("name", SIZES)
def test_every_head_is_gated_by_its_own_weights(kind, name):
    (attention, heads), h = parts(kind), channels()
    alpha = attention.weights(h, active(*SIZES))
    own = h * alpha[:, list(SIZES).index(name)]
    expected = heads.linear[name](own.transpose(1, 2))
    torch.testing.assert_close(attention(h, active(*SIZES), ON, heads)[name], expected)


@pytest.mark.parametrize("name", SIZES)
def test_one_active_task_has_gates_of_exactly_1(name):
    for width in (1, C):
        alpha = GatedAttention(C, tuple(SIZES), width).weights(channels(), active(name))
        assert torch.equal(alpha[:, active(name)], torch.ones(2, 1, width, 7))


@pytest.mark.parametrize("names", [names for names in SUBSETS if len(names) > 1])
def test_cross_task_attention_equals_torch_attention_over_the_active_tasks_of_each_frame(names):
    (attention, heads), h = parts("cross_task"), channels()
    tokens = torch.stack([F.leaky_relu(attention.tokens[t](h.transpose(1, 2)), 0.01) for t in SIZES], dim=2)
    reference = nn.MultiheadAttention(C, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(attention.qkv.weight)
        reference.in_proj_bias.zero_()
        reference.out_proj.load_state_dict(attention.out.state_dict())
    flat = tokens.flatten(0, 1)
    absent = (~active(*names)).expand(len(flat), -1)
    crossed = reference(flat, flat, flat, key_padding_mask=absent)[0].view_as(tokens)
    found = attention(h, active(*names), ON, heads)
    for name in names:
        expected = heads.linear[name](h.transpose(1, 2) + crossed[:, :, list(SIZES).index(name)])
        torch.testing.assert_close(found[name], expected)


def test_hierarchical_attention_adds_what_the_au_head_found_to_the_expr_branch():
    (attention, heads), h = parts("hierarchical"), channels()
    x = h.transpose(1, 2)
    first, _, second = attention.path
    seen = second(F.leaky_relu(first(torch.sigmoid(heads.linear["AU"](x))), 0.01))
    found = attention(h, active("V", "AU", "EXPR"), ON, heads)
    torch.testing.assert_close(found["EXPR"], heads.linear["EXPR"](x + seen))
    for name in ("V", "A", "AU"):
        torch.testing.assert_close(found[name], heads.linear[name](x))


@every_kind
def test_the_attention_changes_the_logits_where_au_and_expr_are_active(kind):
    (attention, heads), h = parts(kind), channels()
    found = attention(h, active("AU", "EXPR"), ON, heads)
    assert (found["EXPR"] - heads(h, None)["EXPR"]).abs().max() > 1e-3


@every_kind
@pytest.mark.parametrize("name", SIZES)
def test_over_one_task_it_changes_nothing(kind, name):
    (attention, heads), h = parts(kind), channels()
    torch.testing.assert_close(attention(h, active(name), ON, heads)[name], heads(h, None)[name])


@every_kind
@pytest.mark.parametrize("names", SUBSETS)
def test_switched_off_it_changes_nothing_and_has_exactly_zero_gradient(kind, names):
    (attention, heads), h = parts(kind), channels()
    found = attention(h, active(*names), OFF, heads)
    for task, expected in heads(h, None).items():
        torch.testing.assert_close(found[task], expected)
    sum(found[task].square().sum() for task in names).backward()
    assert not any(p.grad is not None and p.grad.any() for p in attention.parameters())


@every_kind
@pytest.mark.parametrize("names", SUBSETS)
def test_an_inactive_task_has_no_influence_and_exactly_zero_gradient(kind, names):
    (attention, heads), h = parts(kind), channels()
    found = attention(h, active(*names), ON, heads)
    sum(found[task].square().sum() for task in names).backward()
    absent = [
        p for module in (attention, heads) for n, p in module.named_parameters()
        if own_task(n) not in (None, *names)
    ]  # fmt: skip
    assert not any(p.grad is not None and p.grad.any() for p in absent)
    with torch.no_grad():
        for parameter in absent:
            parameter.mul_(-1e3).add_(7.0)
    changed = attention(h, active(*names), ON, heads)
    assert all(torch.equal(changed[task], found[task]) for task in names)


@every_kind
@pytest.mark.parametrize("names", SUBSETS)
def test_masking_tasks_equals_attention_built_without_them(kind, names):
    (attention, heads), h = parts(kind), channels()
    sizes = {task: SIZES[task] for task in names}
    small, small_heads = parts(kind, sizes)
    small.load_state_dict({name: attention.state_dict()[name] for name in small.state_dict()})
    small_heads.load_state_dict({name: heads.state_dict()[name] for name in small_heads.state_dict()})
    found = small(h, torch.ones(len(names), dtype=torch.bool), ON, small_heads)
    for task, expected in attention(h, active(*names), ON, heads).items():
        if task in names:
            torch.testing.assert_close(found[task], expected)


@every_kind
def test_a_frame_sees_no_other(kind):
    (attention, heads), h = parts(kind), channels()
    other = h.clone()
    other[..., 3] = 1e4
    found, changed = (attention(x, active(*SIZES), ON, heads) for x in (h, other))
    for task in SIZES:
        differs = (found[task] != changed[task]).any(-1).any(0)
        assert differs.nonzero().flatten().tolist() == [3]
