"""Ways to compute the training step of R stacked TCNs, side by side.

Not a test and not the product: what won is in ``temporal``, what lost is here to be measured again.

    python benchmarks/kernels.py [--size demo|narrow|seed] [--replicas 1 8 33] [--rounds 5] [--threads 2]
                                 [--compile] [--only WAY...]

Every way computes the same trunk from the same stacked weights: projection or first convolution from D, four
dilated residual levels, weight norm, LeakyReLU. Parity of outputs and gradients with the loop over replicas
comes first, in float64 (bf16: told, not required). Prints one JSON document: milliseconds of forward and
backward per replica, and of the optimiser's step, as medians over interleaved rounds; speeds relative to the
loop, by CPU time, which a neighbour on the machine disturbs less (with one thread: hardly).
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT, HERE = Path(__file__).resolve().parent.parent, Path(__file__).resolve().parent
sys.path = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != HERE)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.func import functional_call  # noqa: E402

from temporal.models.tcn import TCN  # noqa: E402
from temporal.settings import Run, Training  # noqa: E402
from temporal.train.fused import Stack  # noqa: E402

LEVELS, TAPS, SLOPE, BATCH = 4, 5, 0.01, 8
Weights = dict[str, Tensor]
"""Name in ``TCN``, or ``projection.weight`` or ``projection.bias``, to (R, ...)."""


@dataclass(frozen=True)
class Size:
    """Shapes: features D, channels of the projection (0 = none) and of the TCN, frames of a window."""

    dim: int
    projection: int
    channels: int
    window: int


SIZES = {"demo": Size(2048, 64, 64, 64), "narrow": Size(512, 64, 64, 64), "seed": Size(2048, 0, 128, 300)}


def told(text: str) -> None:
    """Says on stderr what is being measured; stdout is for the document alone."""
    print(text, file=sys.stderr, flush=True)


def drawn(size: Size, replicas: int) -> tuple[Tensor, Weights]:
    """Returns a minibatch (B, T, D) and stacked weights."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int, fan: int) -> Tensor:
        return torch.randn(replicas, *shape, generator=random) / math.sqrt(fan)

    weights: Weights = {}
    if size.projection:
        weights["projection.weight"] = normal(size.projection, size.dim, fan=size.dim)
        weights["projection.bias"] = normal(size.projection, fan=100)
    tcn = TCN(size.projection or size.dim, [size.channels] * LEVELS, TAPS)
    for name, parameter in tcn.named_parameters():
        weights[name] = normal(*parameter.shape, fan=max(parameter[0].numel(), 100))
        if name.endswith("magnitude"):
            weights[name] = weights[name].abs() + 1.0
    return torch.randn(BATCH, size.window, size.dim, generator=random), weights


def dense(x: Tensor, weights: Weights) -> Tensor:
    """Returns the projections of all replicas (R, B, T, P) as one product."""
    weight, bias = weights["projection.weight"], weights["projection.bias"]
    return F.linear(x, weight.flatten(0, 1), bias.flatten()).view(*x.shape[:2], *bias.shape).movedim(2, 0)


def normed(weights: Weights, name: str) -> Tensor:
    """Returns the weight-normed kernel (R, C_out, C_in, k) of a convolution."""
    direction = weights[f"{name}.direction"]
    return direction * (weights[f"{name}.magnitude"] / direction.norm(dim=(2, 3), keepdim=True))


Conv = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Maps what a way calls activations, kernel (R, C, C, k), bias (R, C) and dilation to activations."""


def trunk(
    h: Tensor, weights: Weights, conv: Conv, first: Conv | None = None, skip: Conv | None = None
) -> Tensor:
    """Returns the residual levels over ``h``, laid out as for ``conv``; ``first``, ``skip`` start from D."""
    for level in range(LEVELS):
        block, dilation = f"blocks.{level}", 2**level
        start = first if first is not None and level == 0 else conv
        y = F.leaky_relu(
            start(h, normed(weights, f"{block}.conv1"), weights[f"{block}.conv1.bias"], dilation), SLOPE
        )
        y = F.leaky_relu(
            conv(y, normed(weights, f"{block}.conv2"), weights[f"{block}.conv2.bias"], dilation), SLOPE
        )
        if f"{block}.skip.weight" in weights:
            assert skip is not None
            h = skip(h, weights[f"{block}.skip.weight"], weights[f"{block}.skip.bias"], 1)
        h = F.leaky_relu(y + h, SLOPE)
    return h


# Each way maps (x (B, T, D), weights) to (R, B, C, T).


def loop(x: Tensor, weights: Weights) -> Tensor:
    """One replica after the other, as a sequential sweep does."""
    outputs = []
    for row in range(len(weights["blocks.0.conv1.bias"])):
        own = {name: weight[row] for name, weight in weights.items()}
        h = x
        if "projection.weight" in own:
            h = F.linear(x, own["projection.weight"], own["projection.bias"])
        tcn = {name: value for name, value in own.items() if not name.startswith("projection")}
        outputs.append(functional_call(module(own), tcn, (h.transpose(1, 2),)))
    return torch.stack(outputs)


def module(own: Weights) -> TCN:
    """Returns the TCN of the shapes of ``own``, from the cache."""
    key = tuple(own["blocks.0.conv1.direction"].shape)
    if key not in MODULES:
        MODULES[key] = TCN(key[1], [key[0]] * LEVELS, TAPS)
    return MODULES[key]


MODULES: dict[tuple[int, ...], TCN] = {}


def vmapped(x: Tensor, weights: Weights) -> Tensor:
    """``torch.vmap`` over the module, projections as one product: what ``temporal.train.fused`` does."""
    tcn = {name: value for name, value in weights.items() if not name.startswith("projection")}
    network = module({name: value[0] for name, value in weights.items()})

    def one(own: Weights, h: Tensor) -> Tensor:
        return functional_call(network, own, (h.transpose(1, 2),))

    if "projection.weight" in weights:
        return torch.vmap(one)(tcn, dense(x, weights))
    return torch.vmap(one, in_dims=(0, None))(tcn, x)


def first_layers(x: Tensor) -> tuple[Conv, Conv]:
    """Returns first convolution and skip from (B, D, T), as dense convolutions to (B, R C, T)."""

    def first(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        return F.conv1d(h, kernel.flatten(0, 1), bias.flatten(), padding=TAPS - 1)[..., : x.shape[1]]

    def skip(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        return F.conv1d(h, kernel.flatten(0, 1), bias.flatten())

    return first, skip


def grouped(x: Tensor, weights: Weights, *, pad: bool = False) -> Tensor:
    """Explicit grouped convolution over (B, R C, T); ``pad`` copies the input instead of dropping a tail."""
    replicas, frames = len(weights["blocks.0.conv1.bias"]), x.shape[1]

    def conv(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        span, kernel = (TAPS - 1) * dilation, kernel.flatten(0, 1)
        if pad:
            return F.conv1d(F.pad(h, (span, 0)), kernel, bias.flatten(), dilation=dilation, groups=replicas)
        h = F.conv1d(h, kernel, bias.flatten(), padding=span, dilation=dilation, groups=replicas)
        return h[..., :frames]

    if "projection.weight" in weights:
        h = dense(x, weights).permute(1, 0, 3, 2).flatten(1, 2)
        h = trunk(h, weights, conv)
    else:
        h = trunk(x.transpose(1, 2), weights, conv, *first_layers(x))
    return h.unflatten(1, (replicas, -1)).movedim(1, 0)


def channels_last(x: Tensor, weights: Weights) -> Tensor:
    """Grouped convolution over (B, R C, 1, T) in channels-last memory, which the projection writes anyway."""
    replicas, frames = len(weights["blocks.0.conv1.bias"]), x.shape[1]

    def conv(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        kernel = kernel.flatten(0, 1).unsqueeze(2)
        span = (kernel.shape[-1] - 1) * dilation
        groups = 1 if kernel.shape[1] == x.shape[2] else replicas
        h = F.conv2d(h, kernel, bias.flatten(), padding=(0, span), dilation=(1, dilation), groups=groups)
        return h[..., :frames]

    if "projection.weight" in weights:
        weight, bias = weights["projection.weight"].flatten(0, 1), weights["projection.bias"].flatten()
        h = F.linear(x, weight, bias).transpose(1, 2).unsqueeze(2)
        h = trunk(h, weights, conv)
    else:
        h = trunk(x.transpose(1, 2).unsqueeze(2), weights, conv, conv, conv)
    return h.squeeze(2).unflatten(1, (replicas, -1)).movedim(1, 0)


def matrices(x: Tensor, weights: Weights, *, columns: bool) -> Tensor:
    """Products over (R, B, T, C): k shifted ``baddbmm``, or one over the gathered columns (im2col)."""
    replicas, (batch, frames, _) = len(weights["blocks.0.conv1.bias"]), x.shape

    def conv(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        span = (TAPS - 1) * dilation
        padded = F.pad(h, (0, 0, span, 0))
        taps = [padded[:, :, tap * dilation : tap * dilation + frames] for tap in range(TAPS)]
        if columns:
            rows = torch.cat(taps, -1).flatten(1, 2)
            out = torch.baddbmm(bias.unsqueeze(1), rows, kernel.permute(0, 3, 2, 1).flatten(1, 2))
        else:
            out = bias.unsqueeze(1)
            for tap, rows in enumerate(taps):
                out = torch.baddbmm(out, rows.flatten(1, 2), kernel[..., tap].transpose(1, 2))
        return out.unflatten(1, (batch, frames))

    def first(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        # One product for all taps and replicas; the taps are shifted and added afterwards, where it is small.
        product = F.linear(h, kernel.permute(3, 0, 1, 2).flatten(0, 2)).unflatten(-1, (TAPS, replicas, -1))
        padded = F.pad(product, (0, 0, 0, 0, 0, 0, TAPS - 1, 0))
        out = sum(padded[:, tap : tap + frames, tap] for tap in range(TAPS))
        return (out + bias).movedim(2, 0)

    def skip(h: Tensor, kernel: Tensor, bias: Tensor, dilation: int) -> Tensor:
        out = F.linear(h, kernel.flatten(0, 1).squeeze(-1), bias.flatten())
        return out.unflatten(-1, (replicas, -1)).movedim(2, 0)

    if "projection.weight" in weights:
        h = trunk(dense(x, weights), weights, conv)
    else:
        h = trunk(x, weights, conv, first, skip)
    return h.transpose(2, 3)


def in_blocks(x: Tensor, weights: Weights, rows: int = 8) -> Tensor:
    """``vmapped`` over a few replicas at a time, so that activations stay in the cache."""
    replicas = len(weights["blocks.0.conv1.bias"])
    parts = [
        vmapped(x, {name: value[first : first + rows] for name, value in weights.items()})
        for first in range(0, replicas, rows)
    ]
    return torch.cat(parts)


def half(x: Tensor, weights: Weights) -> Tensor:
    """``grouped`` under bf16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        return grouped(x, weights).float()


WAYS: dict[str, Callable[[Tensor, Weights], Tensor]] = {
    "loop over replicas": loop,
    "vmap over conv1d": vmapped,
    "vmap, 8 replicas at a time": in_blocks,
    "grouped conv1d": grouped,
    "grouped conv1d, padded copy": lambda x, weights: grouped(x, weights, pad=True),
    "grouped conv, channels last": channels_last,
    "shifted baddbmm": lambda x, weights: matrices(x, weights, columns=False),
    "im2col and bmm": lambda x, weights: matrices(x, weights, columns=True),
    "grouped conv1d, bf16 autocast": half,
}
REFERENCE, INEXACT = "loop over replicas", ("grouped conv1d, bf16 autocast",)


def gradients(
    way: Callable[[Tensor, Weights], Tensor], x: Tensor, weights: Weights
) -> tuple[Tensor, list[Tensor]]:
    """Returns output and gradients of its mean square, summed over replicas."""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    output = way(x, leaves)
    loss = output.square().flatten(1).mean(1).sum()
    return output.detach(), list(torch.autograd.grad(loss, list(leaves.values())))


def apart(found: tuple[Tensor, list[Tensor]], reference: tuple[Tensor, list[Tensor]]) -> float:
    """Returns the largest difference, relative to the largest value of each tensor."""
    pairs = zip([found[0], *found[1]], [reference[0], *reference[1]], strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


def optimisers(weights: Weights) -> dict[str, Callable[[], Any]]:
    """Returns the optimiser's step alone: of the stack, and of torch for one model after the other."""
    flat = torch.cat([value.flatten(1) for value in weights.values()], 1)
    replicas = len(flat)
    runs = [Run(("V",)) for _ in range(replicas)]
    stack = Stack(4, {"V": 1}, runs, Training(channels=1, levels=1), torch.device("cpu"))
    stack.parameters, gradient = flat.clone(), torch.randn_like(flat)
    stack.first_moment, stack.second_moment = torch.zeros_like(flat), torch.zeros_like(flat)
    everyone = torch.ones(replicas, 1)
    ways: dict[str, Callable[[], Any]] = {
        "AdamW of the stack": lambda: stack._update(gradient, everyone, 1.0)
    }
    for kind in ("fused", "foreach"):
        each = []
        for row in range(replicas):
            parameters = [torch.nn.Parameter(value[row].clone()) for value in weights.values()]
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            each.append(torch.optim.AdamW(parameters, **{kind: True}))
        ways[f"torch AdamW, {kind}, one model after the other"] = lambda each=each: [a.step() for a in each]
    return ways


def measured(ways: dict[str, Callable[[], Any]], rounds: int, replicas: int) -> dict[str, dict[str, float]]:
    """Returns medians over interleaved rounds, in milliseconds per replica, of wall clock and CPU time."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began, used = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first is a warm-up
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - used)
    scale = 1e3 / replicas
    return {
        name: {
            "wall": round(scale * statistics.median(wall[name]), 3),
            "cpu": round(scale * statistics.median(cpu[name]), 3),
            "least_cpu": round(scale * min(cpu[name]), 3),
        }
        for name in ways
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SIZES), default="demo")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 33])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile too: needs a C++ compiler, minutes"
    )
    parser.add_argument("--only", nargs="+", choices=list(WAYS))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    size = SIZES[chosen.size]
    names = [name for name in WAYS if not chosen.only or name in (*chosen.only, REFERENCE)]
    found: dict[str, Any] = {}
    for replicas in chosen.replicas:
        told(f"R = {replicas}")
        x, weights = drawn(size, replicas)
        ways = {name: WAYS[name] for name in names}
        exact = x.double(), {name: value.double() for name, value in weights.items()}
        reference = gradients(WAYS[REFERENCE], *exact)
        parity = {
            name: apart(gradients(way, *(exact if name not in INEXACT else (x, weights))), reference)
            for name, way in ways.items()
        }
        for name, difference in parity.items():
            if name not in INEXACT and not difference < 1e-9:
                sys.exit(f"{name} differs from the loop by {difference} at R = {replicas}")
        compiling = {}
        if chosen.compile:
            compiled, began = torch.compile(grouped, dynamic=False), time.perf_counter()
            gradients(compiled, x, weights)
            compiling = {"seconds to compile": round(time.perf_counter() - began, 1)}
            ways["grouped conv1d, torch.compile"] = compiled
        steps = {name: lambda way=way: gradients(way, x, weights) for name, way in ways.items()}  # noqa: B023
        times = measured(steps, chosen.rounds, replicas)
        found[str(replicas)] = {
            "forward and backward, ms per replica": times,
            "speed of the loop": {
                name: round(times[REFERENCE]["cpu"] / each["cpu"], 3) for name, each in times.items()
            },
            "optimiser, ms per replica": measured(optimisers(weights), chosen.rounds, replicas),
            "parity": parity,
            **compiling,
        }
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "AVX512_BF16": "avx512_bf16" in Path("/proc/cpuinfo").read_text(),
        "load_after": os.getloadavg()[0],
    }
    print(json.dumps({"machine": machine, "size": chosen.size, "replicas": found}, indent=1))


if __name__ == "__main__":
    main()
