"""What a table states of the splits: clips and labelled frames, chance levels, whose labels were trained on.

Not a score of any run. The facts are kept in ``splits.json`` with the digest of the labels that they are of,
so that ``facets table`` need not import torch to print them again.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.data import SCORED, TRAIN, Data
from pipeline.ledger import write_json
from stores.editions import edition as edition_named
from stores.errors import CorpusError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """The split that every run is scored on.

    Attributes:
        labels: digest of the labels that the facts are of.
        edition: whose metrics the chance levels are for.
        clips: number of clips.
        frames: number of labelled frames per task.
        chance: task -> metric -> what can be expected without seeing an image.
        trained: corpus -> task -> labelled frames of the training split, for the rules of competitions.
    """

    labels: str
    edition: str
    clips: int
    frames: Mapping[str, int]
    chance: Mapping[str, Mapping[str, float]]
    trained: Mapping[str, Mapping[str, int]]


def scored_split(data: Data, edition: str, path: Path) -> Scored:
    """Returns the facts of the scored split: those in ``path`` if of these labels, else taken anew.

    Args:
        data: the stores.
        edition: whose metrics the table shows.
        path: the file that keeps the facts; it is replaced where it is absent, of other labels, or damaged.
    """
    kept = _read(path)
    if kept is not None and (kept.labels, kept.edition) == (data.digests["labels"], edition):
        return kept
    taken = _measure(data, edition)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(taken))
    return taken


def _read(path: Path) -> Scored | None:
    if not path.exists():
        return None
    try:
        return Scored(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        logger.warning("%s cannot be read (%s): its facts are taken from the labels again", path, error)
        return None


def _measure(data: Data, edition: str) -> Scored:
    from temporal import TASKS, chance_levels

    clips = [clip for clip in data.labels.clips() if data.labels.record(clip).attrs["split"] == SCORED]
    if not clips:
        msg = (
            f"no clip of {data.labels.path} is of split {SCORED}: nothing to score; set corpus.split, such as"
            " {kfold: 5, fold: 0}, and run facets features again, which keeps the features"
        )
        raise CorpusError(msg)
    labels = {
        task: np.concatenate([data.labels.read(clip, spec.array) for clip in clips])
        for task, spec in TASKS.items()
    }
    frames = {task: int(_known(values).sum()) for task, values in labels.items()}
    names = data.label_spec
    rules = replace(edition_named(edition), expressions=names.expression_names, aus=names.au_names)
    return Scored(
        data.digests["labels"], edition, len(clips), frames, chance_levels(labels, rules), _trained(data)
    )


def _trained(data: Data) -> dict[str, dict[str, int]]:
    from temporal import TASKS

    counts: dict[str, dict[str, int]] = {}
    for clip in data.labels.clips():
        attrs = data.labels.record(clip).attrs
        if attrs["split"] == TRAIN:
            own = counts.setdefault(str(attrs["corpus"]), dict.fromkeys(TASKS, 0))
            for task, spec in TASKS.items():
                own[task] += int(_known(data.labels.read(clip, spec.array)).sum())
    return counts


def _known(values: np.ndarray) -> np.ndarray:
    """Returns (F,) bool: whether a frame has a label; of several cells, one known cell is enough."""
    cells = np.isfinite(values) if values.dtype.kind == "f" else values >= 0
    return np.asarray(cells.reshape(len(cells), -1).any(axis=1))
