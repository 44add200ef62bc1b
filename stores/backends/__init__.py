"""The file formats of clips: what a module must hold to be one, and the table of those there are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, get_args

from stores.backends.chunks import Location, StoredArray
from stores.digest import Array
from stores.errors import StoreError
from stores.spec import Spec

BackendName = Literal["hdf5", "zarr"]


class Backend(Protocol):
    """What a module must hold to be a file format of clips; ``StoreContract`` of the tests is its test.

    Attributes:
        SUFFIXES: what names of data end in: the usual one, and the one that a rewrite alternates with.
        IS_FOLDER: the data of a clip is a folder, not a file.
    """

    SUFFIXES: tuple[str, str]
    IS_FOLDER: bool

    def write(self, path: Path, arrays: Mapping[str, Array], spec: Spec) -> None:
        """Writes and syncs a clip into the empty file or folder ``path``; ``OSError`` if it cannot."""

    def size(self, path: Path, spec: Spec, frames: int) -> int:
        """Returns the clip's bytes on disk; ``StoreError`` if a part is missing or is not a plain file."""

    def locate(self, path: Path, spec: Spec, frames: int) -> dict[str, Location]:
        """Opens a clip and finds its chunks; ``StoreError`` if it is anything else than ``write`` makes."""

    def check_rest(self, path: Path, spec: Spec, frames: int) -> None:
        """Checks what is stored beside the arrays for other readers; ``StoreError`` if it is wrong."""


def backend_module(name: object) -> Backend:
    """Returns the module of a backend; imported on first use, so that the command line starts fast.

    Raises:
        StoreError: no such backend.
    """
    match name:
        case "hdf5":
            from stores.backends import hdf5

            return hdf5
        case "zarr":
            from stores.backends import zarr

            return zarr
    msg = f"unknown backend {name!r}: expected {' or '.join(get_args(BackendName))}"
    raise StoreError(msg)


def open_arrays(
    backend: Backend, path: Path, spec: Spec, frames: int, crcs: Mapping[str, str], *, mapped: bool = False
) -> dict[str, StoredArray]:
    """Opens the data of a clip.

    Args:
        backend: its file format.
        path: its file or folder.
        spec: spec of the store.
        frames: length of the clip.
        crcs: array name to the CRCs of its chunks, as ``chunks.checksums`` gives them.
        mapped: what has been checked is read again from a mapping of the file.

    Raises:
        StoreError: the data is anything else than a clip of so many frames.
    """
    layout, locations = spec.layout(frames), backend.locate(path, spec, frames)
    if mapped:
        for location in locations.values():
            location.file.map()
    return {name: StoredArray(locations[name], layout[name], crcs[name]) for name in layout}
