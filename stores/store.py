"""A store: the folder of committed clips, created, opened, read and written here.

Not the file formats (``stores.hdf5``, ``stores.zarr``) and not the order of a commit (``stores.commit``).
"""

import errno
import logging
import operator
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from stores import commit, contents, documents
from stores.chunks import Location, StoredArray, checksums
from stores.digest import Array, array_digest
from stores.documents import Json
from stores.errors import FormatVersionError, SpecMismatch, StoreError
from stores.record import ArrayRecord, Record, check_clip_id, data_names, is_clip_id
from stores.spec import SPEC_KINDS, Spec, differences

logger = logging.getLogger(__name__)

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
    """What a module must hold to be a file format of clips; ``stores.testing.StoreContract`` is its test.

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


Version: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class OpenClip:
    """The open data of one version of a clip.

    Attributes:
        record_file: path of the commit record.
        version: changes whenever the clip is committed.
        record: the commit record.
        arrays: array name to stored array.
    """

    record_file: str
    version: Version | None
    record: Record
    arrays: Mapping[str, StoredArray]


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
            return Record.parse(document, clip, self.spec, backend_module(self.backend).SUFFIXES)
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
        opened = self._kept_open(clip)
        if array not in opened.arrays:
            msg = f"clip {clip!r} of {self.path} has no array {array!r}, only {', '.join(opened.arrays)}"
            raise StoreError(msg)
        frames, first = opened.record.frames, operator.index(start)
        last = frames if stop is None else operator.index(stop)
        if not 0 <= first <= last <= frames:
            msg = f"clip {clip!r} of {self.path}: frames {first}:{last} are not within 0:{frames}"
            raise StoreError(msg)
        try:
            return opened.arrays[array].read(first, last)
        except StoreError as error:
            error.add_note(REPAIR)
            raise

    def read_many(
        self, windows: Iterable[tuple[str, int, int | None]], array: str = "features", threads: int = 4
    ) -> list[Array]:
        """Reads many windows of one array, by several threads, which hides the latency of a disk.

        Args:
            windows: ``(clip, start, stop)`` of each, as for ``read``.
            array: name of the array.
            threads: how many windows are read at a time.

        Returns:
            One array per window, in the order of the windows.

        Raises:
            StoreError: as ``read``, for the first window that cannot be read.
        """
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda window: self.read(window[0], array, *window[1:]), windows))

    def write(
        self,
        clip: str,
        arrays: Mapping[str, Array],
        attrs: Mapping[str, Json] | None = None,
        source_digest: str = "",
    ) -> Record:
        """Writes one clip and commits it; when this returns the clip is on disk, also after a power cut.

        A clip that is there is replaced: at any moment readers find its old version or its new one, whole.
        Any number of processes may write any clips at once; of those that write the same clip the last wins.

        Args:
            clip: id of the clip.
            arrays: every array of the store's kind, C order or not, little-endian, all of ``T >= 1`` frames.
            attrs: what else is known of the clip; plain JSON.
            source_digest: digest of what the clip was made from.

        Returns:
            The commit record.

        Raises:
            StoreError: the arrays break a promise of the spec, or the disk is full or failing. What was
                committed is untouched, unless the disk fails in the very last step: then the clip may have
                its new version.
        """
        record_path = self.record_path(clip)
        attrs = contents.check_attrs(clip, attrs or {}, self.spec)
        layout = contents.check_arrays(clip, arrays, self.spec)
        folder, backend = self.path / CLIPS_FOLDER, backend_module(self.backend)
        ordered = {
            name: arrays[name].astype(array.dtype, order="C", copy=False) for name, array in layout.items()
        }
        crcs = {name: checksums(ordered[name], array) for name, array in layout.items()}
        try:
            self.require_space(f"clip {clip!r}", sum(array.padded_bytes for array in layout.values()))
            # SHA-256 takes as long as the disk: one thread hashes while the other one waits.
            with (
                ThreadPoolExecutor(1) as hashing,
                commit.temporary(folder, clip + backend.SUFFIXES[0], tree=backend.IS_FOLDER) as data,
            ):
                hashed = hashing.submit(lambda: {n: array_digest(array) for n, array in ordered.items()})
                backend.write(data, ordered, self.spec)
                self._require_equal(clip, data, ordered, crcs)
                digests = hashed.result()
                record = Record(
                    clip=clip,
                    frames=next(iter(layout.values())).shape[0],
                    arrays={n: ArrayRecord(a.shape, a.dtype, digests[n], crcs[n]) for n, a in layout.items()},
                    attrs=attrs,
                    source_digest=source_digest,
                    spec_sha256=self.spec.digest(),
                    data=data.name,
                    data_bytes=backend.size(data, self.spec, next(iter(layout.values())).shape[0]),
                )
                with commit.exclusive(self.path / STORE_FILE):
                    return self._publish(data, record, record_path)
        except OSError as error:
            cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
            msg = f"clip {clip!r} was not written to {self.path}: {cause}; what was committed is untouched"
            raise StoreError(msg) from error

    def _publish(self, new_data: Path, record: Record, record_path: Path) -> Record:
        """Gives complete, synced data its name, then its record; returns the record as published.

        The data takes the name that the committed version does not have, so that the old record describes
        the old data until the new record replaces it, in one step.
        """
        folder, in_use = record_path.parent, self._data_in_use(record.clip)
        names = self._data_names(record.clip)
        free = next(name for name in names if name != in_use)
        commit.remove(folder / free)  # what a killed writer left
        record = replace(record, data=free)
        with commit.temporary(folder, record_path.name) as new_record:
            commit.write_document(new_record, record.render())
            new_data.replace(folder / free)
            commit.sync_folder(folder)
            new_record.replace(record_path)
            commit.sync_folder(folder)
        for old in (folder / name for name in names if name != free):
            try:
                commit.remove(old)
            except OSError as error:
                logger.warning("the old data %s could not be removed: %s", old, error.strerror)
        return record

    def data_path(self, clip: str) -> Path:
        """Returns where the data of ``clip`` is, or would be."""
        name = self._data_in_use(clip) or self._data_names(clip)[0]
        return self.path / CLIPS_FOLDER / name

    def record_path(self, clip: str) -> Path:
        """Returns where the commit record of ``clip`` is, or would be."""
        return self.path / CLIPS_FOLDER / (check_clip_id(clip) + RECORD_SUFFIX)

    def version(self, clip: str) -> Version | None:
        """Returns what changes whenever a clip is committed; None if it is not committed.

        Raises:
            StoreError: ``clip`` cannot be a clip id.
        """
        return _version(os.fspath(self.record_path(clip)))

    def open_clip(self, clip: str) -> OpenClip:
        """Opens the version of a clip that is committed now, without keeping it open.

        Raises:
            StoreError: no such clip, or it is damaged.
        """
        while True:
            version = self.version(clip)
            try:
                record = self.record(clip)
                arrays = self._open_data(record)
            except StoreError as error:
                if self.version(clip) == version:
                    error.add_note(REPAIR)
                    raise
            else:
                # Unchanged, so the data is that of the record; else somebody rewrote the clip meanwhile.
                if self.version(clip) == version:
                    return OpenClip(os.fspath(self.record_path(clip)), version, record, arrays)

    def _open_data(self, record: Record) -> dict[str, StoredArray]:
        path, backend = self.path / CLIPS_FOLDER / record.data, backend_module(self.backend)
        found = backend.size(path, self.spec, record.frames)
        if found != record.data_bytes:
            msg = f"clip {record.clip!r}: {path} takes {found} bytes, its record says {record.data_bytes}"
            raise StoreError(msg)
        return self._stored(
            path, record.frames, {n: array.chunk_crc32c for n, array in record.arrays.items()}
        )

    def _stored(self, path: Path, frames: int, crcs: Mapping[str, str]) -> dict[str, StoredArray]:
        layout = self.spec.layout(frames)
        locations = backend_module(self.backend).locate(path, self.spec, frames)
        return {name: StoredArray(locations[name], layout[name], crcs[name]) for name in layout}

    def _data_names(self, clip: str) -> list[str]:
        return data_names(check_clip_id(clip), backend_module(self.backend).SUFFIXES)

    def _data_in_use(self, clip: str) -> str | None:
        """Returns which of its two names the data of a clip has, or None if no record says so."""
        try:
            name = documents.read(self.record_path(clip)).get("data")
        except (FileNotFoundError, StoreError):
            return None
        return name if isinstance(name, str) and name in self._data_names(clip) else None

    def _kept_open(self, clip: str) -> OpenClip:
        if os.getpid() != self._pid:
            # A lock that another thread of the parent held would stay locked here for ever.
            self._forget_open_clips()
        with self._lock:
            opened = self._open.get(clip)
            if opened is None or _version(opened.record_file) != opened.version:
                opened = self._open[clip] = self.open_clip(clip)
                if len(self._open) > OPEN_CLIPS:
                    self._open.popitem(last=False)
            self._open.move_to_end(clip)
        return opened

    def _forget_open_clips(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenClip] = OrderedDict()
        self._pid = os.getpid()  # last: another thread of a forked child that sees it finds the new lock

    def require_space(self, what: str, nbytes: int) -> None:
        """Passes if the disk has room for ``nbytes`` of data and a tenth more.

        Args:
            what: what is to be written, for the message.
            nbytes: bytes of its data.

        Raises:
            StoreError: the disk has less.
        """
        needed = nbytes + nbytes // 10 + SPARE_BYTES
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            msg = f"the free space at {self.path} is not known: {error}"
            raise StoreError(msg) from error
        if free < needed:
            msg = f"{what} needs {needed} bytes at {self.path}, {free} are free: make room"
            raise StoreError(msg)

    def _require_equal(
        self, clip: str, data: Path, arrays: Mapping[str, Array], crcs: Mapping[str, str]
    ) -> None:
        try:
            stored = self._stored(data, len(next(iter(arrays.values()))), crcs)
            for name, array in arrays.items():
                start = 0
                for block in stored[name].blocks():
                    if not np.array_equal(_bits(block), _bits(array[start : start + len(block)])):
                        msg = f"{name!r} differs near frame {start}"
                        raise StoreError(msg)
                    start += len(block)
        except StoreError as error:
            msg = f"clip {clip!r}: {data} does not hold what was written to it: check the disk: {error}"
            raise StoreError(msg) from error


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


def _bits(array: Array) -> Array:
    """The values as unsigned integers, whose comparison is exact for NaN and fast for float16."""
    return array.view(f"u{array.itemsize}")


def _version(record_file: str) -> Version | None:
    try:
        status = os.lstat(record_file)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
