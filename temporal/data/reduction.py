"""Principal axes of the training features, and features in memory reduced to the first of them.

The axes are not whitened, and never fitted on a frame that a run is scored on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stores.errors import ConfigError
from temporal.data.bank import Bank, Split, Stream
from temporal.data.projection import Projection
from temporal.data.scaling import Standardiser, Standardisers, centred, identity, rows_of_clips, statistics
from temporal.settings import Training

BLOCK = 4096
"""Rows multiplied at once; the product of so many is added to the float64 sum."""


@dataclass(frozen=True, slots=True)
class Axes:
    """All principal axes of standardised training features, the largest variance first.

    Attributes:
        scaling: what is applied before the projection.
        components: (K, D) float32 unit rows, of each the entry of largest size positive.
        explained_variance: (K,) float64 variances along them, with F - 1 in the denominator as in
            scikit-learn.
    """

    scaling: Standardiser
    components: Tensor
    explained_variance: Tensor

    def first(self, count: int) -> Standardiser:
        """Returns the map to the first ``count`` axes.

        All of them are divided by one number, so that their mean variance is 1: a network then sees inputs of
        the size that it would see without the projection.

        Raises:
            ConfigError: there are fewer axes.
        """
        if not 1 <= count <= len(self.components):
            frames = f"{len(self.components)} axes, the smaller of dimensions and valid training frames"
            msg = f"pca: {count} axes were asked for, there are {frames}: lower pca"
            raise ConfigError(msg)
        size = self.explained_variance[:count].mean().sqrt().clamp_min(1e-12)
        projection = (self.components[:count].double().T / size).float().contiguous()
        return replace(self.scaling, components=projection)


def fit_axes(train: Split, stream: str, *, standardise: bool) -> Axes:
    """Returns the principal axes of the valid frames of a stream, by the eigenvectors of their covariance.

    Exact, one pass after that of the statistics, and for every number of axes at once. It was measured
    faster than scikit-learn's ``IncrementalPCA``, which forgets what lies outside of the axes kept: 0.5 ms a
    frame of 2048 dimensions on one core, against 1.7 ms for 64 axes and 4.3 ms for 256.

    Args:
        train: the training split, centred if the reduced features shall be.
        stream: name.
        standardise: whether dimensions are scaled to unit variance first; their mean is always subtracted.

    Raises:
        ConfigError: no frame of the stream is valid.
    """
    scaling, dim = statistics(train, stream), train.streams[stream].dim
    if not standardise:
        scaling = replace(scaling, std=torch.ones_like(scaling.std))
    # float32 products of blocks summed in float64: subspaces differ by 1e-13 from those of float64
    # throughout, which takes three times as long on a CPU. On CUDA, where TF32 could be on, it does not.
    dtype = torch.float64 if train.device.type == "cuda" else torch.float32
    scatter = torch.zeros((dim, dim), dtype=torch.float64, device=train.device)
    frames = 0
    for x in _blocks(train, stream, scaling):
        scatter += (x.to(dtype).T @ x.to(dtype)).double()
        frames += len(x)
    values, vectors = torch.linalg.eigh(scatter / max(frames - 1, 1))
    count = min(dim, frames)
    components = vectors.T.flip(0)[:count]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = (components * largest.sign()).float()
    return Axes(scaling, components.contiguous(), values.flip(0)[:count].clamp_min(0.0))


def _blocks(train: Split, stream: str, scaling: Standardiser) -> Iterator[Tensor]:
    """Yields the valid rows, scaled, in blocks of at least ``BLOCK`` rows but for the last."""
    held: list[Tensor] = []
    for _, rows, x in rows_of_clips(train, stream):
        valid = train.streams[stream].valid[rows]
        held.append(scaling(x[valid], valid[valid]))
        if sum(map(len, held)) >= BLOCK:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)


def prepared(bank: Bank, training: Training) -> tuple[Bank, Standardisers]:
    """Returns the bank of features that ``training`` asks for, and the maps still to be applied to them.

    The bank given stays as it is. Features that are reduced here are in the memory of the device, as long as
    they are used; those of ``temporal.data.reduced.open_reduced`` stay where they are.

    Args:
        bank: features as extracted, or reduced already.
        training: its ``centre``, ``pca`` and ``standardise`` decide.

    Raises:
        ConfigError: no valid training frame, fewer axes than ``pca``, or features that were reduced by other
            settings.
    """
    asked = Projection(training.pca, training.centre, training.standardise)
    if bank.projection not in (None, asked):
        msg = f"the features are reduced by {bank.projection}, training asks for {asked}: give both the same"
        raise ConfigError(msg)
    if bank.projection is None:
        bank = replace(bank, train=_seen(bank.train, training), validation=_seen(bank.validation, training))
        if training.standardise and not training.pca:
            return bank, {name: statistics(bank.train, name) for name in bank.feature_specs}
        if training.pca:
            bank = _reduced(bank, asked)
    return bank, {name: identity(dim).to(bank.train.device) for name, dim in bank.train.dims.items()}


def _seen(split: Split, training: Training) -> Split:
    return centred(split) if training.centre else split


def _reduced(bank: Bank, asked: Projection) -> Bank:
    """Returns the bank with every stream reduced to its first axes."""
    maps = {}
    for name, dim in bank.train.dims.items():
        checked_dim(name, dim, asked.pca)
        maps[name] = fit_axes(bank.train, name, standardise=asked.standardise).first(asked.pca)
    train, validation = (
        replace(
            split,
            streams={
                name: Stream(_in_memory(split, name, maps[name]), stream.valid)
                for name, stream in split.streams.items()
            },
        )
        for split in (bank.train, bank.validation)
    )
    return replace(bank, train=train, validation=validation, reduction=maps, projection=asked)


def checked_dim(stream: str, dim: int, pca: int) -> None:
    """Makes sure that a stream has as many dimensions as axes are asked for.

    Raises:
        ConfigError: it has fewer.
    """
    if pca > dim:
        msg = f"pca: {pca} axes were asked for of stream {stream} of {dim} dimensions: lower pca"
        raise ConfigError(msg)


def _in_memory(split: Split, name: str, reduction: Standardiser) -> Tensor:
    reduced = torch.empty((split.frames, reduction.dim), device=split.device)
    for _, rows, x in rows_of_clips(split, name):
        reduced[rows] = reduction(x, split.streams[name].valid[rows])
    return reduced
