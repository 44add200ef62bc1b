"""Features that others made, read from their files into a store, with what is known of their origin."""

from extract.importing.importer import FailedClip, ImportReport, import_features
from extract.importing.request import UNKNOWN, ImportOptions, Selection

__all__ = ["UNKNOWN", "FailedClip", "ImportOptions", "ImportReport", "Selection", "import_features"]
