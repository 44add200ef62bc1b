"""Lets convolutions on a CPU take along the addition and the ReLU behind them, as oneDNN can.

The same convolutions in the same order, and values as they were up to rounding.

The operators are those that torch's own compiler emits for CPUs (torch/_inductor/mkldnn_ir.py). Calling them
needs no C++ compiler and no quarter of a minute; but they are not documented, so ``extract.forward``
compares a fused network with the plain one before it is used.
"""

import operator
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

_RELU: tuple[Callable[..., Tensor], ...] = (functional.relu, torch.relu)
_ADD: tuple[Callable[..., Tensor], ...] = (operator.add, operator.iadd, torch.add)


def fuse(module: nn.Module) -> nn.Module:
    """Returns what computes the same as ``module`` on a CPU, in float32, with fewer passes over memory.

    A ReLU goes into the convolution before it. An addition does so too where nothing reads the other summand
    afterwards, for the sum takes its place in memory.

    Args:
        module: in eval mode, batch norm folded, of a kind that ``torch.fx`` can trace.
    """
    traced = fx.symbolic_trace(module)
    graph = traced.graph
    for node in list(graph.nodes):
        if _kind(node) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        if _kind(node) is not nn.Conv2d:
            continue
        convolution = cast("nn.Conv2d", traced.get_submodule(str(node.target)))
        if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
            continue
        chain, inputs = [node], [node.args[0]]
        user = _only_user(node)
        if user is not None and user.target in _ADD and (summand := _spare_summand(user, node)):
            chain.append(user)
            inputs.append(summand)
            user = _only_user(user)
        place = chain[-1]
        rectified = user is not None and (_kind(user) is nn.ReLU or user.target in _RELU)
        if rectified:
            chain.append(user)
        if len(chain) == 1:
            continue
        name = f"fused_{node.name}"
        traced.add_submodule(name, _Convolution(convolution, rectified=rectified))
        with graph.inserting_before(place):
            fused = graph.call_module(name, tuple(inputs))
        chain[-1].replace_all_uses_with(fused)
        for gone in reversed(chain):
            graph.erase_node(gone)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _kind(node: fx.Node) -> type[nn.Module] | None:
    """Of a module that is called."""
    if node.op != "call_module":
        return None
    owner = cast("fx.GraphModule", node.graph.owning_module)
    return type(owner.get_submodule(str(node.target)))


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _spare_summand(addition: fx.Node, convolution: fx.Node) -> fx.Node | None:
    """The other summand, if its memory can be had: a map that is read before the addition alone.

    The convolution is put off until the addition: it must not read that map, or it would read its own sums,
    and nothing in between may write to what it reads.
    """
    others = [node for node in addition.all_input_nodes if node is not convolution]
    if addition.kwargs or len(others) != 1 or _kind(others[0]) not in _NEW:
        return None
    (summand,) = others
    order = list(addition.graph.nodes)
    before = order[: order.index(addition)]
    readers = [user for user in summand.users if user is not addition]
    read = all(user in before and user is not convolution and _kind(user) in _NEW for user in readers)
    passed = before[before.index(convolution) :]
    return summand if read and all(_kind(node) in _NEW for node in passed) else None


class _Convolution(nn.Module):
    """A convolution with what follows it, its weights packed as oneDNN reads them."""

    def __init__(self, convolution: nn.Conv2d, *, rectified: bool) -> None:
        super().__init__()
        self.shape = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(convolution.weight.detach(), *self.shape)
        self.bias = convolution.bias
        self.rectified = rectified

    def forward(self, images: Tensor, summand: Tensor | None = None) -> Tensor:
        """Returns the map, added to ``summand``, whose memory it takes."""
        arguments = (self.weight, self.bias, *self.shape)
        if summand is None:
            after = "relu" if self.rectified else "none"
            result = torch.ops.mkldnn._convolution_pointwise(images, *arguments, after, [], "")
        else:
            relu = "relu" if self.rectified else None
            add = torch.ops.mkldnn._convolution_pointwise_.binary
            result = add(summand, images, *arguments, "add", 1.0, relu, [], None)
        return cast("Tensor", result)


_NEW = (_Convolution, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
"""Modules whose result never lies in the memory of what they read."""
