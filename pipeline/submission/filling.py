"""Predictions for every frame that is asked for, also without a crop or after the last frame of a clip.

A frame with a crop keeps its own prediction.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stores.errors import ConfigError

Missing = Literal["interpolate", "hold", "mask"]
"""The policy for a frame without a crop:

``interpolate``: the line between the frames with a crop before and after, by frame number; AU and EXPR
probabilities are interpolated before anything is decided. Before the first and after the last crop: ``hold``.
``hold``: the prediction of the last frame with a crop before it, or of the first one.
``mask``: the model's own prediction, made from the frames around. The runs were scored so.
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
        missing: policy for frames without a crop.

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
