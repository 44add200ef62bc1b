"""Linear maps of feature vectors: statistics of the valid training frames, and each clip's own mean."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from stores.errors import ConfigError
from temporal.data.bank import Split
from temporal.data.placement import read_ahead

CHUNK = 1024
"""Rows read at a time by whoever goes through a whole split: 16 MiB in float64 of 2048 dimensions."""


@dataclass(frozen=True, slots=True)
class Standardiser:
    """A linear map of feature vectors: centred, scaled, and projected where there are components.

    Attributes:
        mean: (D,) float32.
        std: (D,) float32, 1 where a dimension is constant.
        components: (D, P) float32, on whose columns the scaled features are projected; None for no
            projection.
    """

    mean: Tensor
    std: Tensor
    components: Tensor | None = None

    def __call__(self, features: Tensor, valid: Tensor) -> Tensor:
        """Returns (..., D) or (..., P) float32, exactly 0 where ``valid`` (...,) is False."""
        x = torch.sub(features.to(self.mean.dtype), self.mean).div_(self.std)
        x.mul_(valid.unsqueeze(-1))
        return x if self.components is None else x @ self.components

    @property
    def dim(self) -> int:
        """Length of the vectors that come out, D or P."""
        return len(self.mean) if self.components is None else self.components.shape[1]

    def to(self, device: torch.device | str) -> "Standardiser":
        """Returns the same map on ``device``."""
        components = None if self.components is None else self.components.to(device)
        return Standardiser(self.mean.to(device), self.std.to(device), components)


Standardisers: TypeAlias = Mapping[str, Standardiser]
"""One for each stream that is read."""


def rows_of_clips(
    split: Split, stream: str, chunk: int = CHUNK, clips: Collection[str] | None = None
) -> Iterator[tuple[int, slice, Tensor]]:
    """Goes once through a stream: yields clip number, rows, and their features (n, D) float32, centred.

    A piece is at most ``chunk`` rows of one clip, wherever the features lie, so that sums round equally.
    """
    pieces = [
        (number, slice(a, min(a + chunk, end)))
        for number, (clip, (first, end)) in enumerate(zip(split.clips, pairwise(split.offsets), strict=True))
        if clips is None or clip in clips
        for a in range(first, end, chunk)
    ]
    source = split.streams[stream]
    stored = read_ahead(source.features, (rows for _, rows in pieces))
    for (clip, rows), features in zip(pieces, stored, strict=True):
        x = features.float()
        yield clip, rows, x if source.centres is None else x - source.centres[clip]


def centred(split: Split) -> Split:
    """Returns the split with the mean of each clip's valid frames taken from the features of every stream.

    That mean knows the whole clip: predictions are no longer causal, whatever the network is. Static clips
    stay as they are: a row is a clip of its own, of which nothing would be left.
    """
    moving = {clip for number, clip in enumerate(split.clips) if number not in split.static}
    streams = {}
    for name, stream in split.streams.items():
        sums = torch.zeros((len(split.clips), stream.dim), dtype=torch.float64, device=split.device)
        count = torch.zeros(len(split.clips), dtype=torch.float64, device=split.device)
        for clip, rows, x in rows_of_clips(split, name, clips=moving):
            valid = stream.valid[rows]
            sums[clip] += x[valid].double().sum(0)
            count[clip] += valid.sum()
        streams[name] = replace(stream, centres=(sums / count.clamp_min(1.0).unsqueeze(1)).float())
    return replace(split, streams=streams)


def statistics(split: Split, stream: str, chunk: int = CHUNK) -> Standardiser:
    """Returns mean and population standard deviation over a stream's valid frames, accumulated in float64.

    One pass, pieces merged as in Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm
    for computing sample variances".

    Raises:
        ConfigError: no frame of the stream is valid.
    """
    count, source = 0, split.streams[stream]
    mean, squares = (torch.zeros(source.dim, dtype=torch.float64, device=split.device) for _ in range(2))
    for _, rows, x in rows_of_clips(split, stream, chunk):
        seen = x[source.valid[rows]].double()
        if not len(seen):
            continue
        own = seen.mean(0)
        step, total = own - mean, count + len(seen)
        squares += seen.sub_(own).square_().sum(0) + step.square() * (count * len(seen) / total)
        mean += step * (len(seen) / total)
        count = total
    if count == 0:
        msg = (
            f"no valid frame of stream {stream} in the training split: every crop is missing; check the"
            " corpus and extract again"
        )
        raise ConfigError(msg)
    std = (squares / count).sqrt()
    # A dimension that never moves carries nothing: leave it at 0 instead of dividing rounding errors by ~0.
    std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, 1.0)
    return Standardiser(mean.float(), std.float())


def identity(dim: int) -> Standardiser:
    """Returns the standardiser that changes nothing, for ``Training(standardise=False)``."""
    return Standardiser(torch.zeros(dim), torch.ones(dim))
