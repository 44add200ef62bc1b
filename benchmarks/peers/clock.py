"""What a contender took, wall clock and processor, and the document that says so.

Not a judge: who is compared, and how often, is up to a benchmark.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


def told(text: str) -> None:
    """Says on stderr what is being measured; stdout is for the document alone."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Spent:
    """Seconds of a contender's round: wall clock, and of the CPU in the processes that train."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Returns the CPU time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def await_gpu() -> None:
    """Waits for what a GPU has been given, if there is one in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def clocked(work: Callable[[], Any]) -> Spent:
    """Returns what ``work`` took, on a GPU until the last kernel is done."""
    await_gpu()
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    await_gpu()
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def document(chosen: argparse.Namespace, began: float, results: Mapping[str, Any]) -> str:
    """Returns the JSON of ``results``, with what measured them since ``began``, and how."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        "load_after": os.getloadavg()[0],
        "seconds": round(time.perf_counter() - began),
    }
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()}
    return json.dumps({"machine": machine, "settings": settings, **results}, indent=1)
