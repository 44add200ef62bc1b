"""Corpora by kind: ``load(kind, root, edition)`` reads a tree on disk into a ``Corpus``.

Not an importer of every reader: a reader is imported when its kind is asked for.
"""

import importlib
from pathlib import Path

from extract.corpora.clip import Clip, Corpus, CropFrames, Crops, Labels, Split
from stores.errors import ConfigError

__all__ = ["KINDS", "Clip", "Corpus", "CropFrames", "Crops", "Labels", "Split", "load"]

# One line and one module add a corpus: ``load(root: Path, edition: str) -> Corpus``.
KINDS = {
    "affwild2": "extract.corpora.affwild2",
    "affwild2_mtl": "extract.corpora.affwild2_mtl",
    "rendered": "extract.corpora.rendered",
}


def load(kind: str, root: Path, edition: str) -> Corpus:
    """Reads the corpus of ``kind`` under ``root``.

    Args:
        kind: a key of ``KINDS``.
        root: folder of the corpus.
        edition: ABAW edition whose label lists the files must follow.

    Raises:
        ConfigError: unknown kind or edition; the message lists the known ones.
        CorpusError: the tree does not follow its format.
    """
    if kind not in KINDS:
        msg = f"unknown corpus kind {kind!r}: expected one of {', '.join(KINDS)}"
        raise ConfigError(msg)
    corpus: Corpus = importlib.import_module(KINDS[kind]).load(Path(root), edition)
    return corpus
