"""Fused convolutions: which ones, and that nothing else changes.

Backbones are compared in test_backbone_parity.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from extract.onednn import fuse

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


class Net(nn.Module):
    """Convolutions of all sorts, put together by a function."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False)
        self.same = nn.Conv2d(8, 8, 3, padding="same")
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.pointwise = nn.Conv2d(8, 1, 1)
        self.relu, self.identity, self.pool = nn.ReLU(inplace=True), nn.Identity(), nn.MaxPool2d(2)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def later(net, x):
    a = net.one(x)
    return (net.two(net.grouped(a)) + a) * a


def relu_later(net, x):
    a = net.two(net.one(x))
    return functional.relu(a) + a


def shared(net, x):
    a = net.one(x)
    return net.two(a) + net.two(a) * 2


def block(net, x):
    """A residual block: what goes past it is read before the sum alone."""
    a = net.relu(net.one(x))
    return net.relu(net.two(net.relu(net.grouped(a))) + a)


def pooled_block(net, x):
    a = net.pool(net.one(x))
    return net.two(net.relu(net.grouped(a))) + a


def viewed(net, x):
    a = net.one(x)
    view = a.flatten(2)
    return (net.two(net.grouped(a)) + a).sum() + view


def overwritten(net, x):
    a = net.one(x)
    b = net.two(a)
    return b + net.relu(a)


# What is computed, and how many convolutions take something along.
CASES = {
    "a ReLU as a module, behind an Identity": (lambda net, x: net.relu(net.identity(net.one(x))), 1),
    "a ReLU as a function": (lambda net, x: torch.relu(net.grouped(functional.relu(net.one(x)))), 2),
    "a residual block": (block, 3),
    "a pooled map, read before the sum": (pooled_block, 2),
    "a sum alone": (lambda net, x: net.identity(net.two(net.grouped(a := net.one(x)))) + a, 1),
    "a sum the other way round": (lambda net, x: torch.add(a := net.one(x), net.two(net.grouped(a))), 1),
    "a sum of two convolutions": (lambda net, x: net.relu(net.two(a := net.one(x)) + net.grouped(a)), 1),
    "the same weights twice": (lambda net, x: net.relu(net.one(x)) + net.relu(net.one(x.flip(3))), 2),
    "nothing behind it": (lambda net, x: net.two(net.one(x)), 0),
    "a sum with its own input": (lambda net, x: net.grouped(a := net.one(x)) + a, 0),
    "a sum whose other summand is read later": (later, 0),
    "a map that somebody else reads too": (relu_later, 0),
    "a summand scaled on the way": (lambda net, x: torch.add(net.one(x), net.one(x.flip(3)), alpha=2), 0),
    "a sum with itself": (lambda net, x: (a := net.one(x)) + a, 0),
    "a sum with the input": (lambda net, x: net.one(x)[:, :4] + x, 0),
    "a sum with a number": (lambda net, x: net.one(x) + 1, 0),
    "a view of the other summand is read later": (viewed, 0),
    "what the convolution reads is overwritten before the sum": (overwritten, 0),
    "weights read by a sum and a product": (shared, 0),
    "padding by name, and mirrored": (
        lambda net, x: net.relu(net.mirrored(net.relu(net.same(net.one(x))))),
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_a_fused_network_computes_the_same_and_leaves_its_input_alone(case):
    function, count = CASES[case]
    net = Net(function).eval()
    fused = fuse(net)
    taken = [name for name, _ in fused.named_children() if name.startswith("fused_")]
    assert len(taken) == count
    for memory in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(3, 4, 12, 12).contiguous(memory_format=memory)
        before = x.clone()
        torch.testing.assert_close(fused(x), net(x), rtol=1e-5, atol=1e-5)
        assert torch.equal(x, before)


def test_a_sum_that_spreads_one_map_over_another_is_refused_not_computed_wrongly():
    net = Net(lambda net, x: net.one(x) + net.pointwise(net.two(net.one(x))))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="same shape"):
        fuse(net)(torch.randn(1, 4, 12, 12))
