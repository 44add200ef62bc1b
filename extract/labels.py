"""Writes the labels of a corpus into a label store, clip by clip, where they changed.

Labels are stored under the names that the corpus has them; ``extract.corpora.labelspace`` maps them before.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import stores
from extract.corpora import Clip, Corpus
from stores import LabelSpec, documents
from stores.documents import Json
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What ``write_labels`` did.

    Attributes:
        written: ids of the clips whose labels are new or changed.
        unchanged: ids of the clips left as they were.
        extra: ids in the store that the corpus no longer has; they are kept.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    extra: tuple[str, ...]


def write_labels(
    corpus: Corpus, path: Path, backend: stores.BackendName = "hdf5", progress: Progress = silent
) -> LabelReport:
    """Makes the label store at ``path`` hold the labels of ``corpus``; nothing is removed.

    Args:
        corpus: whose labels; ids and frame counts are those of its feature store.
        path: folder of the store, made when absent.
        backend: file format of the clips.
        progress: called with step ``labels`` and clips done.

    Raises:
        SpecMismatch: the store that is there is of another corpus, edition or list of names.
        StoreError: the store cannot be written.
    """
    spec = LabelSpec(corpus.name, corpus.edition, corpus.expression_names, corpus.au_names)
    store = stores.create(path, spec, backend)
    written: list[str] = []
    unchanged: list[str] = []
    for done, clip in enumerate(corpus.clips):
        progress("labels", len(corpus.clips), done)
        attrs: dict[str, Json] = {
            "corpus": clip.corpus or corpus.name,
            "fps": clip.fps,
            "split": clip.split,
            "subject": clip.subject,
            "video": clip.video,
        }
        # Absent is the default, so that stores from before there were static clips and weights read the same.
        if not clip.scored:
            attrs["scored"] = False
        if clip.static:
            attrs["static"] = True
        if clip.weight != 1:
            attrs["weight"] = clip.weight
        digest = _digest(clip, attrs)
        if store.has(clip.id) and store.record(clip.id).source_digest == digest:
            unchanged.append(clip.id)
            continue
        arrays: dict[str, NDArray[Any]] = {
            "valence": clip.labels.valence,
            "arousal": clip.labels.arousal,
            "expression": clip.labels.expression,
            "au": clip.labels.au,
        }
        store.write(clip.id, arrays, attrs, digest)
        written.append(clip.id)
    progress("labels", len(corpus.clips), len(corpus.clips))
    extra = tuple(sorted(set(store.clips()) - {clip.id for clip in corpus.clips}))
    if extra:
        logger.warning(
            "%s holds %d clips that the corpus no longer has, such as %s: delete the store to be rid of them",
            path,
            len(extra),
            extra[0],
        )
    return LabelReport(tuple(written), tuple(unchanged), extra)


def _digest(clip: Clip, attrs: Mapping[str, Json]) -> str:
    digest = hashlib.sha256(documents.canonical(attrs))
    for array in (clip.labels.valence, clip.labels.arousal, clip.labels.expression, clip.labels.au):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
