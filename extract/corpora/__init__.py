"""Corpora by kind: ``load(kind, root, edition)`` reads a tree on disk into a ``Corpus``.

A reader is imported when its kind is asked for.
"""

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from extract.corpora.clip import (
    MAX_STATIC_ROWS,
    Clip,
    Corpus,
    CropFrames,
    Crops,
    Labels,
    NamedFrames,
    Split,
)
from stores.documents import Json
from stores.errors import ConfigError, nearest

logger = logging.getLogger(__name__)

__all__ = [
    "KINDS",
    "MAX_STATIC_ROWS",
    "Clip",
    "Corpus",
    "CropFrames",
    "Crops",
    "Labels",
    "NamedFrames",
    "Split",
    "load",
]

# One line and one module add a corpus: ``load(root: Path, edition: str, *, <options>) -> Corpus``.
KINDS = {
    "afew_va": "extract.corpora.readers.afew_va",
    "affectnet": "extract.corpora.readers.affectnet",
    "affwild2": "extract.corpora.readers.affwild2.challenge",
    "affwild2_mtl": "extract.corpora.readers.affwild2.static_frames",
    "bp4d": "extract.corpora.readers.bp4d",
    "ckplus": "extract.corpora.readers.ckplus",
    "disfa": "extract.corpora.readers.disfa",
    "disfaplus": "extract.corpora.readers.disfaplus",
    "expw": "extract.corpora.readers.expw",
    "manifest": "extract.corpora.readers.manifest",
    "rafau": "extract.corpora.readers.rafau",
    "rafce": "extract.corpora.readers.rafce",
    "rafdb": "extract.corpora.readers.rafdb",
    "rendered": "extract.corpora.rendered",
}


def load(kind: str, root: Path, edition: str, **options: Json) -> Corpus:
    """Reads the corpus of ``kind`` under ``root``.

    Args:
        kind: a key of ``KINDS``.
        root: folder of the corpus.
        edition: ABAW edition whose label lists the files must follow; readers of other corpora ignore it.
        options: keywords of the reader, such as ``au_threshold``.

    Raises:
        ConfigError: unknown kind, edition or option, the message lists the known ones; or an option of
            another type than the reader's.
        CorpusError: the tree does not follow its format.
    """
    if kind not in KINDS:
        msg = f"unknown corpus kind {kind!r}: expected one of {', '.join(KINDS)}"
        raise ConfigError(msg)
    read = importlib.import_module(KINDS[kind]).load
    _check_options(kind, read, options)
    corpus: Corpus = read(Path(root), edition, **options)
    for note in corpus.notes:
        logger.info("%s: %s", root, note)
    return corpus


_WORDS = {bool: "true or false", float: "a number", int: "a whole number", str: "text", NoneType: "null"}


def _check_options(kind: str, read: Callable[..., Corpus], options: Mapping[str, Json]) -> None:
    known = [
        name
        for name, parameter in inspect.signature(read).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    types = get_type_hints(read)
    for name, value in options.items():
        if name not in known:
            msg = f"unknown option {name!r} of a corpus of kind {kind}, {nearest(name, known)}"
            raise ConfigError(msg)
        if not _fits(value, types[name]):
            kinds = get_args(types[name]) or (types[name],)
            several = get_origin(types[name]) is Sequence
            expected = "a list of text" if several else " or ".join(_WORDS[one] for one in kinds)
            msg = f"option {name!r} of a corpus of kind {kind}: found {value!r}, expected {expected}"
            raise ConfigError(msg)


def _fits(value: Json, wanted: Any) -> bool:
    """Whether a value is of the type of a keyword; true and false are no numbers, text is no list of it."""
    if isinstance(wanted, UnionType):
        return any(_fits(value, one) for one in get_args(wanted))
    if get_origin(wanted) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, *get_args(wanted)) for item in value)
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)
