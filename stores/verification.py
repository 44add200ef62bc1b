"""Verification of a store: what is damaged, missing or foreign; on request the removal of what is unusable.

Damaged clips are removed, never salvaged: the next run of `facets features` makes them again.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stores import commit
from stores.backends import backend_module
from stores.backends.chunks import StoredArray
from stores.errors import StoreError
from stores.progress import Progress, silent
from stores.record import is_clip_id
from stores.store import CLIPS_FOLDER, STORE_FILE, Store, Version, open

SAMPLED_CHUNKS = 4

Depth = Literal["full", "sampled", "quick"]


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
    path: str | os.PathLike[str],
    *,
    depth: Depth = "full",
    repair: bool = False,
    progress: Progress = silent,
) -> Verification:
    """Checks every clip of a store against its commit record.

    Args:
        path: the store.
        depth: ``full`` reads everything and recomputes every digest; ``sampled`` checks up to four chunks,
            other ones each time, of every array; ``quick`` checks records, sizes, types and shapes alone.
        repair: remove damaged clips, records without data, data without a record, and temporaries of killed
            writers. Other foreign files stay. Clips that somebody commits meanwhile stay as well; writers on
            other machines are not seen where the file system has no locks.
        progress: called per clip.

    Raises:
        StoreError: there is no store at ``path``, or something could not be removed.
    """
    store = open(path)
    clips = store.clips()
    damaged, missing = list[Finding](), list[Finding]()
    versions = {}
    for done, clip in enumerate(clips, start=1):
        versions[clip], reason = _damage(store, clip, depth)
        if reason is not None:
            gone = not os.path.lexists(store.data_path(clip))
            (missing if gone else damaged).append(Finding(clip, reason))
        progress("verify", len(clips), done)
    foreign, leftovers = _foreign(store)
    removed: list[str] = []
    if repair:
        try:
            for finding in (*damaged, *missing):
                removed += _remove_clip(store, finding.name, versions[finding.name])
            for leftover in leftovers:
                removed += _remove_leftover(store, leftover)
        except OSError as error:
            msg = f"{store.path} could not be repaired: {error}"
            raise StoreError(msg) from error
    return Verification(
        store.path, len(clips), tuple(damaged), tuple(missing), tuple(foreign), tuple(removed)
    )


def _damage(store: Store, clip: str, depth: Depth) -> tuple[Version | None, str | None]:
    """Returns the version of the clip that was looked at, and what is wrong with it."""
    while True:
        version = store.version(clip)
        try:
            opened = store.open_clip(clip)
            for name, stored in opened.arrays.items():
                if depth == "sampled":
                    _check_sample(stored)
                elif depth == "full" and (found := stored.digest()) != opened.record.arrays[name].sha256:
                    wanted = opened.record.arrays[name].sha256
                    return version, f"{name!r} has digest {found}, its record says {wanted}"
            if depth == "full":
                backend_module(store.backend).check_rest(
                    store.data_path(clip), store.spec, opened.record.frames
                )
        except StoreError as error:
            if store.version(clip) == version:
                return version, str(error)
            # Rewritten, or removed, while it was being read: look again.
            if not store.has(clip):
                return None, None
        else:
            return version, None


def _check_sample(stored: StoredArray) -> None:
    count = stored.layout.chunk_count
    for number in random.sample(range(count), min(count, SAMPLED_CHUNKS)):
        stored.check(number)


def _foreign(store: Store) -> tuple[list[Finding], list[Path]]:
    suffixes = backend_module(store.backend).SUFFIXES
    expected = {store.path / STORE_FILE, store.path / CLIPS_FOLDER}
    for clip in store.clips():
        expected |= {store.record_path(clip), store.data_path(clip)}
    findings, leftovers = [], []
    for path in sorted([*store.path.iterdir(), *(store.path / CLIPS_FOLDER).iterdir()]):
        if path in expected or commit.is_in_use(path):
            continue
        if path.name.startswith(commit.TEMPORARY):
            reason = "a temporary that a killed writer left, or that a writer on another machine is using"
            leftovers.append(path)
        elif path.parent.name == CLIPS_FOLDER and path.suffix in suffixes and is_clip_id(path.stem):
            reason = "data that no commit record names: its writer was killed, or is about to commit"
            leftovers.append(path)
        else:
            reason = "no part of the store; nothing reads it"
        findings.append(Finding(path.relative_to(store.path).as_posix(), reason))
    return findings, leftovers


def _remove_clip(store: Store, clip: str, version: Version | None) -> list[str]:
    with commit.exclusive(store.path / STORE_FILE):
        if store.version(clip) != version:
            return []
        data, record = store.data_path(clip), store.record_path(clip)
        # The record goes first: data without a record does not exist, a record without data is damage.
        return [_remove(store, path) for path in (record, data) if os.path.lexists(path)]


def _remove_leftover(store: Store, path: Path) -> list[str]:
    with commit.exclusive(store.path / STORE_FILE):
        committed = is_clip_id(path.stem) and store.has(path.stem) and store.data_path(path.stem) == path
        return [] if committed or commit.is_in_use(path) else [_remove(store, path)]


def _remove(store: Store, path: Path) -> str:
    commit.remove(path)
    commit.sync_folder(path.parent)
    return str(path.relative_to(store.path))
