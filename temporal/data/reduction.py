"""Principal axes of the training features, and banks of features reduced to the first of them.

Not whitening, and never fitted on a frame that a run is scored on. Axes and reduced features are kept beside
the feature store under names that follow from what they were made of, so what is stale is never found.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

import stores
from stores import FeatureSpec, Store, commit, documents
from stores.documents import Json
from stores.errors import ConfigError, StoreError
from temporal.data.bank import Bank, Origin, Split, Stream
from temporal.data.placement import Features, choose, placed
from temporal.data.scaling import Standardiser, Standardisers, centred, identity, rows_of_clips, statistics
from temporal.settings import Training

logger = logging.getLogger(__name__)

FORMAT, VERSION = "facets-axes", 1
HEADER = "facets-axes"
TENSORS = ("mean", "std", "components", "explained_variance")
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

    The bank given stays as it is. What is derived lives as long as it is used.

    Args:
        bank: features as stored.
        training: its ``centre``, ``pca`` and ``standardise`` decide.

    Raises:
        ConfigError: no valid training frame, or fewer axes than ``pca``.
        StoreError: axes or reduced features cannot be kept where the bank says.
    """
    home = bank.train.device
    if training.pca:
        for name in bank.feature_specs:
            bank = _reduced(bank, name, training)
        return bank, {name: identity(dim).to(home) for name, dim in bank.train.dims.items()}
    bank = replace(bank, train=_seen(bank.train, training), validation=_seen(bank.validation, training))
    if training.standardise:
        return bank, {name: statistics(bank.train, name) for name in bank.feature_specs}
    return bank, {name: identity(dim).to(home) for name, dim in bank.train.dims.items()}


def _seen(split: Split, training: Training) -> Split:
    return centred(split) if training.centre else split


def _reduced(bank: Bank, name: str, training: Training) -> Bank:
    """Returns the bank with one stream reduced to its first ``training.pca`` axes."""
    dim = bank.train.dims[name]
    if training.pca > dim:
        msg = f"pca: {training.pca} axes were asked for of stream {name} of {dim} dimensions: lower pca"
        raise ConfigError(msg)
    splits = (bank.train, bank.validation)
    if bank.origin is None:
        seen = [_seen(split, training) for split in splits]
        reduction = fit_axes(seen[0], name, standardise=training.standardise).first(training.pca)
        features: list[Features] = [_in_memory(split, name, reduction) for split in seen]
    else:
        home, origin = bank.train.device, bank.origin
        axes, digest = _kept_axes(bank, name, origin, training)
        reduction = axes.first(training.pca).to(home)
        store = _reduced_store(bank, name, origin, training, reduction, digest)
        size = (bank.train.frames + bank.validation.frames) * reduction.dim * torch.float32.itemsize
        placement = choose(origin.placement, size, home)
        features = [placed(store, split.clips, split.offsets, placement, home) for split in splits]
    train, validation = (
        replace(split, streams={**split.streams, name: Stream(found, split.streams[name].valid)})
        for split, found in zip(splits, features, strict=True)
    )
    return replace(bank, train=train, validation=validation, reduction={**bank.reduction, name: reduction})


def _in_memory(split: Split, name: str, reduction: Standardiser) -> Tensor:
    reduced = torch.empty((split.frames, reduction.dim), device=split.device)
    for _, rows, x in rows_of_clips(split, name):
        reduced[rows] = reduction(x, split.streams[name].valid[rows])
    return reduced


def provenance(bank: Bank, stream: str, store: Store, training: Training) -> dict[str, Json]:
    """Returns what decides the axes: the features, which clips of them, and what is done before."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "feature_digest": bank.feature_specs[stream].digest(),
        "clips": _sources(bank.train, store, training),
        "centre": training.centre,
        "standardise": training.standardise,
    }


def _sources(split: Split, store: Store, training: Training) -> dict[str, Json]:
    """Returns for each clip what it is seen from: its arrays, and that it is static where that matters."""
    sources: dict[str, Json] = {}
    for number, clip in enumerate(split.clips):
        arrays = store.record(clip).arrays
        digests: dict[str, Json] = {name: arrays[name].sha256 for name in ("features", "valid")}
        if training.centre and number in split.static:
            digests["static"] = True
        sources[clip] = digests
    return sources


def _kept_axes(bank: Bank, stream: str, origin: Origin, training: Training) -> tuple[Axes, str]:
    """Returns the axes in the origin's folder, fitted now if they are not there, and their file's SHA-256."""
    store = origin.stores[stream]
    deciding = provenance(bank, stream, store, training)
    made_of = documents.canonical(deciding).decode()
    path = origin.folder / f"{store.path.name}.axes-{documents.digest(deciding)[:12]}.safetensors"
    if not path.exists():
        logger.info("fitting principal axes to the valid frames of %d training clips", len(bank.train.clips))
        axes = fit_axes(_seen(bank.train, training), stream, standardise=training.standardise)
        tensors = {
            "mean": axes.scaling.mean,
            "std": axes.scaling.std,
            "components": axes.components,
            "explained_variance": axes.explained_variance,
        }
        told: dict[str, Json] = {
            "provenance": deciding,
            "feature_spec": bank.feature_specs[stream].to_json(),
            "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
        }
        # One entry: safetensors writes several in any order, and the file's digest names what is made of it.
        header = {HEADER: documents.canonical(told).decode()}
        data = save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, header)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of several processes that fit at once the first one wins, so that all project on the same axes.
            commit.publish_first(path, data)
        except OSError as error:
            msg = f"cannot keep principal axes at {path}: {error}"
            raise StoreError(msg) from error
    return _read_axes(path, bank.train.dims[stream], made_of)


def _read_axes(path: Path, dim: int, made_of: str) -> tuple[Axes, str]:
    try:
        with safe_open(path, "pt") as file:
            found = documents.canonical(json.loads(file.metadata()[HEADER])["provenance"]).decode()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        mean, std, components, variance = (tensors.pop(name) for name in TENSORS)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} does not hold principal axes: {error}; delete it, and they are fitted again"
        raise StoreError(msg) from error
    if found != made_of:
        msg = f"{path} holds axes of other features than its name says: delete it, and they are fitted again"
        raise StoreError(msg)
    shapes = [tuple(tensor.shape) for tensor in (mean, std, components, variance)]
    if tensors or shapes != [(dim,), (dim,), (len(variance), dim), (len(variance),)]:
        msg = (
            f"{path} holds arrays of shapes {shapes} and {sorted(tensors)}, expected axes of {dim}"
            " dimensions: delete it, and they are fitted again"
        )
        raise StoreError(msg)
    return Axes(Standardiser(mean, std), components, variance), digest


def _reduced_store(
    bank: Bank, name: str, origin: Origin, training: Training, reduction: Standardiser, axes: str
) -> Store:
    """Returns the store of reduced features, after whatever is missing from it has been written."""
    source = origin.stores[name]
    spec = reduced_spec(bank.feature_specs[name], reduction.dim, axes, bank.label_spec.corpus)
    path = origin.folder / f"{source.path.name}.pca{reduction.dim}-{axes[:12]}"
    store = stores.create(path, spec, source.backend)
    for split in (bank.train, bank.validation):
        sources = {
            clip: documents.digest(made_of) for clip, made_of in _sources(split, source, training).items()
        }
        missing = [c for c in split.clips if not store.has(c) or store.record(c).source_digest != sources[c]]
        if not missing:
            continue
        logger.info("%s: reducing %d clips to %d dimensions", path, len(missing), reduction.dim)
        seen = _seen(split, training)
        stream = seen.streams[name]
        for clip in missing:
            parts = [
                (reduction(x, stream.valid[rows]), stream.valid[rows])
                for _, rows, x in rows_of_clips(seen, name, clips=[clip])
            ]
            values, valid = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
            arrays = {"features": values, "frame": np.arange(len(values), dtype=np.int32), "valid": valid}
            store.write(clip, arrays, {}, sources[clip])
    return store


def reduced_spec(spec: FeatureSpec, count: int, axes: str, corpus: str) -> FeatureSpec:
    """Returns the spec of features reduced to ``count`` axes.

    Its weights are those of the backbone and the axes together: their digest is of the features' spec, the
    file of the axes, and the count; and they have seen the corpus that the axes were fitted to.

    Args:
        spec: of the features as they were.
        count: number of axes.
        axes: SHA-256 of the file of the axes.
        corpus: name of the corpus whose training split the axes were fitted to.
    """
    deciding: dict[str, Json] = {"features": spec.digest(), "axes": axes, "count": count}
    return replace(
        spec,
        stream=f"{spec.stream}.pca{count}",
        weights=f"{spec.weights}+pca{count}",
        weights_sha256=documents.digest(deciding),
        weights_trained_on=tuple(dict.fromkeys((*spec.weights_trained_on, corpus))),
        dtype="float32",
        dim=count,
        versions={**spec.versions, "torch": str(torch.__version__)},
    )
