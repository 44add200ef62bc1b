"""The features of one clip as they come in, and their way into the store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.corpora import Crops
from extract.feed import Batch
from extract.fingerprint import Source
from stores import Store
from stores.documents import Json


@dataclass(slots=True, eq=False)
class ClipRows:
    """The features of one clip.

    Attributes:
        clip: whose they are.
        source: its crops as found on disk.
        features: (T, dim) of the store's dtype; zero where nothing came in.
        unreadable: frame -> reason, of the crops that could not be decoded.
        unread: those of them whose bytes could not be had.
    """

    clip: Crops
    source: Source
    features: NDArray[Any]
    unreadable: dict[int, str] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)

    def put(self, batch: Batch, features: NDArray[np.float32]) -> None:
        """Takes the features of a batch."""
        with np.errstate(over="ignore"):  # finish() looks for what did not fit
            self.features[batch.start : batch.start + len(features)] = features
        self.unreadable.update(batch.unreadable)
        self.unread.update(batch.unread)

    def valid(self) -> NDArray[np.bool_]:
        """(T,) whether a frame has a readable crop."""
        valid = self.source.present.copy()
        valid[list(self.unreadable)] = False
        return valid

    def finish(self, max_bad_share: float) -> str:
        """Zeroes the rows that are not valid; returns why the clip cannot be written, or ""."""
        valid = self.valid()
        self.features[~valid] = 0
        crops = int(self.source.present.sum())
        if len(self.unreadable) > max_bad_share * crops or not valid.any():
            frame = min(self.unreadable)
            return (
                f"{len(self.unreadable)} of {crops} crops are unreadable, expected a share of at most "
                f"{max_bad_share:g}: replace them; the first is frame {frame}: {self.unreadable[frame]}"
            )
        broken = ~np.isfinite(self.features).all(axis=1)
        if broken.any():
            return (
                f"features of {int(broken.sum())} frames, first {int(broken.argmax())}, are not finite in "
                f"{self.features.dtype}; store float32, or check the weights"
            )
        return ""

    def commit(self, store: Store, compute: Mapping[str, str]) -> float:
        """Writes the clip; returns the seconds that took.

        A crop that could not be read looks the same to ``extract.fingerprint`` once it can be: with such
        crops the clip is of no known source, and the next run extracts it again.

        Raises:
            StoreError: the store cannot be written.
        """
        began = time.perf_counter()
        arrays = {
            "features": self.features,
            "frame": np.arange(len(self.features), dtype=np.int32),
            "valid": self.valid(),
        }
        attrs: dict[str, Json] = {
            "missing": int((~self.source.present).sum()),
            "unreadable": sorted(self.unreadable),
            "compute": dict(compute),
        }
        if self.clip.origin is not None:
            attrs["crops"] = self.clip.origin
        store.write(self.clip.id, arrays, attrs, "" if self.unread else self.source.digest)
        return time.perf_counter() - began
