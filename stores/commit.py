"""Durable, atomic replacement of what readers see: temporary name, fsync, rename, fsync of the folder.

Whatever is visible is complete, so nothing needs to be played back after a crash.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import logging
import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp-"
BATCH_BYTES = 4 * 2**20
BATCH_BLOCKS = 1000  # Linux takes at most 1024 per call


def write_file(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Writes and syncs a file through our own descriptor, so that a full disk is an ``OSError`` here.

    Raises:
        OSError: the file could not be written or synced in full.
    """
    write_unsynced(path, blocks)
    _sync(path)


def write_unsynced(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Writes a file whose folder ``sync_tree`` will sync.

    Raises:
        OSError: the file could not be written in full.
    """
    with path.open("wb", buffering=0) as file:
        batch, length, start = list[memoryview](), 0, 0
        for block in blocks:
            batch.append(memoryview(block).cast("B"))
            length += batch[-1].nbytes
            if length >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
                _write_all(file.fileno(), batch)
                _start_writeback(file.fileno(), start, length)
                batch, length, start = [], 0, start + length
        _write_all(file.fileno(), batch)


def _start_writeback(descriptor: int, start: int, length: int) -> None:
    # Linux answers this advice by sending dirty pages to the disk without waiting, so that the disk works
    # while the next batch is copied: 33 MB are durable in 16 ms instead of 23. It is fsync that promises.
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def sync_tree(folder: Path) -> None:
    """Makes ``folder`` durable with all that is in it; in one go, so that a journal is written but once.

    Raises:
        OSError: something could not be synced.
    """
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_document(path: Path, data: bytes) -> None:
    """Writes and syncs a small file and reads it back.

    Raises:
        OSError: the file could not be written or synced, or the disk gives back something else.
    """
    write_file(path, [data])
    if path.read_bytes() != data:
        raise OSError(errno.EIO, "the disk gives back other bytes than were written", os.fspath(path))


def replace_file(path: Path, data: bytes, *, through: Path | None = None, durable: bool = True) -> None:
    """Puts ``data`` at ``path`` in one step: a reader, also after a crash, finds the old or the new content.

    Args:
        path: the file.
        data: its new content.
        through: folder of the temporary, on the same disk; None for that of ``path``.
        durable: whether a power cut may not take it; for thousands of files that can be made again, False.

    Raises:
        OSError: the file could not be written, or reads otherwise; the old one is still there.
    """
    with temporary(through or path.parent, path.name) as new:
        if durable:
            write_document(new, data)
        else:
            write_unsynced(new, [data])
        new.replace(path)
    if durable:
        sync_folder(path.parent)


def _write_all(descriptor: int, blocks: list[memoryview]) -> None:
    # Many blocks in one call: the kernel then caches the file in larger pieces, read 1.2 times as fast.
    while blocks:
        written = os.writev(descriptor, blocks)
        while blocks and written >= len(blocks[0]):
            written -= len(blocks.pop(0))
        if blocks:
            blocks[0] = blocks[0][written:]


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` durable.

    Raises:
        OSError: the folder could not be opened or synced.
    """
    _sync(folder)


@contextlib.contextmanager
def temporary(folder: Path, name: str, *, tree: bool = False) -> Iterator[Path]:
    """Yields an empty file (a folder if ``tree``) that no reader looks at, to be renamed by the body.

    While the body runs the temporary is locked, so that ``remove_abandoned`` leaves it alone; if the body
    fails it is removed.

    Raises:
        OSError: the temporary could not be made.
    """
    while True:
        path = _temporary_name(folder, name)
        if tree:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        # Until it is locked, another process may take the temporary for abandoned: then make another.
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        # Where the file system has no locks, a killed writer's leftovers wait for `verify --repair`.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            break
        os.close(lock)
    try:
        yield path
    except BaseException as error:
        try:
            remove(path)
        except OSError as left:
            error.add_note(f"the temporary {path} could not be removed: {left.strerror}")
        raise
    finally:
        os.close(lock)


def publish_first(path: Path, data: bytes) -> None:
    """Creates the document at ``path``, whole or not at all; the one that another process made first stays.

    Raises:
        OSError: the document could not be written.
    """
    with temporary(path.parent, path.name) as new:
        write_document(new, data)
        try:
            path.hardlink_to(new)
        except FileExistsError:
            logger.info("%s was created by another process", path)
        except OSError:
            # No hard links on this file system: two processes that create a store at once may overwrite each
            # other's description; the spec digest in the records keeps their clips apart.
            new.replace(path)
        remove(new)
    sync_folder(path.parent)


@contextlib.contextmanager
def exclusive(file: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Lets one process at a time into the body: those that name the same file wait for each other.

    Args:
        file: what is locked.
        on_wait: called if another process is in the body, before waiting for it.

    Raises:
        OSError: ``file`` cannot be opened for writing (which network file systems ask of a lock).
    """
    descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    try:
        try:
            if on_wait is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _warn_of_no_locks(file.parent, error.strerror)
        yield
    finally:
        # Not left to close: a child forked meanwhile holds the same open file.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@functools.cache  # once per store, not once per clip
def _warn_of_no_locks(folder: Path, reason: str) -> None:
    logger.warning(
        "the file system of %s has no locks (%s): do not let two processes write one clip", folder, reason
    )


def remove(path: Path) -> None:
    """Removes a file, a whole folder or a symbolic link (never what it points to); nothing there is fine.

    Raises:
        OSError: it could not be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporaries that killed writers of this machine left in ``folder``.

    Raises:
        OSError: one of them could not be removed.
    """
    for path in folder.glob(f"{TEMPORARY}{_machine()}-*"):
        with _lock_if_free(path) as free:
            if free:
                logger.info("removing %s: its writer was killed", path)
                # Data that a living writer has just displaced is not locked: it may be removing it as well.
                with contextlib.suppress(FileNotFoundError):
                    remove(path)


def is_in_use(path: Path) -> bool:
    """Says whether ``path`` is a temporary that a running writer of this machine holds."""
    if not path.name.startswith(TEMPORARY):
        return False
    with _lock_if_free(path) as free:
        return free is False


@contextlib.contextmanager
def _lock_if_free(path: Path) -> Iterator[bool | None]:
    """Yields whether the temporary could be locked; None where that is unknown (gone, or no locks here)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free: bool | None = True
        except BlockingIOError:
            free = False
        except OSError:
            free = None
        yield free
    finally:
        os.close(descriptor)


def _temporary_name(folder: Path, name: str) -> Path:
    return folder / f"{TEMPORARY}{_machine()}-{secrets.token_hex(4)}-{name}"


def _machine() -> str:
    # Locks are trusted only between processes of one machine: on a shared disk they may be local.
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
