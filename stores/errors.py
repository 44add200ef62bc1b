"""The errors of FACETS: one root, few subclasses, each message saying what, where, expected, what to do.

Context that is known further up is added there by ``error.add_note(...)``.
"""


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
