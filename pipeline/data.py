"""The stores that a sweep reads, and the digests that identify them, taken from commit records."""

from collections.abc import Mapping
from dataclasses import dataclass

import stores
from pipeline.workdir import WorkDir
from stores import FeatureSpec, LabelSpec, Record, Store, documents
from stores.documents import Json
from stores.errors import SpecMismatch, StoreError

TRAIN, SCORED = "train", "validation"
STREAM = "face"
"""The name of the stream of an experiment that has one."""


@dataclass(frozen=True, slots=True)
class Data:
    """The feature stores of an experiment and the label store that belongs to them.

    Attributes:
        streams: stream -> its store of kind ``features``.
        labels: store of kind ``labels``.
        specs: stream -> what made its features.
        label_spec: edition and names of the labels.
        records: records of the label clips that a sweep may read: those of training and validation.
        label_digest: SHA-256 of what decides a run about the labels of these clips, whatever their split.
        feature_digests: stream -> the same of the features of these clips.
    """

    streams: Mapping[str, Store]
    labels: Store
    specs: Mapping[str, FeatureSpec]
    label_spec: LabelSpec
    records: Mapping[str, Record]
    label_digest: str
    feature_digests: Mapping[str, str]


def open_data(place: WorkDir) -> Data:
    """Opens the stores of an experiment.

    Raises:
        StoreError: a store is absent, or lacks clips or frames that the other one has; says what to run.
        SpecMismatch: a store is of the wrong kind.
    """
    features, labels = open_stores(place)
    feature_spec, label_spec = features.spec, labels.spec
    if not isinstance(feature_spec, FeatureSpec) or not isinstance(label_spec, LabelSpec):
        msg = (
            f"{place.features} holds {feature_spec.kind} and {place.labels} holds {label_spec.kind}:"
            " expected features and labels; give another --work, or another features.store"
        )
        raise SpecMismatch(msg)
    records = records_of(labels)
    sources = {clip: features.record(clip) for clip in records if features.has(clip)}
    wrong = disagreements(sources, records, place)
    missing = [clip for clip in wrong if clip not in sources]
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        msg = (
            f"{len(missing)} of {len(records)} labelled clips have no features in {place.features} ({some}):"
            f" {remedy(place)}"
        )
        raise StoreError(msg)
    for clip, difference in wrong.items():
        msg = f"clip {clip} has {difference}"
        raise StoreError(msg)
    # The arrays and not what they were made from: copying a corpus changes its time stamps, not a result.
    vectors = {clip: digests_of(source) for clip, source in sources.items()}
    annotations: dict[str, Json] = {
        clip: [digests_of(record), {name: record.attrs.get(name) for name in ("static", "weight")}]
        for clip, record in records.items()
    }
    return Data(
        {STREAM: features},
        labels,
        {STREAM: feature_spec},
        label_spec,
        records,
        documents.digest({"spec": label_spec.digest(), "clips": annotations}),
        {STREAM: documents.digest({"spec": feature_spec.digest(), "clips": vectors})},
    )


def digests_of(record: Record) -> dict[str, Json]:
    """Returns the digest of each array of a clip."""
    return {name: array.sha256 for name, array in record.arrays.items()}


def open_stores(place: WorkDir) -> tuple[Store, Store]:
    """Opens the feature store and the label store, whatever they hold.

    Raises:
        StoreError: one is absent or damaged; says what to run.
    """
    for path in (place.features, place.labels):
        if not (path / "store.json").exists():
            given = place.imported and path == place.features
            what = remedy(place) if given else "run facets features first, with the same options"
            msg = f"no store in {path}: {what}"
            raise StoreError(msg)
    return stores.open(place.features), stores.open(place.labels)


def records_of(labels: Store) -> dict[str, Record]:
    """Returns the records of the label clips that a sweep reads."""
    records = {clip: labels.record(clip) for clip in labels.clips()}
    return {clip: record for clip, record in records.items() if record.attrs["split"] in (TRAIN, SCORED)}


def disagreements(
    features: Mapping[str, Record], labels: Mapping[str, Record], place: WorkDir
) -> dict[str, str]:
    """Returns label clip -> how its features differ: there are none, or of another number of frames."""
    wrong = {}
    for clip, record in labels.items():
        if clip not in features:
            wrong[clip] = f"no features in {place.features}: {remedy(place)}"
        elif features[clip].frames != record.frames:
            wrong[clip] = (
                f"{features[clip].frames} frames in {place.features}, but {record.frames} in {place.labels}:"
                + ("" if place.imported else " the corpus changed;")
                + f" {remedy(place)}"
            )
    return wrong


def remedy(place: WorkDir) -> str:
    """Returns what to run where the features do not fit the labels."""
    if place.imported:
        return f"run facets import SOURCE {place.features} --like {place.labels}"
    return "run facets features"
