"""The contract between the two stages: stores of features and of labels, one committed clip at a time.

Nothing here imports torch, and file formats are imported on first use.
"""

from stores.backends import BackendName
from stores.conversion import convert
from stores.description import Description, describe
from stores.record import ArrayRecord, Record
from stores.spec import FeatureSpec, LabelSpec, differences
from stores.store import Store, create, open
from stores.verification import Finding, Verification, verify

__all__ = [
    "ArrayRecord",
    "BackendName",
    "Description",
    "FeatureSpec",
    "Finding",
    "LabelSpec",
    "Record",
    "Store",
    "Verification",
    "convert",
    "create",
    "describe",
    "differences",
    "open",
    "verify",
]
