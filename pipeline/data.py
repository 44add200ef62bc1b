"""The two stores that a sweep reads, and the digests that identify what it reads there.

Not a reader of arrays: everything comes from commit records.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import stores
from pipeline.workdir import WorkDir
from stores import FeatureSpec, LabelSpec, Store, documents
from stores.errors import SpecMismatch, StoreError

TRAIN, SCORED = "train", "validation"


@dataclass(frozen=True, slots=True)
class Data:
    """A feature store and the label store that belongs to it.

    Attributes:
        features: store of kind ``features``.
        labels: store of kind ``labels``.
        feature_spec: what made the features.
        label_spec: edition and names of the labels.
        digests: ``features`` and ``labels``: SHA-256 of what decides a run, over the clips that it may read.
    """

    features: Store
    labels: Store
    feature_spec: FeatureSpec
    label_spec: LabelSpec
    digests: Mapping[str, str]


def open_data(place: WorkDir) -> Data:
    """Opens the stores of an experiment.

    Raises:
        StoreError: a store is absent, or lacks clips that the other one has; run ``facets features``.
        SpecMismatch: a store is of the wrong kind.
    """
    for path in (place.features, place.labels):
        if not (path / "store.json").exists():
            msg = f"no store in {path}: run facets features first, with the same options"
            raise StoreError(msg)
    features, labels = stores.open(place.features), stores.open(place.labels)
    feature_spec, label_spec = features.spec, labels.spec
    if not isinstance(feature_spec, FeatureSpec) or not isinstance(label_spec, LabelSpec):
        msg = (
            f"{place.features} holds {feature_spec.kind} and {place.labels} holds {label_spec.kind}:"
            " expected features and labels; give another --work"
        )
        raise SpecMismatch(msg)
    records = {clip: labels.record(clip) for clip in labels.clips()}
    splits = (TRAIN, SCORED)
    read = {clip: record for clip, record in records.items() if record.attrs["split"] in splits}
    missing = [clip for clip in read if not features.has(clip)]
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        msg = (
            f"{len(missing)} of {len(read)} labelled clips have no features in {place.features} ({some}):"
            " run facets features"
        )
        raise StoreError(msg)
    vectors = {}
    for clip, record in read.items():
        source = features.record(clip)
        if source.frames != record.frames:
            msg = (
                f"clip {clip} has {source.frames} frames in {place.features}, but {record.frames} in"
                f" {place.labels}: the corpus changed; run facets features"
            )
            raise StoreError(msg)
        # The arrays and not what they were made from: copying a corpus changes its time stamps, not a result.
        vectors[clip] = {name: array.sha256 for name, array in source.arrays.items()}
    annotations = {
        clip: [record.attrs["split"], {name: array.sha256 for name, array in record.arrays.items()}]
        for clip, record in read.items()
    }
    digests = {
        "features": documents.digest({"spec": feature_spec.digest(), "clips": vectors}),
        "labels": documents.digest({"spec": label_spec.digest(), "clips": annotations}),
    }
    return Data(features, labels, feature_spec, label_spec, digests)
