"""Lossless copies of stores between backends: every array arrives with the digest that it left with.

The copy holds the same numbers under the same spec.
"""

import os
from operator import attrgetter
from pathlib import Path

from stores.backends import BackendName
from stores.digest import array_digest
from stores.errors import StoreError
from stores.progress import Progress, silent
from stores.record import Record
from stores.store import Store, create, open
from stores.writing import require_space


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    backend: BackendName,
    *,
    progress: Progress = silent,
) -> Store:
    """Copies every clip of a store into a store with ``backend``; resumes a copy that was interrupted.

    Args:
        src: store to read.
        dst: store to write; created if it is not there, otherwise of the same spec and of ``backend``.
        backend: file format of the copy.
        progress: called per clip.

    Returns:
        The copy.

    Raises:
        SpecMismatch: ``dst`` is a store with another spec.
        StoreError: ``src`` and ``dst`` are one folder, ``dst`` is of another backend, the disk is full,
            or a clip of ``src`` is damaged; the clips before it are in the copy.
    """
    source = open(src)
    if Path(src).resolve() == Path(dst).resolve():
        msg = f"cannot convert the store {source.path} onto itself: choose another destination"
        raise StoreError(msg)
    copy = create(dst, source.spec, backend)
    clips = source.clips()
    records = [source.record(clip) for clip in clips]
    left = [record for record in records if not _is_there(copy, record)]
    require_space(copy.path, f"the copy of {source.path}", sum(record.data_bytes for record in left))
    for done, record in enumerate(left, start=len(clips) - len(left) + 1):
        _copy_clip(source, copy, record)
        progress("convert", len(clips), done)
    return copy


def _is_there(copy: Store, record: Record) -> bool:
    content = attrgetter("arrays", "attrs", "source_digest")
    return copy.has(record.clip) and bool(content(copy.record(record.clip)) == content(record))


def _copy_clip(source: Store, copy: Store, record: Record) -> None:
    clip = record.clip
    arrays = {name: source.read(clip, name) for name in record.arrays}
    for name, array in arrays.items():
        if array_digest(array) != record.arrays[name].sha256:
            msg = (
                f"clip {clip!r} of {source.path}: {name!r} is damaged: "
                f"run `facets verify --repair` and make the clip again"
            )
            raise StoreError(msg)
    copy.write(clip, arrays, record.attrs, record.source_digest)
