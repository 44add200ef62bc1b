"""The errors of FACETS: one root, few subclasses, each message saying what, where, expected, what to do.

Context that is known further up is added there by ``error.add_note(...)``.
"""

import difflib
from collections.abc import Iterable


class FacetsError(Exception):
    """Root of every error that FACETS raises on purpose; the command line prints it in one line."""


class StoreError(FacetsError):
    """A store, or one of its clips, is missing, damaged, hostile or used wrongly."""


class FormatVersionError(StoreError):
    """A store was written by a version of the format that this code does not know."""


class SpecMismatch(StoreError):
    """Two feature specifications that must be equal differ; the message names both values."""


class CorpusError(FacetsError):
    """A corpus on disk does not follow its format: file, line and remedy are in the message."""


class ConfigError(FacetsError):
    """A configuration, or a combination of settings, cannot be run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the hint of an error about an unknown name: the known one most like it, or all there are."""
    names = list(known)
    like = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if like:
        return f"did you mean {like[0]!r}?"
    return f"expected one of {', '.join(names)}" if names else "expected none"
