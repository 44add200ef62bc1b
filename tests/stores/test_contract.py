"""The contract suite on every backend.

Not where backends differ: that is in the tests of each format.
"""

from stores.testing import StoreContract


class TestHdf5Store(StoreContract):
    backend = "hdf5"


class TestZarrStore(StoreContract):
    backend = "zarr"
