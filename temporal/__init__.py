"""Stage 2: from cached features to trained runs, metrics and predictions.

Names are imported when first used, so that checking a configuration does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporal import metrics
    from temporal.chance import chance_levels
    from temporal.data.bank import Bank, SoftLabels, Split, Stream, load_bank
    from temporal.inference.checkpoint import load, save
    from temporal.inference.model import TrainedModel
    from temporal.settings import Run, Training
    from temporal.tasks import TASKS, combination_name, parse_combination
    from temporal.train.fit import fit
    from temporal.train.outcome import RunResult

__all__ = [
    "TASKS",
    "Bank",
    "Run",
    "RunResult",
    "SoftLabels",
    "Split",
    "Stream",
    "TrainedModel",
    "Training",
    "chance_levels",
    "combination_name",
    "fit",
    "load",
    "load_bank",
    "metrics",
    "parse_combination",
    "save",
]

_HOMES = {
    "chance": ("chance_levels",),
    "data.bank": ("Bank", "SoftLabels", "Split", "Stream", "load_bank"),
    "inference.checkpoint": ("load", "save"),
    "inference.model": ("TrainedModel",),
    "settings": ("Run", "Training"),
    "tasks": ("TASKS", "combination_name", "parse_combination"),
    "train.fit": ("fit",),
    "train.outcome": ("RunResult",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"temporal.{module}"), name)
    if name == "metrics":
        return importlib.import_module("temporal.metrics")
    msg = f"module 'temporal' has no attribute {name!r}"
    raise AttributeError(msg)
