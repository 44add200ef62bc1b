"""What the numbers of a sweep rest on: corpus, features, scored clips, labelled frames and chance levels.

It is taken from the stores when a sweep is planned, and kept in the plan: a table prints without any store.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.config import MIXTURE, Config, Reading
from pipeline.config.folding import Folds
from pipeline.data import SCORED, TRAIN, Data
from pipeline.folds import Division
from stores import FeatureSpec, LabelSpec
from stores.documents import Json
from stores.editions import edition as edition_named
from stores.errors import CorpusError
from temporal.chance import chance_levels
from temporal.tasks import TASKS

CORPUS_NOTES = {
    "rendered": (
        "faces drawn and animated by a program, labelled by the same program; it shows that the pipeline"
        " works and says nothing about people"
    ),
    "affwild2": "aligned face crops and annotations of Aff-Wild2",
    "affwild2_mtl": (
        "aligned face crops and annotations of the multi-task tracks, s-Aff-Wild2 from ABAW-4 on"
    ),
}
OFFICIAL = dict.fromkeys(("affwild2", "affwild2_mtl"), "official training and validation videos")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a reader must know to judge the numbers of a sweep.

    Attributes:
        corpus: kind of corpus, such as ``rendered`` or ``affwild2``.
        corpus_note: a phrase saying what the corpus is and is not, and how it is divided.
        streams: specification of the features of each stream.
        labels: edition, classes and action units that are trained and scored.
        clips: number of scored clips, of all folds together.
        frames: labelled frames of the scored clips, per task.
        chance: task -> metric -> what can be expected without seeing an image, on the same frames.
        trained: corpus -> task -> labelled frames of training clips, for the rules of competitions.
        facets_version: version of this program.
    """

    corpus: str
    corpus_note: str
    streams: Mapping[str, FeatureSpec]
    labels: LabelSpec
    clips: int
    frames: Mapping[str, int]
    chance: Mapping[str, Mapping[str, float]]
    trained: Mapping[str, Mapping[str, int]]
    facets_version: str

    def to_json(self) -> dict[str, Json]:
        """Returns the provenance as a JSON object; ``from_json`` takes it back."""
        document: dict[str, Json] = {name: getattr(self, name) for name in self.__slots__}
        streams = {name: spec.to_json() for name, spec in self.streams.items()}
        return document | {"streams": streams, "labels": self.labels.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Provenance":
        """Builds the provenance from a JSON object.

        Raises:
            KeyError, TypeError, StoreError: it is not what ``to_json`` returns.
        """
        streams = {name: FeatureSpec.from_json(spec) for name, spec in document["streams"].items()}
        frames = {task: document["frames"][task] for task in TASKS}  # JSON is sorted by name
        specs = {"streams": streams, "labels": LabelSpec.from_json(document["labels"]), "frames": frames}
        return cls(**{**document, **specs})


def collect(
    config: Config, data: Data, divisions: Iterable[Division], before: Provenance | None = None
) -> Provenance:
    """Returns what the numbers of ``config`` on ``data`` rest on.

    Args:
        config: the experiment.
        data: its stores.
        divisions: its folds, or its official splits.
        before: that of an earlier plan for the same labels and divisions: labels are not read again.

    Raises:
        CorpusError: no clip is scored.
    """
    members: dict[str, set[str]] = {TRAIN: set(), SCORED: set()}
    for division in divisions:
        for clip, split in division.splits.items():
            members[split].add(clip)
    if not members[SCORED]:
        msg = (
            f"no clip of {data.labels.path} is of split {SCORED}: nothing to score; set sweep.folds, such as"
            " {count: 5}"
        )
        raise CorpusError(msg)
    facts = before or measured(config, data, sorted(members[TRAIN]), sorted(members[SCORED]))
    return replace(
        facts,
        corpus=data.label_spec.corpus,
        corpus_note=corpus_note(config),
        streams=dict(data.specs),
        labels=data.label_spec,
        facets_version=importlib.metadata.version("facets"),
    )


def measured(config: Config, data: Data, train: list[str], scored: list[str]) -> Provenance:
    """Returns the facts that labels must be read for."""
    labels = {
        task: np.concatenate([data.labels.read(clip, spec.array) for clip in scored])
        for task, spec in TASKS.items()
    }
    trained: dict[str, dict[str, int]] = {}
    for clip in train:
        own = trained.setdefault(str(data.records[clip].attrs["corpus"]), dict.fromkeys(TASKS, 0))
        for task, spec in TASKS.items():
            own[task] += _labelled(data.labels.read(clip, spec.array))
    names = data.label_spec
    rules = replace(
        edition_named(config.corpus.edition), expressions=names.expression_names, aus=names.au_names
    )
    frames = {task: _labelled(values) for task, values in labels.items()}
    chance = chance_levels(labels, rules)
    return Provenance("", "", {}, names, len(scored), frames, chance, trained, "")


def corpus_note(config: Config) -> str:
    """Returns what an experiment's corpus consists of, and how it is divided, as a phrase."""
    settings, folds = config.corpus, config.sweep.folds if config.sweep else None
    if settings.kind != MIXTURE:
        note = CORPUS_NOTES.get(settings.kind, "the corpus as its reader gives it")
        divided = folds_note(folds) if folds else division_note(settings) or OFFICIAL.get(settings.kind)
        return ", ".join(filter(None, (note, divided)))
    parts = []
    for name, part in settings.parts.items():
        facts = [f"weight {part.weight:g}", "scored" if name in settings.score else "", division_note(part)]
        parts.append(f"{name} ({', '.join(filter(None, facts))})")
    return f"a mixture of {', '.join(parts)}" + (f", {folds_note(folds)}" if folds else "")


def folds_note(folds: Folds) -> str:
    """Returns how folds were made, as a phrase."""
    if folds.file is not None:
        return f"divided into the folds of {folds.file.name}"
    if folds.leave_out is not None:
        return f"leaving out one {folds.leave_out} at a time"
    stratified = ", alike in their persons' main expressions" if folds.stratify else ""
    return f"divided into {folds.count} folds by {folds.by}{stratified} (seed {folds.seed})"


def division_note(reading: Reading) -> str:
    """Returns how a corpus is divided in words; "" for its official splits."""
    if reading.split is None:
        return ""
    return "validated on its official test split, on which the best epoch is chosen"


def _labelled(values: np.ndarray) -> int:
    """Returns how many frames have a label; of several cells, one known cell is enough."""
    known = np.isfinite(values) if values.dtype.kind == "f" else values >= 0
    return int(known.reshape(len(known), -1).any(axis=1).sum())
