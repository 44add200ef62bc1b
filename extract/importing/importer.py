"""The import itself: every clip of a source, checked, laid out on its timeline and committed to a store."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import stores
from extract.importing import source_files
from extract.importing.content import Content, content, display_name
from extract.importing.request import ImportOptions
from extract.importing.timeline import Rows, dense
from stores import FeatureSpec, Store, documents
from stores.documents import Json
from stores.errors import CorpusError, SpecMismatch, StoreError
from stores.progress import Progress, silent
from stores.record import check_clip_id, is_clip_id

logger = logging.getLogger(__name__)

IMPORTER_VERSION = 1
"""Goes up when the same file starts to give other arrays: clips of an older version are imported again."""
READER_NAMES = {".tsv": "csv", ".h5": "hdf5"}
"""Suffixes that have the reader of another one; a commit record names it."""
MAX_NAMES = 64
"""Names of columns that a commit record lists; of more it holds the number and a digest."""


@dataclass(frozen=True, slots=True)
class FailedClip:
    """A clip that was not imported, and why; the others were."""

    clip: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import did.

    Attributes:
        written: ids of the clips that were committed.
        unchanged: ids of the clips that were committed before from the same file with the same options.
        failed: clips that were not imported; an older version of one that is in the store stays.
        lacking: clips of the store of ``like`` that neither the source nor the target has.
        frames: rows committed by this run.
        not_finite: rows with a NaN or an infinity that count as missing.
        seconds: wall-clock time.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedClip, ...]
    lacking: tuple[str, ...]
    frames: int
    not_finite: int
    seconds: float


def import_features(
    source: Path, store_path: Path, options: ImportOptions, progress: Progress = silent
) -> ImportReport:
    """Makes the feature store at ``store_path`` hold the features in ``source``; nothing is removed from it.

    A clip that cannot be imported fails, and is listed; the others go on. Clips are committed one by one: an
    interrupted import goes on where it stopped, and one that is repeated does nothing for unchanged files.

    Args:
        source: a folder with one file per clip, or one file of many clips; see ``source_files.SUFFIXES``.
        store_path: folder of the store; made when the first clip could be read.
        options: where in the files the features are, and what is known of them.
        progress: called with step ``hashing`` (bytes of a file of many clips) and ``import`` (clips).

    Returns:
        What was written, kept, failed and lacks.

    Raises:
        CorpusError: the source cannot be read at all, or the clips of a table are not together.
        ConfigError: options that mean nothing for such files.
        SpecMismatch: the store that is there is of other features; names both values.
        StoreError: a store cannot be read or written.
    """
    began = time.perf_counter()
    found = source_files.find(source, options.selection)
    options = options.with_weights_hashed()
    job = _Job(store_path, options, READER_NAMES.get(found.suffix, found.suffix[1:]))
    if found.many is None:
        for done, (clip, path) in enumerate(found.files.items()):
            progress("import", len(found.files), done)
            job.import_file(clip, path, found.reader)
        progress("import", len(found.files), len(found.files))
        clips: tuple[str, ...] = tuple(found.files)
    else:
        file = content(found.many, progress)
        clips = found.reader.clips(found.many, options.selection)
        wanted = [clip for clip in clips if job.wants(clip, file)]
        for done, (clip, rows) in enumerate(found.reader.read_many(found.many, options.selection, wanted)):
            progress("import", len(wanted), done)
            job.take(clip, rows, file)
        progress("import", len(wanted), len(wanted))
    order = {clip: number for number, clip in enumerate(clips)}
    report = ImportReport(
        written=tuple(job.written),
        unchanged=tuple(job.unchanged),
        failed=tuple(sorted(job.failed, key=lambda failed: order[failed.clip])),
        lacking=job.lacking(clips),
        frames=job.frames,
        not_finite=job.not_finite,
        seconds=time.perf_counter() - began,
    )
    counts = len(report.written), report.frames, len(report.unchanged), len(report.failed)
    logger.info("%s: %d clips imported (%d frames), %d unchanged, %d failed", store_path, *counts)
    return report


class _Job:
    """One import: the store that is filled, the one it must fit, and what became of each clip."""

    def __init__(self, path: Path, options: ImportOptions, reader: str) -> None:
        options.spec(1)  # what cannot be a specification is said before hours of hashing
        self.written: list[str] = []
        self.unchanged: list[str] = []
        self.failed: list[FailedClip] = []
        self.frames = self.not_finite = 0
        self._path, self._options, self._reader = path, options, reader
        self._like = None if options.like is None else stores.open(options.like)
        self._like_clips = frozenset(self._like.clips() if self._like else ())
        self._store = _open_target(path, options)
        # A clip with its dimension and columns, which all others must share.
        self._first: tuple[str, int, Json] | None = None
        for clip in self._store.clips()[:1] if self._store else ():
            assert self._store is not None
            origin = self._store.record(clip).attrs.get("imported")
            columns = origin.get("columns") if isinstance(origin, Mapping) else None
            self._first = clip, _dim(self._store), columns

    def import_file(self, clip: str, path: Path, reader: ModuleType) -> None:
        """Imports the one clip of a file."""
        try:
            file = content(path)
            if self.wants(clip, file):
                self.take(clip, reader.read_one(path, self._options.selection), file)
        except CorpusError as error:
            self._fail(clip, path, error)

    def wants(self, clip: str, file: Content) -> bool:
        """Says whether the clip must be read; one that need not, or cannot be, is noted as such."""
        try:
            check_clip_id(clip)
        except StoreError as error:
            self._fail(clip, file.path, error)
            return False
        if self._like is not None and clip not in self._like_clips:
            msg = f"the store {self._like.path} of --like has no such clip"
            self._fail(clip, file.path, CorpusError(msg))
            return False
        digest = self._digest(clip, file)
        if self._store and self._store.has(clip) and self._store.record(clip).source_digest == digest:
            self.unchanged.append(clip)
            return False
        return True

    def take(self, clip: str, rows: Rows | CorpusError, file: Content) -> None:
        """Commits a clip, or notes why it cannot be."""
        try:
            if isinstance(rows, CorpusError):
                raise rows
            timeline = dense(
                rows,
                self._options.dtype,
                self._options.selection,
                frames=self._length(clip),
                nan_is_missing=self._options.nan_is_missing,
            )
            columns = _columns(rows.columns)
            self._check_like_the_first(clip, timeline.features.shape[1], columns)
            file.check_unchanged()
        except CorpusError as error:
            self._fail(clip, file.path, error)
            return
        dim = timeline.features.shape[1]
        if self._store is None:
            self._store = stores.create(self._path, self._options.spec(dim), self._options.backend)
        self._first = self._first or (clip, dim, columns)
        attrs: dict[str, Json] = {
            "imported": {
                "file": display_name(file.path),
                "sha256": file.sha256,
                "reader": self._reader,
                "columns": columns,
                "importer": IMPORTER_VERSION,
            },
            "missing": int((~timeline.valid).sum()),
            "not_finite": timeline.not_finite,
        }
        self._store.write(clip, timeline.arrays(), attrs, self._digest(clip, file))
        self.written.append(clip)
        self.frames += len(timeline.valid)
        self.not_finite += timeline.not_finite

    def lacking(self, clips: Iterable[str]) -> tuple[str, ...]:
        """Returns the clips of the store to be like that neither ``clips`` nor the filled store has."""
        there = set(clips) | set(self._store.clips() if self._store else ())
        return tuple(sorted(self._like_clips - there))

    def _fail(self, clip: str, path: Path, error: Exception) -> None:
        reason = str(error) if str(path) in str(error) else f"{path}: {error}"
        if is_clip_id(clip) and self._store and self._store.has(clip):
            reason += f"; {self._path} keeps what it had of the clip before"
        self.failed.append(FailedClip(clip, reason))
        logger.debug("clip %s is not imported: %s", clip, reason)

    def _length(self, clip: str) -> int | None:
        return None if self._like is None else self._like.record(clip).frames

    def _digest(self, clip: str, file: Content) -> str:
        """Returns the digest of everything that decides the arrays of a clip, its store's spec aside."""
        selection = self._options.selection
        return documents.digest(
            {
                "importer": IMPORTER_VERSION,
                "file": file.sha256,
                "clip": clip,
                "array": selection.array,
                "columns": selection.columns,
                "clip_column": selection.clip_column,
                "frame": selection.frame,
                "valid": selection.valid,
                "first_frame": selection.first_frame,
                "nan_is_missing": self._options.nan_is_missing,
                "frames": self._length(clip),
            }
        )

    def _check_like_the_first(self, clip: str, dim: int, columns: Json) -> None:
        first, first_dim, first_columns = self._first or (clip, dim, columns)
        if dim != first_dim:
            msg = f"clip {clip!r} has {dim} features per frame, clip {first!r} has {first_dim}"
            raise CorpusError(msg)
        if columns is not None and first_columns is not None and columns != first_columns:
            msg = (
                f"clip {clip!r} has other columns than clip {first!r}, or in another order: {columns}, not"
                f" {first_columns}; choose the same ones by --columns and write them in one order"
            )
            raise CorpusError(msg)


def _open_target(path: Path, options: ImportOptions) -> Store | None:
    """Opens the store to fill; None if there is none yet: its dimension is known with the first clip."""
    if not (path / "store.json").exists():
        return None
    store = stores.open(path)
    return stores.create(path, options.spec(_dim(store)), options.backend)


def _dim(store: Store) -> int:
    if not isinstance(store.spec, FeatureSpec):
        msg = f"the store {store.path} holds {store.spec.kind}: expected a feature store, or a new folder"
        raise SpecMismatch(msg)
    return store.spec.dim


def _columns(names: tuple[str, ...]) -> Json:
    """Returns what a commit record says of the columns of features; None where they have no names."""
    if not names:
        return None
    if len(names) <= MAX_NAMES:
        return list(names)
    return {"count": len(names), "sha256": documents.digest(names)}
