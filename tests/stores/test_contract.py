"""The contract suite on every backend."""

from store_contract import StoreContract


class TestHdf5Store(StoreContract):
    backend = "hdf5"


class TestZarrStore(StoreContract):
    backend = "zarr"
