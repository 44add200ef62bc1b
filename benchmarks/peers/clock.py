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


def clocked(work: Callable[[], Any]) -> Spent:
    """Returns what ``work`` took."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def document(chosen: argparse.Namespace, began: float, results: Mapping[str, Any]) -> str:
    """Returns the JSON of ``results``, with what measured them since ``began``, and how."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_after": os.getloadavg()[0],
        "seconds": round(time.perf_counter() - began),
    }
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(chosen).items()}
    return json.dumps({"machine": machine, "settings": settings, **results}, indent=1)
