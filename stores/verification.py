"""Verification of a store: what is damaged, missing or foreign; on request the removal of what is unusable.

Not a salvage of damaged clips: they are removed, so that the next run of `facets features` makes them again.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from stores import commit
from stores.digest import stored_digest
from stores.errors import StoreError
from stores.progress import Progress, silent
from stores.record import is_clip_id
from stores.store import CLIPS_FOLDER, RECORD_SUFFIX, STORE_FILE, Store, backend_module, open


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be.

    Attributes:
        name: clip id, or for foreign things the path within the store.
        reason: what was found and what was expected.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying a store.

    Attributes:
        path: the store.
        clips: number of commit records that were looked at.
        damaged: clips whose record or data is not what was committed.
        missing: clips that have a record but no data.
        foreign: what is no part of the store: unknown files, temporaries of killed writers, data without a
            record.
        removed: paths within the store that a repair removed.
    """

    path: Path
    clips: int
    damaged: tuple[Finding, ...]
    missing: tuple[Finding, ...]
    foreign: tuple[Finding, ...]
    removed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found; what a repair has removed was found."""
        return not (self.damaged or self.missing or self.foreign)


def verify(
    path: str | os.PathLike[str], *, full: bool = True, repair: bool = False, progress: Progress = silent
) -> Verification:
    """Checks every clip of a store against its commit record.

    Args:
        path: the store.
        full: read all data and recompute every digest; otherwise records, sizes, types and shapes alone.
        repair: remove damaged clips, records without data, data without a record, and temporaries of killed
            writers. Other foreign files stay. Only when nothing is writing to the store.
        progress: called per clip.

    Raises:
        StoreError: there is no store at ``path``, or something could not be removed.
    """
    store = open(path)
    clips = store.clips()
    damaged, missing = [], []
    for done, clip in enumerate(clips, start=1):
        if not os.path.lexists(store.data_path(clip)):
            missing.append(
                Finding(clip, f"it has a commit record, but there is no {store.data_path(clip).name}")
            )
        elif (reason := _damage(store, clip, full=full)) is not None:
            damaged.append(Finding(clip, reason))
        progress("verify", len(clips), done)
    foreign, leftovers = _foreign(store, set(clips))
    removed: list[str] = []
    if repair:
        for finding in (*damaged, *missing):
            removed += _remove_clip(store, finding.name)
        removed += [_remove(store, leftover) for leftover in leftovers]
    return Verification(
        store.path, len(clips), tuple(damaged), tuple(missing), tuple(foreign), tuple(removed)
    )


def _damage(store: Store, clip: str, *, full: bool) -> str | None:
    try:
        record = store.record(clip)
        reader = store.open_data(record)
        for name, layout in store.spec.layout(record.frames).items() if full else ():
            found = stored_digest(reader, name, layout)
            if found != record.arrays[name].sha256:
                return f"{name!r} has digest {found}, the commit record says {record.arrays[name].sha256}"
    except StoreError as error:
        return str(error)
    return None


def _foreign(store: Store, clips: set[str]) -> tuple[list[Finding], list[Path]]:
    suffix = backend_module(store.backend).SUFFIX
    expected = {STORE_FILE, CLIPS_FOLDER} | {
        f"{CLIPS_FOLDER}/{clip}{ending}" for clip in clips for ending in (RECORD_SUFFIX, suffix)
    }
    findings, leftovers = [], []
    for path in sorted([*store.path.iterdir(), *(store.path / CLIPS_FOLDER).iterdir()]):
        name = path.relative_to(store.path).as_posix()
        if name in expected or commit.is_in_use(path):
            continue
        if path.name.startswith(commit.TEMPORARY):
            reason = "a temporary that a killed writer left, or that a writer on another machine is using"
            leftovers.append(path)
        elif name == f"{CLIPS_FOLDER}/{path.stem}{suffix}" and is_clip_id(path.stem):
            reason = "data without a commit record: its writer was killed, or is about to commit"
            leftovers.append(path)
        else:
            reason = "no part of the store; nothing reads it"
        findings.append(Finding(name, reason))
    return findings, leftovers


def _remove_clip(store: Store, clip: str) -> list[str]:
    # The record goes first: data without a record does not exist, a record without data is damage.
    paths = [store.record_path(clip), store.data_path(clip)]
    return [_remove(store, path) for path in paths if os.path.lexists(path)]


def _remove(store: Store, path: Path) -> str:
    try:
        commit.remove(path)
        commit.sync_folder(path.parent)
    except OSError as error:
        msg = f"{path} could not be removed: {error}"
        raise StoreError(msg) from error
    return str(path.relative_to(store.path))
