"""Predictions per frame: windows that overlap are averaged, for every task, in frame order."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from temporal.data.bank import Split
from temporal.data.minibatch import minibatches
from temporal.data.scaling import Standardisers
from temporal.data.windows import Windows, batches_alike
from temporal.tasks import TASKS, Activation

Forward = Callable[[Mapping[str, Tensor], Tensor | None], Mapping[str, Tensor]]
"""Maps features (B, T, D) per stream and mask (B, T) or None to logits (R, B, T, K) per task."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "linear": lambda logits: logits,
    "sigmoid": torch.sigmoid,
    "softmax": lambda logits: torch.softmax(logits, -1),
}


@torch.no_grad()
def predict(
    forward: Forward, split: Split, windows: Windows, standardise: Standardisers, batch_size: int
) -> dict[str, Tensor]:
    """Predicts every frame of a split.

    Activations come before the average, so that AU and EXPR predictions are means of probabilities. Windows
    are added in their own order, whatever the batch size, so that sums do not depend on it.

    Args:
        forward: the model, or R of them.
        split: clips, of which only the streams of ``standardise`` are read.
        windows: windows that cover every frame.
        standardise: applied to the features of each stream.
        batch_size: windows per call of ``forward``.

    Returns:
        (R, F, K) float32 per task, on the device of the split.
    """
    sums: dict[str, Tensor] = {}
    count = np.zeros(split.frames, dtype=np.float32)
    pieces = batches_alike(windows, np.arange(len(windows), dtype=np.int64), batch_size)
    for chosen, batch in zip(pieces, minibatches(split, windows, pieces, standardise), strict=True):
        for task, logits in forward(batch.features, batch.mask).items():
            values = ACTIVATIONS[TASKS[task].activation](logits)
            if task not in sums:
                shape = (len(values), split.frames, values.shape[-1])
                sums[task] = torch.zeros(shape, dtype=torch.float32, device=values.device)
            if windows.static[chosen[0]]:  # one row each, which no other window covers
                sums[task][:, batch.rows[:, 0]] = values[:, :, 0]
                continue
            for index, window in enumerate(chosen):
                start, frames = windows.start[window], windows.frames[window]
                sums[task][:, start : start + frames] += values[:, index, :frames]
        if windows.static[chosen[0]]:
            count[windows.start[chosen]] = 1
            continue
        for window in chosen:
            count[windows.start[window] : windows.start[window] + windows.frames[window]] += 1
    divisor = torch.from_numpy(count).to(split.device)[:, None]
    return {task: total / divisor for task, total in sums.items()}


def as_labels(task: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (F, K) predictions in the shape of the task's labels: (F,) for V and A."""
    return values[:, 0] if TASKS[task].names is None else values
