"""Transformer encoder over the frames of a window: pre-norm layers, rotary positions, causal or not.

The layer is that of Vaswani et al. (2017) with the norms before its two parts (Xiong et al. 2020, "On layer
normalization in the transformer architecture") and GELU. Positions turn queries and keys (Su et al. 2021,
"RoFormer"), so that attention depends on how far apart two frames are, not on where the window was cut.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from temporal.models.batching import merge, split
from temporal.models.trunk import Trunk
from temporal.settings import Training

WIDENING = 4
"""Hidden channels of a layer's per-frame part, in channels of the layer."""
ROTATION_BASE = 10_000.0


class FrameAttention(torch.autograd.Function):
    """``attend``, with a rule for stacked replicas: they are more windows to the same kernel.

    Torch has no batching rule for that kernel and would call it once per replica. The backward pass computes
    the forward again, so that no (T, T) matrix is kept.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None, causal: bool) -> Tensor:  # noqa: FBT001
        """See ``attend``."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep, is_causal=causal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps what the backward pass needs."""
        *tensors, ctx.causal = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of queries, keys and values."""
        *tensors, keep = ctx.saved_tensors
        with torch.enable_grad():
            q, k, v = (tensor.detach().requires_grad_() for tensor in tensors)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, is_causal=ctx.causal)
        return *torch.autograd.grad(y, (q, k, v), gradient), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Merges the replicas into the batch."""
        *tensors, causal = inputs
        merged = [
            None if x is None else merge(x, axis, info.batch_size)
            for x, axis in zip(tensors, in_dims[:-1], strict=True)
        ]
        return split(FrameAttention.apply(*merged, causal), info.batch_size), 0


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Returns ``softmax(q k^T / sqrt(E)) v`` over the frames that a frame may see.

    Args:
        q: (B, H, T, E) float32, as k and v.
        k: keys.
        v: values.
        mask: (B, T) float32, 0 on the padding at the end of a window; None where nothing is padded.
        causal: a frame sees itself and earlier ones, which padding never is.

    Returns:
        (B, H, T, E). Differentiable once.
    """
    keep = None if mask is None or causal else (mask > 0)[:, None, None, :]
    y: Tensor = FrameAttention.apply(q, k, v, keep, causal)
    return y


def rotation(frames: int, width: int, like: Tensor) -> Tensor:
    """Returns (2, T, width / 2): cosine and sine of the angle of every frame and every pair of channels."""
    # In float32 at least: bfloat16 has not even a number for every frame beyond the 256th.
    dtype = torch.promote_types(like.dtype, torch.float32)
    pairs = torch.arange(width // 2, device=like.device, dtype=dtype)
    frequency = ROTATION_BASE ** (-2.0 * pairs / width)
    angle = torch.arange(frames, device=like.device, dtype=dtype).unsqueeze(1) * frequency
    return torch.stack([angle.cos(), angle.sin()]).to(like.dtype)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turns the pairs (x_i, x_{i + E/2}) of x (B, H, T, E) by the angles of ``rotation``."""
    a, b = x.chunk(2, dim=-1)
    cosine, sine = turn
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)


class Layer(nn.Module):
    """Self-attention and a per-frame part, each on the normalised input and added to it.

    The products that make queries, keys and values have no bias: softmax does not see that of the keys, and
    that of the values is one with the output's.
    """

    def __init__(self, channels: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, WIDENING * channels)
        self.narrow = nn.Linear(WIDENING * channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None, turn: Tensor | None, dropout: Tensor | None) -> Tensor:
        """Maps (B, T, C) to the same; ``turn`` as of ``rotation``, ``dropout`` (2, B, 1, C)."""
        q, k, v = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, self.heads, -1).transpose(1, 3).unbind(2)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        seen = self.out(attend(q, k, v, mask, causal=self.causal).transpose(1, 2).flatten(2))
        x = x + (seen if dropout is None else seen * dropout[0])
        found = self.narrow(F.gelu(self.widen(self.norm2(x))))
        y: Tensor = x + (found if dropout is None else found * dropout[1])
        return y


class Transformer(Trunk):
    """Encoder layers and a last norm, after a linear layer where the input has another width.

    Args:
        channels_in: input channels.
        channels: channels C of every layer.
        levels: layers.
        heads: attention heads, whose width C / heads must be even: rotations turn pairs of channels.
        causal: no frame sees a later one.
    """

    def __init__(self, channels_in: int, channels: int, levels: int, heads: int, *, causal: bool) -> None:
        super().__init__(channels, (2 * levels, channels))
        self.entry = nn.Linear(channels_in, channels) if channels_in != channels else None
        self.layers = nn.ModuleList(Layer(channels, heads, causal=causal) for _ in range(levels))
        self.norm = nn.LayerNorm(channels)
        self.head_width = channels // heads

    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """As every ``Trunk``; what a layer adds is what loses channels."""
        h = x.transpose(1, 2)
        if self.entry is not None:
            h = self.entry(h)
        turn = rotation(h.shape[1], self.head_width, h)
        for level, layer in enumerate(self.layers):
            h = layer(h, mask, turn, None if dropout is None else dropout[2 * level : 2 * level + 2, :, None])
        normed: Tensor = self.norm(h)
        return normed.transpose(1, 2)


def transformer(channels_in: int, training: Training) -> Transformer:
    """The encoder of this module."""
    return Transformer(
        channels_in, training.channels, training.levels, training.attention_heads, causal=training.causal
    )
