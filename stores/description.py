"""What a store holds in numbers: clips, frames, how many are known, bytes; and what is wrong at a glance.

Records, sizes and the small arrays are checked on the way; features are not read.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stores import documents
from stores.backends import BackendName
from stores.digest import Array
from stores.documents import Json
from stores.errors import StoreError
from stores.progress import Progress, silent
from stores.spec import Spec
from stores.store import VERSION, Store, open
from stores.verification import Finding, verify


@dataclass(frozen=True, slots=True)
class Description:
    """A store in numbers; clips that are damaged or missing count nowhere but in their own lists.

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
        sources: number of clips whose record says what they were made from.
        content_sha256: digest of all array digests: equal for stores of equal clips, whatever the backend.
        damaged: clips whose record or data is not what was committed, as far as this saw.
        missing: clips that have a record but no data.
        foreign: what is no part of the store.
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
    sources: int
    content_sha256: str
    damaged: tuple[Finding, ...]
    missing: tuple[Finding, ...]
    foreign: tuple[Finding, ...]

    @property
    def known_share(self) -> dict[str, float]:
        """Array name to the share of frames with a value, in [0, 1]; 0 for a store without frames."""
        return {name: count / self.frames if self.frames else 0.0 for name, count in self.known.items()}


def describe(path: str | os.PathLike[str], *, progress: Progress = silent) -> Description:
    """Counts what a store holds, and lists what a quick verification finds wrong with it.

    Args:
        path: the store.
        progress: called per clip.

    Raises:
        StoreError: there is no store at ``path``.
    """
    store = open(path)
    found = verify(path, depth="quick")
    excluded = {finding.name for finding in (*found.damaged, *found.missing)}
    candidates = [clip for clip in store.clips() if clip not in excluded]
    damaged = list(found.damaged)
    names = ("features",) if store.spec.kind == "features" else tuple(store.spec.layout(1))
    known, splits = Counter(dict.fromkeys(names, 0)), Counter[str]()
    digests: dict[str, Json] = {}
    frames = size = sources = 0
    for done, clip in enumerate(candidates, start=1):
        try:
            record = store.record(clip)
            counts = {name: _known(store, clip, name) for name in names}
            size += record.data_bytes + store.record_path(clip).stat().st_size
        except (StoreError, FileNotFoundError) as error:
            if store.has(clip):  # otherwise somebody removes clips
                damaged.append(Finding(clip, str(error)))
        else:
            digests[clip] = {name: array.sha256 for name, array in record.arrays.items()}
            frames += record.frames
            sources += record.source_digest != ""
            known.update(counts)
            splits.update([str(record.attrs["split"])] if store.spec.kind == "labels" else [])
        progress("info", len(candidates), done)
    return Description(
        path=store.path,
        version=VERSION,
        backend=store.backend,
        spec=store.spec,
        clips=len(digests),
        frames=frames,
        known=dict(known),
        splits=dict(splits),
        bytes=size,
        sources=sources,
        content_sha256=documents.digest(digests),
        damaged=tuple(sorted(damaged, key=lambda finding: finding.name)),
        missing=found.missing,
        foreign=found.foreign,
    )


def _known(store: Store, clip: str, name: str) -> int:
    values: Array = store.read(clip, "valid" if name == "features" else name)
    match name:
        case "features":
            return int(values.sum())
        case "valence" | "arousal":
            return int((~np.isnan(values)).sum())
        case "expression":
            return int((values >= 0).sum())
    return int((values >= 0).any(axis=1).sum())
