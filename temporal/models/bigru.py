"""Bidirectional GRU over the frames of a window, as recurrences that run side by side.

``nn.GRU`` cannot be mapped over replicas: directions and replicas are one batched matrix product per frame
here.

The recurrence is that of Cho et al. (2014) in the form of ``torch.nn.GRU``. A bidirectional layer and a ReLU
before the heads are the CNN-RNN of the seed project FacialAffect (Deng, Chen and Shi 2020, "Multitask emotion
recognition with incomplete labels"), which has one layer of 64 units per direction for every task: here the
layers are shared, as trunks are. A causal network keeps the forward direction alone, with all the channels.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from temporal.models.batching import merge, split
from temporal.models.trunk import Trunk
from temporal.settings import Training


class Recurrence(torch.autograd.Function):
    """``scan``, with backpropagation through time written out.

    The loop over frames holds what depends on the frame before and nothing else: the backward pass computes
    the gates of all frames again in one product, and sums the gradient of the weights in one more.
    """

    @staticmethod
    def forward(gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """See ``scan``."""
        n, batch, frames, width = gates.shape
        units = width // 3
        states = gates.new_empty(frames, n, batch, units)
        state = gates.new_zeros(n, batch, units)
        weight, bias = weight.transpose(1, 2).contiguous(), bias.unsqueeze(1)
        for frame, given in enumerate(gates.permute(2, 0, 1, 3).contiguous()):
            recurrent = torch.bmm(state, weight)
            reset_update = (given[..., : 2 * units] + recurrent[..., : 2 * units]).sigmoid_()
            reset, update = reset_update[..., :units], reset_update[..., units:]
            candidate = torch.addcmul(given[..., 2 * units :], reset, recurrent[..., 2 * units :] + bias)
            state = torch.lerp(candidate.tanh_(), state, update, out=states[frame])
        return states.permute(1, 2, 0, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keeps what the backward pass needs."""
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of the gates, the weight and the bias."""
        gates, weight, bias, states = ctx.saved_tensors
        frames, units = states.shape[2:]
        before = F.pad(states, (0, 0, 1, 0))[:, :, :-1].permute(2, 0, 1, 3).contiguous()
        given = gates.permute(2, 0, 1, 3)
        recurrent = torch.matmul(before, weight.transpose(1, 2))
        reset_update = torch.sigmoid(given[..., : 2 * units] + recurrent[..., : 2 * units])
        reset, update = reset_update[..., :units], reset_update[..., units:]
        inner = recurrent[..., 2 * units :] + bias.unsqueeze(1)
        candidate = torch.tanh(given[..., 2 * units :] + reset * inner)
        # Derivatives of the new state, and of the candidate by the reset gate, before the gates' activations.
        by_candidate = (1.0 - update) * (1.0 - candidate * candidate)
        by_update = (before - candidate) * update * (1.0 - update)
        by_reset = inner * reset * (1.0 - reset)
        incoming = gradient.permute(2, 0, 1, 3)
        given_gradient = torch.empty_like(recurrent)
        recurrent_gradient = torch.empty_like(recurrent)
        carried = torch.zeros_like(before[0])
        for frame in range(frames - 1, -1, -1):
            total = incoming[frame] + carried
            of_candidate = torch.mul(total, by_candidate[frame], out=given_gradient[frame, ..., 2 * units :])
            row = recurrent_gradient[frame]
            torch.mul(of_candidate, by_reset[frame], out=row[..., :units])
            torch.mul(total, by_update[frame], out=row[..., units : 2 * units])
            torch.mul(of_candidate, reset[frame], out=row[..., 2 * units :])
            carried = torch.baddbmm(total * update[frame], row, weight)
        given_gradient[..., : 2 * units] = recurrent_gradient[..., : 2 * units]
        rows = recurrent_gradient.transpose(0, 1).flatten(1, 2)
        weight_gradient = torch.bmm(rows.transpose(1, 2), before.transpose(0, 1).flatten(1, 2))
        return given_gradient.permute(1, 2, 0, 3), weight_gradient, rows[..., 2 * units :].sum(1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """Replicas are more of the recurrences that run side by side."""
        merged = [merge(x, axis, info.batch_size) for x, axis in zip(inputs, in_dims, strict=True)]
        return split(scan(*merged), info.batch_size), 0


def scan(gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Runs N independent GRUs from a state of zeros, each over its own inputs.

    ``r, z = sigmoid(gates_rz + W_rz h)``, ``c = tanh(gates_c + r * (W_c h + b))``, ``h' = (1 - z) c + z h``.

    Args:
        gates: (N, B, T, 3H): reset gate, update gate and candidate, as far as the input decides them.
        weight: (N, 3H, H) on the state before, in the same order.
        bias: (N, H) of the candidate's share of the state.

    Returns:
        (N, B, T, H) states. Differentiable once.
    """
    states: Tensor = Recurrence.apply(gates, weight, bias)
    return states


def reverse(x: Tensor, mask: Tensor | None) -> Tensor:
    """Turns the frames of every window in x (B, T, C) around, its padding staying at the end."""
    if mask is None:
        return x.flip(1)
    # Counted, not added up: bfloat16 has not even a number for every length beyond 256.
    frames = (mask > 0).sum(1, keepdim=True)
    step = torch.arange(x.shape[1], device=x.device)
    index = torch.where(step < frames, frames - 1 - step, step)
    return torch.take_along_dim(x, index.unsqueeze(-1), dim=1)


class GRULayer(nn.Module):
    """One recurrent layer, in one direction or in both.

    The backward direction reads every window turned around, so it starts at the last frame, not in the
    padding; padding follows the frames in both directions and so never reaches them.
    """

    def __init__(self, channels_in: int, units: int, directions: int) -> None:
        super().__init__()
        self.units = units
        self.directions = directions
        self.input = nn.Linear(channels_in, directions * 3 * units)
        self.weight = nn.Parameter(torch.empty(directions, 3 * units, units))
        self.bias = nn.Parameter(torch.empty(directions, units))
        self.initialise(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draws the recurrent weights as ``nn.GRU`` does; biases are zero."""
        bound = 1.0 / math.sqrt(self.units)
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.zero_()

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Maps (B, T, C_in) to (B, T, directions * H), forward units first."""
        gates = list(self.input(x).chunk(self.directions, dim=-1))
        gates[1:] = [reverse(gate, mask) for gate in gates[1:]]
        states = list(scan(torch.stack(gates), self.weight, self.bias))
        states[1:] = [reverse(state, mask) for state in states[1:]]
        return torch.cat(states, dim=-1)


class BiGRU(Trunk):
    """Recurrent layers, each over the output of the one before, and a ReLU.

    Args:
        channels_in: input channels.
        channels: output channels of each layer, halved between the directions if there are two.
        levels: layers.
        causal: forward direction alone.
    """

    def __init__(self, channels_in: int, channels: int, levels: int, *, causal: bool) -> None:
        super().__init__(channels, (levels, channels))
        directions = 1 if causal else 2
        self.layers = nn.ModuleList(
            GRULayer(channels if level else channels_in, channels // directions, directions)
            for level in range(levels)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """As every ``Trunk``; the output of each layer is what loses channels."""
        h = x.transpose(1, 2)
        for level, layer in enumerate(self.layers):
            h = layer(h, mask)
            if dropout is not None:
                h = h * dropout[level].unsqueeze(1)
        return torch.relu(h).transpose(1, 2)


def bigru(channels_in: int, training: Training) -> BiGRU:
    """The recurrent network of this module."""
    return BiGRU(channels_in, training.channels, training.levels, causal=training.causal)
