"""What a store holds in numbers: clips, frames, how many of them are known, bytes on disk.

Not a verification: records are trusted here, and only the small arrays are read.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stores.digest import Array
from stores.progress import Progress, silent
from stores.spec import Spec
from stores.store import VERSION, BackendName, open


@dataclass(frozen=True, slots=True)
class Description:
    """A store in numbers.

    Attributes:
        path: the store.
        version: of the format.
        backend: file format of the clips.
        spec: what the store holds.
        clips: number of committed clips.
        frames: of all clips.
        known: array name to the number of frames with a value: ``features`` of a feature store (a valid
            crop); the four arrays of a label store (``au``: at least one unit is known).
        splits: split to number of clips; empty for a feature store.
        bytes: of all data and records.
    """

    path: Path
    version: int
    backend: BackendName
    spec: Spec
    clips: int
    frames: int
    known: Mapping[str, int]
    splits: Mapping[str, int]
    bytes: int

    @property
    def known_share(self) -> dict[str, float]:
        """Array name to the share of frames with a value, in [0, 1]; 0 for a store without frames."""
        return {name: count / self.frames if self.frames else 0.0 for name, count in self.known.items()}


def describe(path: str | os.PathLike[str], *, progress: Progress = silent) -> Description:
    """Counts what a store holds.

    Args:
        path: the store.
        progress: called per clip.

    Raises:
        StoreError: there is no store at ``path``, or one of its clips is damaged.
    """
    store = open(path)
    clips = store.clips()
    names = ("features",) if store.spec.kind == "features" else tuple(store.spec.layout(1))
    known, splits = Counter(dict.fromkeys(names, 0)), Counter[str]()
    frames = size = 0
    for done, clip in enumerate(clips, start=1):
        record = store.record(clip)
        frames += record.frames
        size += record.data_bytes + store.record_path(clip).stat().st_size
        if store.spec.kind == "labels":
            splits[str(record.attrs["split"])] += 1
        for name in names:
            known[name] += _known(name, store.read(clip, "valid" if name == "features" else name))
        progress("info", len(clips), done)
    return Description(
        store.path, VERSION, store.backend, store.spec, len(clips), frames, dict(known), dict(splits), size
    )


def _known(name: str, values: Array) -> int:
    match name:
        case "features":
            return int(values.sum())
        case "valence" | "arousal":
            return int((~np.isnan(values)).sum())
        case "expression":
            return int((values >= 0).sum())
    return int((values >= 0).any(axis=1).sum())
