"""Where features reduced to principal axes are kept, and whether all of them are there; needs no torch.

Axes and reduced features have names that follow from what they were made of, so what is stale is never found.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import stores
from stores import Store, documents
from stores.documents import Json
from stores.errors import StoreError
from stores.store import STORE_FILE

FORMAT, VERSION = "facets-axes", 1
SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Projection:
    """The settings that decide reduced features.

    Attributes:
        pca: number of principal axes, at least 1.
        centre: whether each clip's own mean is subtracted first.
        standardise: whether dimensions are scaled to unit variance first.
    """

    pca: int
    centre: bool
    standardise: bool

    def __str__(self) -> str:
        flags = {"centre": self.centre, "standardise": self.standardise}
        return ", ".join([f"pca: {self.pca}", *(f"{key}: {str(on).lower()}" for key, on in flags.items())])


@dataclass(frozen=True, slots=True)
class Reduced:
    """The files of one stream's axes and reduced features.

    Attributes:
        source: the features as they were extracted.
        folder: where the files are.
        projection: the settings.
        made_of: what decides the axes: the features, which clips of them, and what is done before.
        digests: training or validation clip -> digest of what its reduced features are made of.
    """

    source: Store
    folder: Path
    projection: Projection
    made_of: Mapping[str, Json]
    digests: Mapping[str, str]

    @property
    def axes(self) -> Path:
        """The file of the axes, one for every number of them."""
        digest = documents.digest(dict(self.made_of))[:12]
        return self.folder / f"{self.source.path.name}.axes-{digest}.safetensors"

    def features(self, axes_digest: str) -> Path:
        """The store of features that were reduced by the axes of this digest."""
        return self.folder / f"{self.source.path.name}.pca{self.projection.pca}-{axes_digest[:12]}"

    def missing(self) -> list[str]:
        """Returns the clips whose reduced features are not there, or are stale.

        Raises:
            StoreError: the store of reduced features is damaged.
        """
        if not self.axes.exists():
            return list(self.digests)
        path = self.features(digest_of(self.axes))
        if not (path / STORE_FILE).exists():
            return list(self.digests)
        return lacking(stores.open(path), self.digests)

    def require(self) -> None:
        """Makes sure that the reduced features of all clips are there.

        Raises:
            StoreError: they are missing or stale; says what to run.
        """
        if missing := self.missing():
            msg = (
                f"{len(missing)} of {len(self.digests)} clips of {self.source.path} are not reduced by"
                f" {self.projection} ({missing[0]} is the first): run facets features, with the same options"
            )
            raise StoreError(msg)


def lacking(store: Store, digests: Mapping[str, str]) -> list[str]:
    """Returns the clips that a store of reduced features lacks, or has from other features."""
    return [
        clip
        for clip, digest in digests.items()
        if not store.has(clip) or store.record(clip).source_digest != digest
    ]


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file of axes.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        msg = f"cannot read principal axes from {path}: {error}"
        raise StoreError(msg) from error


def locate(
    source: Store, labels: Store, splits: Mapping[str, str], folder: Path, projection: Projection
) -> Reduced:
    """Returns where the reduced features of a stream are, whether or not they are there.

    Args:
        source: the features as they were extracted.
        labels: the label store.
        splits: clip -> ``train`` or ``validation``.
        folder: where axes and reduced features are.
        projection: the settings.
    """
    made_of: dict[str, dict[str, Json]] = {split: {} for split in SPLITS}
    for clip in labels.clips():
        if (split := splits.get(clip)) not in made_of:
            continue
        arrays = source.record(clip).arrays
        digests: dict[str, Json] = {name: arrays[name].sha256 for name in ("features", "valid")}
        if projection.centre and labels.record(clip).attrs.get("static", False):
            digests["static"] = True
        made_of[split][clip] = digests
    train: dict[str, Json] = dict(made_of["train"])
    provenance: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "feature_digest": source.spec.digest(),
        "clips": train,
        "centre": projection.centre,
        "standardise": projection.standardise,
    }
    digests_of_clips = {
        clip: documents.digest(found) for split in SPLITS for clip, found in made_of[split].items()
    }
    return Reduced(source, folder, projection, provenance, digests_of_clips)
