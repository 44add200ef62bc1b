"""Writing one clip: checked, written beside, synced, read back, then made visible in one step."""

import errno
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from stores import commit, contents
from stores.backends import Backend, open_arrays
from stores.backends.chunks import checksums
from stores.digest import Array, array_digest
from stores.documents import Json
from stores.errors import StoreError
from stores.record import ArrayRecord, Record, data_in_use, data_names, record_name
from stores.spec import Spec

logger = logging.getLogger(__name__)

SPARE_BYTES = 2**20


def write_clip(
    folder: Path,
    lock: Path,
    spec: Spec,
    backend: Backend,
    clip: str,
    arrays: Mapping[str, Array],
    attrs: Mapping[str, Json],
    source_digest: str,
) -> Record:
    """Writes one clip and commits it; ``Store.write`` says what that promises.

    Args:
        folder: where clips are.
        lock: file that whoever publishes a clip here locks meanwhile.
        spec: spec of the store.
        backend: file format of the clip.
        clip: id of the clip.
        arrays: as ``contents.check_layout`` and ``contents.check_values`` demand.
        attrs: as ``contents.check_attrs`` demands.
        source_digest: digest of what the clip was made from.

    Raises:
        StoreError: the arrays or attributes break a promise, or the disk is full or failing.
    """
    attrs = contents.check_attrs(clip, attrs, spec)
    layout = contents.check_layout(clip, arrays, spec)
    frames = len(next(iter(arrays.values())))
    ordered = {
        name: arrays[name].astype(array.dtype, order="C", copy=False) for name, array in layout.items()
    }
    try:
        require_space(folder, f"clip {clip!r}", sum(array.padded_bytes for array in layout.values()))
        # To look at the values and to hash them takes as long as the disk does: a thread does it meanwhile.
        with (
            ThreadPoolExecutor(1) as threads,
            commit.temporary(folder, clip + backend.SUFFIXES[0], tree=backend.IS_FOLDER) as data,
        ):
            hashing = threads.submit(lambda: {name: array_digest(ordered[name]) for name in layout})
            checking = threads.submit(contents.check_values, clip, ordered, spec)
            crcs = {name: checksums(ordered[name], layout[name]) for name in layout}
            backend.write(data, ordered, spec)
            _read_back(clip, data, spec, frames, backend, crcs)
            digests = hashing.result()
            checking.result()
            record = Record(
                clip=clip,
                frames=frames,
                arrays={
                    name: ArrayRecord(array.shape, array.dtype, digests[name], crcs[name])
                    for name, array in layout.items()
                },
                attrs=attrs,
                source_digest=source_digest,
                spec_sha256=spec.digest(),
                data=data.name,
                data_bytes=backend.size(data, spec, frames),
            )
            with commit.exclusive(lock):
                return _publish(folder, data, record, backend)
    except OSError as error:
        cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        msg = f"clip {clip!r} was not written to {folder}: {cause}; what was committed is untouched"
        raise StoreError(msg) from error


def require_space(folder: Path, what: str, nbytes: int) -> None:
    """Passes if the disk has room for ``nbytes`` of data and a tenth more.

    Args:
        folder: where the data will be.
        what: what is to be written, for the message.
        nbytes: bytes of its data.

    Raises:
        StoreError: the disk has less.
        OSError: the disk does not say how much it has.
    """
    needed = nbytes + nbytes // 10 + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"{what} needs {needed} bytes at {folder}, {free} are free: make room"
        raise StoreError(msg)


def _read_back(
    clip: str, data: Path, spec: Spec, frames: int, backend: Backend, crcs: Mapping[str, str]
) -> None:
    """Reads the whole clip and compares the CRC of every chunk with that of the values in memory."""
    try:
        for stored in open_arrays(backend, data, spec, frames, crcs).values():
            for _ in stored.chunks():  # each is checked as it is read
                continue
    except StoreError as error:
        msg = f"clip {clip!r}: {data} does not hold what was written to it: check the disk: {error}"
        raise StoreError(msg) from error


def _publish(folder: Path, new_data: Path, record: Record, backend: Backend) -> Record:
    """Gives complete, synced data its name, then its record; returns the record as published.

    The data takes the name that the committed version does not have, so that the old record describes the
    old data until the new record replaces it, in one step.
    """
    record_path = folder / record_name(record.clip)
    in_use, names = data_in_use(record_path, backend.SUFFIXES), data_names(record.clip, backend.SUFFIXES)
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
