"""What a training computes with: device, processor, threads, versions; every result records it."""

import functools
import importlib.metadata
import platform
from pathlib import Path

import torch

from stores.documents import Json

PACKAGES = ("facets", "torch", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of what computes results: ours, torch, numpy and Python."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


@functools.cache
def cpu_name() -> str:
    """Returns what the processor calls itself, such as ``AMD EPYC 7B13``, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())


def describe(device: torch.device) -> dict[str, Json]:
    """Returns what decides how float32 sums round on ``device``, apart from the program itself.

    The same keys stand in ``result.json``. Sums are split over threads, and kernels are chosen by processor:
    another number of threads, or another processor, gives results that differ by rounding.
    """
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
