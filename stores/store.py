"""A store: the folder of committed clips, created, opened, read and written here.

Not the file formats (``stores.hdf5``, ``stores.zarr``) and not the order of a commit (``stores.commit``).
"""

import errno
import operator
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, get_args

from stores import commit, contents, documents
from stores.digest import Array, Reader, array_digest, stored_digest
from stores.documents import Json
from stores.errors import FormatVersionError, SpecMismatch, StoreError
from stores.layout import ArrayLayout
from stores.record import ArrayRecord, Record, check_clip_id, is_clip_id
from stores.spec import SPEC_KINDS, Spec, differences

FORMAT = "facets-store"
VERSION = 1
STORE_FILE = "store.json"
CLIPS_FOLDER = "clips"
RECORD_SUFFIX = ".json"
OPEN_CLIPS = 64
SPARE_BYTES = 2**20
REPAIR = "`facets verify --repair` removes damaged clips, `facets features` makes them again"

BackendName = Literal["hdf5", "zarr"]


class Backend(Protocol):
    """What a module must hold to be a file format of clips; ``stores.testing.StoreContract`` is its test."""

    SUFFIX: str
    IS_FOLDER: bool

    def write(self, path: Path, arrays: Mapping[str, Array], layout: Mapping[str, ArrayLayout]) -> None:
        """Writes and syncs a clip into the empty file or folder ``path``; ``OSError`` if it cannot."""

    def size(self, path: Path, layout: Mapping[str, ArrayLayout]) -> int:
        """Returns the clip's bytes on disk; ``StoreError`` if a part is missing or is not a plain file."""

    def open_clip(self, path: Path, layout: Mapping[str, ArrayLayout]) -> Reader:
        """Opens a clip; ``StoreError`` if it is anything else than what ``write`` makes for ``layout``."""


class Store:
    """An open store. It may be shared by threads, inherited by ``fork``, and pickled (as its path).

    Made by ``stores.create`` and ``stores.open``. Clip files are opened on first use in each process and the
    last few stay open.

    Attributes:
        path: absolute path of the folder.
        spec: what the store holds.
        backend: ``hdf5`` or ``zarr``.
    """

    def __init__(self, path: Path, spec: Spec, backend: BackendName) -> None:
        self.path = path
        self.spec = spec
        self.backend = backend
        self._forget_open_clips()

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path,)

    def __repr__(self) -> str:
        return f"<Store {self.path} {self.spec.kind} {self.backend}>"

    def clips(self) -> list[str]:
        """Returns the ids of the committed clips, sorted."""
        with os.scandir(self.path / CLIPS_FOLDER) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        ids = [name.removesuffix(RECORD_SUFFIX) for name in files if name.endswith(RECORD_SUFFIX)]
        return sorted(filter(is_clip_id, ids))

    def has(self, clip: str) -> bool:
        """Says whether ``clip`` is committed.

        Raises:
            StoreError: ``clip`` cannot be a clip id.
        """
        path = self.record_path(clip)
        return path.is_file() and not path.is_symlink()

    def record(self, clip: str) -> Record:
        """Returns the commit record of a clip.

        Raises:
            StoreError: the clip is not committed, or its record is damaged or of a store with another spec.
        """
        try:
            document = documents.read(self.record_path(clip))
        except FileNotFoundError as error:
            msg = f"clip {clip!r} is not in the store {self.path}: it has no commit record"
            raise StoreError(msg) from error
        try:
            return Record.parse(document, clip, self.spec)
        except StoreError as error:
            error.add_note(f"in the store {self.path}; {REPAIR}")
            raise

    def read(self, clip: str, array: str = "features", start: int = 0, stop: int | None = None) -> Array:
        """Reads a window of one array.

        Args:
            clip: id of a committed clip.
            array: name of the array.
            start: first frame.
            stop: frame after the last one; None for the end of the clip.

        Returns:
            ``(stop - start, ...)``, C order, the array's dtype; the caller's own copy.

        Raises:
            StoreError: no such clip or array, frames outside of ``0 <= start <= stop <= T``, or damaged data.
        """
        record, reader = self._open_clip(clip)
        if array not in record.arrays:
            msg = f"clip {clip!r} of {self.path} has no array {array!r}, only {', '.join(record.arrays)}"
            raise StoreError(msg)
        first = operator.index(start)
        last = record.frames if stop is None else operator.index(stop)
        if not 0 <= first <= last <= record.frames:
            msg = f"clip {clip!r} of {self.path}: frames {first}:{last} are not within 0:{record.frames}"
            raise StoreError(msg)
        return reader.read(array, first, last)

    def write(
        self,
        clip: str,
        arrays: Mapping[str, Array],
        attrs: Mapping[str, Json] | None = None,
        source_digest: str = "",
    ) -> Record:
        """Writes one clip and commits it; when this returns the clip is on disk, also after a power cut.

        A clip that is there is replaced; killed at the wrong moment that leaves none, never a mixture. At any
        time a clip has at most one writer; different clips may be written by any number of processes at once.

        Args:
            clip: id of the clip.
            arrays: every array of the store's kind, C order or not, little-endian, all of ``T >= 1`` frames.
            attrs: what else is known of the clip; plain JSON.
            source_digest: digest of what the clip was made from.

        Returns:
            The commit record.

        Raises:
            StoreError: the arrays break a promise of the spec, or the disk is full or failing. Other clips
                are untouched; so is this clip's old version, unless the disk fails in the last steps.
        """
        record_path, data_path = self.record_path(clip), self.data_path(clip)
        attrs = contents.check_attrs(clip, attrs or {}, self.spec)
        layout = contents.check_arrays(clip, arrays, self.spec)
        folder, backend = self.path / CLIPS_FOLDER, backend_module(self.backend)
        ordered = {
            name: arrays[name].astype(array.dtype, order="C", copy=False) for name, array in layout.items()
        }
        digests = {name: array_digest(array) for name, array in ordered.items()}
        try:
            self._require_space(clip, sum(array.nbytes for array in layout.values()))
            with commit.temporary(folder, data_path.name, tree=backend.IS_FOLDER) as data:
                backend.write(data, ordered, layout)
                self._require_digests(clip, data, layout, digests)
                record = Record(
                    clip=clip,
                    frames=next(iter(layout.values())).shape[0],
                    arrays={n: ArrayRecord(a.shape, a.dtype, digests[n]) for n, a in layout.items()},
                    attrs=attrs,
                    source_digest=source_digest,
                    spec_sha256=self.spec.digest(),
                    data_bytes=backend.size(data, layout),
                )
                with commit.temporary(folder, record_path.name) as new_record:
                    commit.write_file(new_record, [record.render()])
                    commit.publish_clip(data, data_path, new_record, record_path)
        except OSError as error:
            cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            msg = f"clip {clip!r} was not written to {data_path}: {cause}; other clips are untouched"
            raise StoreError(msg) from error
        return record

    def data_path(self, clip: str) -> Path:
        """Returns where the data of ``clip`` is, or would be."""
        return self.path / CLIPS_FOLDER / (check_clip_id(clip) + backend_module(self.backend).SUFFIX)

    def record_path(self, clip: str) -> Path:
        """Returns where the commit record of ``clip`` is, or would be."""
        return self.path / CLIPS_FOLDER / (check_clip_id(clip) + RECORD_SUFFIX)

    def open_data(self, record: Record) -> Reader:
        """Opens the data that ``record`` describes, without keeping it open.

        Raises:
            StoreError: the data is missing, or is not what the record describes.
        """
        path, layout = self.data_path(record.clip), self.spec.layout(record.frames)
        backend = backend_module(self.backend)
        found = backend.size(path, layout)
        if found != record.data_bytes:
            msg = f"clip {record.clip!r}: {path} takes {found} bytes, its record says {record.data_bytes}"
            raise StoreError(msg)
        return backend.open_clip(path, layout)

    def _open_clip(self, clip: str) -> tuple[Record, Reader]:
        if os.getpid() != self._pid:
            # The parent's handles, and a lock that another of its threads may have held, are of no use here.
            self._forget_open_clips()
        try:
            status = self.record_path(clip).lstat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            version = None  # record() says so
        with self._lock:
            if clip not in self._open or self._open[clip][0] != version:
                record = self.record(clip)
                try:
                    self._open[clip] = version, record, self.open_data(record)
                except StoreError as error:
                    error.add_note(REPAIR)
                    raise
                if len(self._open) > OPEN_CLIPS:
                    self._open.popitem(last=False)
            self._open.move_to_end(clip)
            _, record, reader = self._open[clip]
        return record, reader

    def _forget_open_clips(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[tuple[int, int, int] | None, Record, Reader]] = OrderedDict()
        self._pid = os.getpid()  # last: another thread of a forked child that sees it finds the new lock

    def _require_space(self, clip: str, nbytes: int) -> None:
        needed = nbytes + nbytes // 10 + SPARE_BYTES
        free = shutil.disk_usage(self.path).free
        if free < needed:
            msg = f"clip {clip!r} needs {needed} bytes at {self.path}, {free} are free: make room"
            raise StoreError(msg)

    def _require_digests(
        self, clip: str, data: Path, layout: Mapping[str, ArrayLayout], digests: Mapping[str, str]
    ) -> None:
        reader = backend_module(self.backend).open_clip(data, layout)
        for name, array in layout.items():
            if stored_digest(reader, name, array) != digests[name]:
                msg = f"clip {clip!r}: {name!r} read back from {data} is not what was written: check the disk"
                raise StoreError(msg)


def create(path: str | os.PathLike[str], spec: Spec, backend: BackendName = "hdf5") -> Store:
    """Creates a store, or opens the one that is there if it is the same; the entry of every writer.

    Also removes what killed writers of this machine left half-written.

    Args:
        path: folder of the store; made with its parents if it is not there.
        spec: what the store holds.
        backend: file format of the clips.

    Raises:
        SpecMismatch: the store that is there has another spec; the message names every field that differs,
            with both values.
        StoreError: the store that is there has another backend, or the folder holds something else.
    """
    backend_module(backend)
    folder = Path(path).absolute()
    clips = folder / CLIPS_FOLDER
    try:
        if not os.path.lexists(folder / STORE_FILE):
            _require_empty(folder)
            clips.mkdir(parents=True, exist_ok=True)
            document: dict[str, Json] = {
                "format": FORMAT,
                "version": VERSION,
                "kind": spec.kind,
                "backend": backend,
                "spec": spec.to_json(),
            }
            commit.publish_first(folder / STORE_FILE, documents.render(document))
            commit.sync_folder(folder.parent)
        store = open(folder)
        _require_same(store, spec, backend)
        commit.remove_abandoned(folder)
        commit.remove_abandoned(clips)
    except OSError as error:
        msg = f"cannot create a store at {folder}: {error}"
        raise StoreError(msg) from error
    return store


def open(path: str | os.PathLike[str]) -> Store:
    """Opens a store.

    Raises:
        FormatVersionError: the store has a version of the format that this code does not know.
        StoreError: there is no store, or its description is damaged.
    """
    folder = Path(path).absolute()
    file = folder / STORE_FILE
    try:
        document = documents.read(file)
    except FileNotFoundError as error:
        msg = f"there is no store at {folder}: it has no {STORE_FILE}; `facets features` makes the stores"
        raise StoreError(msg) from error
    if document.get("format") != FORMAT:
        msg = f"{file} is not of a store: format is {document.get('format')!r}, expected {FORMAT!r}"
        raise StoreError(msg)
    if document.get("version") != VERSION:
        msg = (
            f"the store {folder} has format version {document.get('version')!r}, this code knows {VERSION}: "
            f"use the release of FACETS that wrote it, or make the store again in another folder"
        )
        raise FormatVersionError(msg)
    if document.keys() != {"format", "version", "kind", "backend", "spec"}:
        msg = f"{file} has keys {sorted(document)}, expected format, version, kind, backend, spec"
        raise StoreError(msg)
    kind, backend, spec = document["kind"], document["backend"], document["spec"]
    if not isinstance(kind, str) or kind not in SPEC_KINDS or not isinstance(spec, dict):
        msg = f"{file}: kind is {kind!r}, expected {' or '.join(SPEC_KINDS)} with a spec object"
        raise StoreError(msg)
    clips = folder / CLIPS_FOLDER
    if clips.is_symlink() or not clips.is_dir():
        msg = f"the store {folder} has no folder {CLIPS_FOLDER!r} (symbolic links are refused)"
        raise StoreError(msg)
    try:
        store_spec = SPEC_KINDS[kind].from_json(spec)
        backend_module(backend)
    except StoreError as error:
        error.add_note(f"read from {file}")
        raise
    return Store(folder, store_spec, "hdf5" if backend == "hdf5" else "zarr")


def backend_module(name: object) -> Backend:
    """Returns the module of a backend; imported on first use, so that the command line starts fast.

    Raises:
        StoreError: no such backend.
    """
    match name:
        case "hdf5":
            from stores import hdf5

            return hdf5
        case "zarr":
            from stores import zarr

            return zarr
    msg = f"unknown backend {name!r}: expected {' or '.join(get_args(BackendName))}"
    raise StoreError(msg)


def _require_empty(folder: Path) -> None:
    # A creation that was killed leaves at most an empty folder of clips and temporaries.
    if not os.path.lexists(folder):
        return
    clips = folder / CLIPS_FOLDER
    strangers = {entry.name for entry in folder.iterdir() if not entry.name.startswith(commit.TEMPORARY)}
    if STORE_FILE in strangers:  # another process has just created it
        return
    if strangers - {CLIPS_FOLDER} or (strangers and any(clips.iterdir())):
        names = ", ".join(sorted(strangers)[:5])
        msg = f"{folder} is not a store and not empty: it holds {names}; choose another folder"
        raise StoreError(msg)


def _require_same(store: Store, spec: Spec, backend: BackendName) -> None:
    different = differences(store.spec, spec)
    if different:
        values = "; ".join(f"{name} is {have!r}, wanted {want!r}" for name, (have, want) in different.items())
        msg = (
            f"the store {store.path} has another spec: {values}: choose another folder, or delete this store"
        )
        raise SpecMismatch(msg)
    if store.backend != backend:
        msg = (
            f"the store {store.path} has backend {store.backend!r}, wanted {backend!r}: "
            f"choose another folder, or make a copy with `facets convert`"
        )
        raise StoreError(msg)
