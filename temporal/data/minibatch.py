"""Minibatches: windows of a split gathered by index, standardised, with a mask of what is padding."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from temporal.data.bank import Split, any_of
from temporal.data.placement import read_ahead
from temporal.data.scaling import Standardisers
from temporal.data.windows import Ints, Windows


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows gathered from a split; T is the longest of them.

    Attributes:
        features: per stream, (B, T, D) float32, standardised, 0 on padding and where the stream has nothing.
        mask: (B, T) float32, 0 on padding; None where no window of the batch is padded.
        valid: per stream, (B, T) bool, real frames where it has something.
        rows: (B, T) int64 rows of the split; padding repeats the last row of the clip.
    """

    features: dict[str, Tensor]
    mask: Tensor | None
    valid: dict[str, Tensor]
    rows: Tensor

    def usable(self, streams: Iterable[str] = ()) -> Tensor:
        """Returns (B, T) bool: real frames where one of ``streams`` (none named: any) has something.

        The loss of a run that reads these streams may use their labels.
        """
        return any_of([self.valid[name] for name in streams or self.valid])


def gather(split: Split, windows: Windows, chosen: Ints, standardise: Standardisers) -> Batch:
    """Gathers the windows numbered ``chosen`` from the bank.

    A frame without a crop keeps its place in time as a zero row; the loss leaves it out, while evaluation
    scores its prediction, which then comes from the frames around it: the ABAW challenges score every
    annotated frame.
    """
    return next(minibatches(split, windows, [chosen], standardise))


def minibatches(
    split: Split, windows: Windows, pieces: Iterable[Ints], standardise: Standardisers
) -> Iterator[Batch]:
    """Yields what ``gather`` returns for every piece; features from elsewhere are fetched one piece ahead.

    Args:
        split: clips.
        windows: over them.
        pieces: numbers of the windows of each batch.
        standardise: for each stream that is read; the others are left alone.
    """
    pieces = list(pieces)
    sources = [
        read_ahead(split.streams[name].features, (torch.from_numpy(_rows(windows, p)) for p in pieces))
        for name in standardise
    ]
    for chosen, *features in zip(pieces, *sources, strict=True):
        yield _batch(split, windows, chosen, dict(zip(standardise, features, strict=True)), standardise)


def _rows(windows: Windows, chosen: Ints) -> Ints:
    # A batch is as long as its longest window: where all clips are short, none is padded to the full length.
    frames = windows.frames[chosen]
    within = np.minimum(np.arange(frames.max())[None], frames[:, None] - 1)
    return windows.start[chosen][:, None] + within


def _batch(
    split: Split, windows: Windows, chosen: Ints, stored: Mapping[str, Tensor], standardise: Standardisers
) -> Batch:
    frames = windows.frames[chosen]
    rows = torch.from_numpy(_rows(windows, chosen)).to(split.device)
    real = torch.from_numpy(np.arange(frames.max())[None] < frames[:, None]).to(split.device)
    features, valid = {}, {}
    for name, x in stored.items():
        stream = split.streams[name]
        valid[name] = stream.valid[rows] & real
        if stream.centres is not None:
            clips = np.searchsorted(split.offsets, windows.start[chosen], side="right") - 1
            x = x - stream.centres[torch.from_numpy(clips).to(split.device)].unsqueeze(1)
        features[name] = standardise[name](x, valid[name])
    mask = real.to(torch.float32) if bool((frames < frames.max()).any()) else None
    return Batch(features, mask, valid, rows)
