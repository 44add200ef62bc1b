"""A store: the folder of committed clips, created, opened and read here."""

import operator
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stores import commit, documents
from stores.backends import BackendName, backend_module, open_arrays
from stores.backends.chunks import StoredArray
from stores.digest import Array
from stores.documents import Json
from stores.errors import FormatVersionError, SpecMismatch, StoreError
from stores.record import Record, check_clip_id, clip_of, data_in_use, data_names, record_name
from stores.spec import SPEC_KINDS, Spec, differences
from stores.writing import write_clip

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "facets-store"
VERSION = 1
STORE_FILE = "store.json"
CLIPS_FOLDER = "clips"
OPEN_CLIPS = 64
REPAIR = "`facets verify --repair` removes damaged clips, `facets features` or `import` makes them again"

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
        mapped: see ``stores.open``.
    """

    def __init__(self, path: Path, spec: Spec, backend: BackendName, *, mapped: bool = False) -> None:
        self.path = path
        self.spec = spec
        self.backend = backend
        self.mapped = mapped
        self._spec_sha256 = spec.digest()
        self._forget_open_clips()

    def __reduce__(self) -> tuple[object, ...]:
        return partial(open, mapped=self.mapped), (self.path,)

    def __repr__(self) -> str:
        return f"<Store {self.path} {self.spec.kind} {self.backend}>"

    def clips(self) -> list[str]:
        """Returns the ids of the committed clips, sorted."""
        with os.scandir(self.path / CLIPS_FOLDER) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        return sorted(clip for clip in map(clip_of, files) if clip is not None)

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
            return Record.parse(
                document, clip, self.spec, self._spec_sha256, backend_module(self.backend).SUFFIXES
            )
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

    def frame(self, clips: Sequence[str] | None = None) -> "pd.DataFrame":
        """Returns the labels of a label store, of ``clips`` or all: see ``stores.dataframe.of_labels``."""
        from stores.dataframe import of_labels

        return of_labels(self, clips)

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
        return write_clip(
            self.path / CLIPS_FOLDER,
            self.path / STORE_FILE,
            self.spec,
            backend_module(self.backend),
            check_clip_id(clip),
            arrays,
            attrs or {},
            source_digest,
        )

    def data_path(self, clip: str) -> Path:
        """Returns where the data of ``clip`` is, or would be."""
        suffixes = backend_module(self.backend).SUFFIXES
        record = self.record_path(clip)
        return record.with_name(data_in_use(record, suffixes) or data_names(clip, suffixes)[0])

    def record_path(self, clip: str) -> Path:
        """Returns where the commit record of ``clip`` is, or would be."""
        return self.path / CLIPS_FOLDER / record_name(check_clip_id(clip))

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
        crcs = {name: array.chunk_crc32c for name, array in record.arrays.items()}
        return open_arrays(backend, path, self.spec, record.frames, crcs, mapped=self.mapped)

    def _kept_open(self, clip: str) -> OpenClip:
        if os.getpid() != self._pid:
            # A lock that another thread of the parent held would stay locked here for ever.
            self._forget_open_clips()
        opened = self._open.get(clip)
        if opened is not None and _version(opened.record_file) == opened.version:
            return opened
        opened = self.open_clip(clip)  # not under the lock: other threads read other clips meanwhile
        with self._lock:
            self._open[clip] = opened
            if len(self._open) > OPEN_CLIPS:  # the one opened first: to keep count of uses costs every read
                del self._open[next(iter(self._open))]
        return opened

    def _forget_open_clips(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, OpenClip] = {}
        self._pid = os.getpid()  # last: another thread of a forked child that sees it finds the new lock


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


def open(path: str | os.PathLike[str], *, mapped: bool = False) -> Store:
    """Opens a store.

    Args:
        path: folder of the store.
        mapped: copy windows from a mapping of the clip's file, which is faster while the file is in the page
            cache. The first touch of every chunk is read and checked as ever, with an error where the disk
            fails; but where it fails later, or another program cuts the file at that very moment, the process
            ends with SIGBUS. For local disks; what is mapped counts as resident memory of the process.

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
    return Store(folder, store_spec, "hdf5" if backend == "hdf5" else "zarr", mapped=mapped)


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


def _version(record_file: str) -> Version | None:
    try:
        status = os.lstat(record_file)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
