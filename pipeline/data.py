"""The stores that a sweep reads, and the digests that identify them, taken from commit records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import stores
from pipeline.workdir import WorkDir
from stores import FeatureSpec, LabelSpec, Record, Store, documents
from stores.documents import Json
from stores.errors import SpecMismatch, StoreError

TRAIN, SCORED = "train", "validation"


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
        StoreError: a store is absent, or lacks clips or frames that another one has; says what to run.
        SpecMismatch: a store is of the wrong kind.
    """
    labels = open_store(place.labels, "run facets features first, with the same options")
    label_spec = labels.spec
    if not isinstance(label_spec, LabelSpec):
        msg = f"{place.labels} holds {label_spec.kind}: expected labels; give another --work"
        raise SpecMismatch(msg)
    records = records_of(labels)
    streams, specs, digests = {}, {}, {}
    for name in place.streams:
        streams[name], specs[name] = open_stream(place, name)
        sources = {clip: streams[name].record(clip) for clip in records if streams[name].has(clip)}
        require_agreement(sources, records, place, name)
        # The arrays and not what they were made from: copying a corpus changes its time stamps, not a result.
        vectors = {clip: digests_of(source) for clip, source in sources.items()}
        digests[name] = documents.digest({"spec": specs[name].digest(), "clips": vectors})
    annotations: dict[str, Json] = {
        clip: [digests_of(record), {name: record.attrs.get(name) for name in ("static", "weight")}]
        for clip, record in records.items()
    }
    digest = documents.digest({"spec": label_spec.digest(), "clips": annotations})
    return Data(streams, labels, specs, label_spec, records, digest, digests)


def open_stream(place: WorkDir, name: str) -> tuple[Store, FeatureSpec]:
    """Opens the feature store of a stream.

    Raises:
        StoreError: it is absent or damaged; says what to run.
        SpecMismatch: it is no feature store.
    """
    given = remedy(place, name) if name in place.given else "run facets features first, with the same options"
    store = open_store(place.streams[name], given)
    if not isinstance(store.spec, FeatureSpec):
        msg = (
            f"stream {name}: {place.streams[name]} holds {store.spec.kind}: expected features; give another"
            f" --work, or another streams.{name}.store"
        )
        raise SpecMismatch(msg)
    return store, store.spec


def open_store(path: Path, otherwise: str) -> Store:
    """Opens a store, whatever it holds.

    Raises:
        StoreError: it is damaged, or absent; then ``otherwise`` says what to run.
    """
    if not (path / "store.json").exists():
        msg = f"no store in {path}: {otherwise}"
        raise StoreError(msg)
    return stores.open(path)


def require_agreement(
    features: Mapping[str, Record], labels: Mapping[str, Record], place: WorkDir, name: str
) -> None:
    """Makes sure that all labelled clips have features of a stream, of as many frames.

    Raises:
        StoreError: names the first clip that has not, and says what to run.
    """
    wrong = disagreements(features, labels, place, name)
    missing = [clip for clip in wrong if clip not in features]
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        msg = (
            f"{len(missing)} of {len(labels)} labelled clips have no features in {place.streams[name]}"
            f" ({some}): {remedy(place, name)}"
        )
        raise StoreError(msg)
    for clip, difference in wrong.items():
        msg = f"clip {clip} has {difference}"
        raise StoreError(msg)


def digests_of(record: Record) -> dict[str, Json]:
    """Returns the digest of each array of a clip."""
    return {name: array.sha256 for name, array in record.arrays.items()}


def records_of(labels: Store) -> dict[str, Record]:
    """Returns the records of the label clips that a sweep reads."""
    records = {clip: labels.record(clip) for clip in labels.clips()}
    return {clip: record for clip, record in records.items() if record.attrs["split"] in (TRAIN, SCORED)}


def disagreements(
    features: Mapping[str, Record], labels: Mapping[str, Record], place: WorkDir, name: str
) -> dict[str, str]:
    """Returns label clip -> how its features differ: there are none, or of another number of frames."""
    wrong = {}
    path, what = place.streams[name], remedy(place, name)
    for clip, record in labels.items():
        if clip not in features:
            wrong[clip] = f"no features in {path}: {what}"
        elif features[clip].frames != record.frames:
            wrong[clip] = (
                f"{features[clip].frames} frames in {path}, but {record.frames} in {place.labels}:"
                + ("" if name in place.given else " the corpus changed;")
                + f" {what}"
            )
    return wrong


def remedy(place: WorkDir, name: str) -> str:
    """Returns what to run if the features of a stream do not fit the labels."""
    if name in place.given:
        return f"run facets import SOURCE {place.streams[name]} --like {place.labels}"
    return "run facets features"
