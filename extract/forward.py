"""Runs batches of crops through a backbone on one device: normalised there, asynchronously where it can."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.backbones.backbone import Backbone
from extract.onednn import fuse
from stores.errors import ConfigError

logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "float16", "bfloat16"]

GATE = 0.9999
"""Least cosine between a crop's features in reduced precision, compiled or fused, and in plain float32."""
GATE_CROPS = 16
FUSED_GATE_CROPS = 2
"""Fused convolutions round alike, so it is their wiring that is looked at, on every run."""


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """Features that may still be on their way from the device.

    Attributes:
        features: (rows, dim) float32, on the CPU.
        wait: waits until they are there, and returns the seconds that the network took.
    """

    features: Tensor
    wait: Callable[[], float]

    def result(self) -> tuple[NDArray[np.float32], float]:
        """(rows, dim) features, and the seconds that the network took; waits for the device."""
        seconds = self.wait()
        return self.features.numpy(), seconds


class Network:
    """A backbone on a device.

    The CPU computes in float32, by fused convolutions where the backbone can be traced, or in bfloat16 by
    autocast on request, twice as fast on processors that have it. On CUDA the default is half precision by
    autocast if the gate lets it pass; float32 there is without TF32, so that it gives what a CPU gives up to
    rounding.
    """

    def __init__(
        self,
        backbone: Backbone,
        device: torch.device,
        precision: Precision = "auto",
        *,
        compiled: bool = False,
    ) -> None:
        """Moves ``backbone`` to ``device`` and passes it through the gate.

        Args:
            backbone: the network; its module is moved.
            device: CPU or CUDA.
            precision: ``auto`` is float32 on the CPU, and on CUDA float16 where the gate lets it pass, else
                float32, which is logged.
            compiled: compile by ``torch.compile``: minutes that pay back on a large corpus.

        Raises:
            ConfigError: float16 on the CPU, or numbers that do not pass the gate.
        """
        self._device = device
        self._plain = backbone.module.to(device)
        self._mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._module: Callable[[Tensor], Tensor] = self._plain
        self.precision: Precision = "float32"
        if device.type == "cpu" and precision == "float16":
            msg = "precision float16 needs a GPU, the CPU computes in float32 or bfloat16: use one of these"
            raise ConfigError(msg)
        if compiled:
            # Frozen weights are packed once, and convolutions include the addition and the ReLU behind them.
            self._module = torch.compile(self._plain, dynamic=False, options={"freezing": True})
        wanted = self._wanted(precision)
        if wanted != "float32" or compiled:
            self._pass_gate(backbone, wanted, strict=precision != "auto" or compiled)
        elif device.type == "cpu" and backbone.traceable and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            self._module = fuse(self._plain)
            self._pass_gate(backbone, wanted, strict=False, crops=FUSED_GATE_CROPS)

    @property
    def compute(self) -> dict[str, str]:
        """What computed the features, for the commit records: device, precision."""
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return {"device": name, "precision": self.precision}

    def start(self, pixels: Tensor, rows: int) -> Pending:
        """Begins a batch; on CUDA it returns as soon as ``pixels`` has been copied and may be overwritten.

        Args:
            pixels: (B, S, S, 3) uint8 RGB, page-locked for CUDA.
            rows: how many of them are wanted.

        Returns:
            Their features, in the order of the rows.
        """
        if self._copies is None:
            began = time.perf_counter()
            features = self._features(pixels)[:rows]
            seconds = time.perf_counter() - began
            return Pending(features, lambda: seconds)
        main = torch.cuda.current_stream(self._device)
        copied, arrived, computing, computed = (_event() for _ in range(4))
        with torch.cuda.stream(self._copies):
            there = pixels.to(self._device, non_blocking=True)
            copied.record(self._copies)
        main.wait_event(copied)
        # The allocator must not give the pixels' memory away while the main stream reads it.
        there.record_stream(main)
        computing.record(main)
        features = self._features(there)[:rows]
        computed.record(main)
        back = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(computed)
            back.copy_(features, non_blocking=True)
            features.record_stream(self._copies)
            arrived.record(self._copies)
        copied.synchronize()

        def wait() -> float:
            arrived.synchronize()
            return float(computing.elapsed_time(computed)) / 1000

        return Pending(back, wait)

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        return self._run(self._module, pixels, self.precision)

    def _run(self, module: Callable[[Tensor], Tensor], pixels: Tensor, precision: Precision) -> Tensor:
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            # NHWC in memory is channels_last: permuting costs nothing.
            images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
            half = precision != "float32"
            with torch.autocast(self._device.type, getattr(torch, precision)) if half else nullcontext():
                features: Tensor = module(images)
            return features.float()

    def _wanted(self, precision: Precision) -> Precision:
        if precision == "auto":
            return "float16" if self._device.type == "cuda" else "float32"
        return precision

    @torch.inference_mode()
    def _pass_gate(
        self, backbone: Backbone, wanted: Precision, *, strict: bool, crops: int = GATE_CROPS
    ) -> None:
        noise = torch.Generator().manual_seed(0)
        size = (crops, backbone.image_size, backbone.image_size, 3)
        pixels = torch.randint(256, size, dtype=torch.uint8, generator=noise).to(self._device)
        plain = self._run(self._plain, pixels, "float32").double()
        fast = self._run(self._module, pixels, wanted).double()
        cosine = float(nn.functional.cosine_similarity(plain, fast).min())
        how = wanted if self._module is self._plain else f"{wanted}, compiled or fused"
        if cosine >= GATE:
            self.precision = wanted
            level = logging.DEBUG if wanted == "float32" else logging.INFO
            logger.log(level, "%s in %s: cosine with plain float32 at least %.6f", backbone.name, how, cosine)
            return
        msg = (
            f"{backbone.name} in {how} has a cosine of {cosine:.6f} with plain float32, expected at least"
            f" {GATE}: give the stream precision: float32 and compile: false"
        )
        if strict:
            raise ConfigError(msg)
        self._module = self._plain
        logger.warning("%s; computing in plain float32", msg)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
