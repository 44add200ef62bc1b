"""Principal axes and reduced features on disk: stage 1 writes them, training opens them."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

import stores
from stores import FeatureSpec, Store, commit, documents
from stores.documents import Json
from stores.errors import StoreError
from temporal.data.bank import Bank, Split, load_bank
from temporal.data.placement import Wanted, feature_spec
from temporal.data.projection import Projection, Reduced, digest_of, lacking, locate
from temporal.data.reduction import Axes, checked_dim, fit_axes
from temporal.data.scaling import Standardiser, centred, rows_of_clips

logger = logging.getLogger(__name__)

HEADER = "facets-axes"
TENSORS = ("mean", "std", "components", "explained_variance")
REMEDY = "delete it, and facets features fits them again"


def write_reduced(bank: Bank, stream: str, reduced: Reduced) -> None:
    """Writes whatever is missing of the axes and the reduced features of one stream.

    Args:
        bank: features as extracted, of the division that ``reduced`` was located for.
        stream: name.
        reduced: where they go.

    Raises:
        ConfigError: no valid training frame, or fewer axes than ``pca``.
        StoreError: they cannot be written, or what is there is damaged.
    """
    projection, spec = reduced.projection, bank.feature_specs[stream]
    checked_dim(stream, spec.dim, projection.pca)
    splits = [centred(split) if projection.centre else split for split in (bank.train, bank.validation)]
    if not reduced.axes.exists():
        logger.info("fitting principal axes to the valid frames of %d training clips", len(bank.train.clips))
        _write_axes(reduced, fit_axes(splits[0], stream, standardise=projection.standardise), spec)
    linear = _read_axes(reduced, spec.dim).first(projection.pca).to(bank.train.device)
    digest = digest_of(reduced.axes)
    path = reduced.features(digest)
    made = reduced_spec(spec, projection.pca, digest, bank.label_spec.corpus)
    store = stores.create(path, made, reduced.source.backend)
    missing = lacking(store, reduced.digests)
    if missing:
        logger.info("%s: reducing %d clips to %d dimensions", path, len(missing), projection.pca)
    for split in splits:
        for clip in [clip for clip in split.clips if clip in set(missing)]:
            store.write(clip, _arrays(split, stream, clip, linear), {}, reduced.digests[clip])


def _arrays(split: Split, stream: str, clip: str, linear: Standardiser) -> dict[str, np.ndarray]:
    valid_rows = split.streams[stream].valid
    parts = [
        (linear(x, valid_rows[rows]), valid_rows[rows])
        for _, rows, x in rows_of_clips(split, stream, clips=[clip])
    ]
    values, valid = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return {"features": values, "frame": np.arange(len(values), dtype=np.int32), "valid": valid}


def _write_axes(reduced: Reduced, axes: Axes, spec: FeatureSpec) -> None:
    tensors = {
        "mean": axes.scaling.mean,
        "std": axes.scaling.std,
        "components": axes.components,
        "explained_variance": axes.explained_variance,
    }
    told: dict[str, Json] = {
        "provenance": dict(reduced.made_of),
        "feature_spec": spec.to_json(),
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
    }
    # One entry: safetensors writes several in any order, and the file's digest names what is made of it.
    header = {HEADER: documents.canonical(told).decode()}
    data = save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, header)
    try:
        reduced.folder.mkdir(parents=True, exist_ok=True)
        # Of several processes that fit at once the first one wins, so that all project on the same axes.
        commit.publish_first(reduced.axes, data)
    except OSError as error:
        msg = f"cannot keep principal axes at {reduced.axes}: {error}"
        raise StoreError(msg) from error


def _read_axes(reduced: Reduced, dim: int) -> Axes:
    path = reduced.axes
    try:
        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()[HEADER])["provenance"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        mean, std, components, variance = (tensors.pop(name) for name in TENSORS)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} does not hold principal axes: {error}; {REMEDY}"
        raise StoreError(msg) from error
    if found != reduced.made_of:
        msg = f"{path} holds axes of other features than its name says: {REMEDY}"
        raise StoreError(msg)
    shapes = [tuple(tensor.shape) for tensor in (mean, std, components, variance)]
    if tensors or shapes != [(dim,), (dim,), (len(variance), dim), (len(variance),)]:
        msg = (
            f"{path} holds arrays of shapes {shapes} and {sorted(tensors)}, expected axes of {dim}"
            f" dimensions: {REMEDY}"
        )
        raise StoreError(msg)
    return Axes(Standardiser(mean, std), components, variance)


def open_reduced(
    features: Mapping[str, Store],
    labels: Store,
    folder: Path,
    projection: Projection,
    *,
    division: Mapping[str, str],
    device: torch.device | str = "cpu",
    placement: Wanted = "auto",
) -> Bank:
    """Reads the reduced features of all streams; the features as extracted are not read.

    Args:
        features: stream -> features as extracted.
        labels: the label store.
        folder: where axes and reduced features are.
        projection: the settings.
        division: clip -> ``train`` or ``validation``.
        device: where training and labels are.
        placement: where the reduced features are, as in ``load_bank``.

    Raises:
        StoreError: they are missing, stale or damaged.
        FacetsError: as of ``load_bank``.
    """
    found, maps = {}, {}
    for name, source in features.items():
        reduced = locate(source, labels, division, folder, projection)
        reduced.require()
        maps[name] = _read_axes(reduced, feature_spec(source).dim).first(projection.pca).to(device)
        found[name] = stores.open(reduced.features(digest_of(reduced.axes)))
    bank = load_bank(found, labels, division=division, device=device, placement=placement)
    specs = {name: feature_spec(source) for name, source in features.items()}
    return replace(bank, feature_specs=specs, reduction=maps, projection=projection)


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
