"""The labels of a label store as a pandas frame, one row a frame of a clip."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stores.errors import StoreError
from stores.spec import LabelSpec

if TYPE_CHECKING:
    from stores.store import Store


def of_labels(store: "Store", clips: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns the labels of a label store; whatever is unknown is NaN.

    Args:
        store: a label store.
        clips: ids of committed clips, in the order wanted; None for all, sorted.

    Returns:
        Columns ``clip``, ``frame`` (from 0), ``subject``, ``video``, ``split``, ``valence``, ``arousal``,
        ``expression`` (its name) and one column per action unit (0 or 1); names are categories.

    Raises:
        StoreError: not a label store, no such clip, or damaged data.
    """
    spec = store.spec
    if not isinstance(spec, LabelSpec):
        msg = f"the store {store.path} holds {spec.kind}: expected labels"
        raise StoreError(msg)
    chosen = list(store.clips() if clips is None else clips)
    records = [store.record(clip) for clip in chosen]
    frames = [record.frames for record in records]

    def read(array: str) -> np.ndarray:
        nothing = np.empty(spec.layout(1)[array].shape, spec.layout(1)[array].dtype)[:0]
        return np.concatenate([nothing, *(store.read(clip, array) for clip in chosen)])

    columns: dict[str, object] = {
        "clip": pd.Categorical.from_codes(np.repeat(np.arange(len(chosen)), frames), chosen),
        "frame": np.concatenate([np.empty(0, np.int32), *(np.arange(n, dtype=np.int32) for n in frames)]),
    }
    for name in ("subject", "video", "split"):  # of old stores the video is not known
        known = [str(record.attrs.get(name) or "") or None for record in records]
        columns[name] = pd.Categorical(known).repeat(frames)
    columns |= {"valence": read("valence"), "arousal": read("arousal")}
    columns["expression"] = pd.Categorical.from_codes(read("expression"), spec.expression_names)
    units = read("au").astype(np.float32)
    units[units < 0] = np.nan
    columns |= {name: units[:, column] for column, name in enumerate(spec.au_names)}
    return pd.DataFrame(columns)
