"""Predictions for every frame that is asked for: what stands where a crop, or the end of a clip, is missing.

Not smoothing: a frame with a crop keeps its own prediction.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stores.errors import ConfigError

Missing = Literal["interpolate", "hold", "mask"]
"""What a frame without a crop gets:

``interpolate``: the line between the frames with a crop before and after, by frame number; AU and EXPR
probabilities are interpolated before anything is decided. Before the first and after the last crop: ``hold``.
``hold``: what the last frame with a crop before it got, or the first one's.
``mask``: what the model says, to which the frame was masked: it saw the frames around alone. So were the runs
scored.
"""


def fill(
    values: NDArray[np.float64], valid: NDArray[np.bool_], frames: int, missing: Missing
) -> NDArray[np.float64]:
    """Returns (frames, K) predictions of the frames 0, 1, ... ``frames - 1``.

    Frames after the last that was predicted have no crop, and there is nothing to see around them: with
    ``mask`` too they hold the last prediction.

    Args:
        values: (T, K) predictions.
        valid: (T,) whether a frame has a crop.
        frames: how many frames are asked for.
        missing: what frames without a crop get.

    Raises:
        ConfigError: no frame has a crop, so there is nothing to interpolate or to hold.
    """
    wanted = np.arange(frames)
    if missing == "mask":
        return values[np.minimum(wanted, len(values) - 1)]
    known = np.flatnonzero(valid)
    if not known.size:
        msg = (
            f"none of {len(values)} frames has a crop, so there is nothing to {missing}: use the policy mask"
        )
        raise ConfigError(msg)
    if missing == "hold":
        return values[known[np.maximum(np.searchsorted(known, wanted, side="right") - 1, 0)]]
    return np.stack([np.interp(wanted, known, column[known]) for column in values.T], axis=1)
