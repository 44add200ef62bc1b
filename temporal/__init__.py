"""Stage 2: from cached features to trained runs, metrics and predictions.

Not the command line, and nothing here reads images: features and labels come from stores.
"""

from temporal import metrics
from temporal.bank import Bank, Split, load_bank
from temporal.chance import chance
from temporal.checkpoint import load, save
from temporal.settings import Run, Training
from temporal.tasks import TASKS, combination_name, parse_combination
from temporal.trained import TrainedModel
from temporal.training import RunResult, fit

__all__ = [
    "TASKS",
    "Bank",
    "Run",
    "RunResult",
    "Split",
    "TrainedModel",
    "Training",
    "chance",
    "combination_name",
    "fit",
    "load",
    "load_bank",
    "metrics",
    "parse_combination",
    "save",
]
