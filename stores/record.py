"""The commit record of one clip: what was written, so that a reader needs to trust nothing else.

A record without its data is damage; data without its record does not exist.
"""

import operator
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stores import documents
from stores.contents import check_attrs
from stores.documents import Json
from stores.errors import StoreError
from stores.spec import Spec

SUFFIX = ".json"
MAX_ID_BYTES = 200
CRC_DIGITS = 8


@dataclass(frozen=True, slots=True)
class ArrayRecord:
    """One array as committed.

    Attributes:
        shape: lengths of the axes, frames first.
        dtype: numpy name.
        sha256: digest of dtype, shape and values (``stores.digest``), the same in every backend.
        chunk_crc32c: CRC-32C of every chunk's values (``stores.backends.chunks``), 8 hexadecimal digits each.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    chunk_crc32c: str


@dataclass(frozen=True, slots=True)
class Record:
    """The commit record of one clip.

    Attributes:
        clip: id of the clip.
        frames: length ``T`` of its timeline.
        arrays: array name to what was committed.
        attrs: what else is known of the clip (a label clip: ``split``, ``fps``, ``subject``, ``corpus``).
        source_digest: digest of what the clip was made from, or ``""``.
        spec_sha256: digest of the spec of the store that the clip was written to.
        data: name of the file or folder of the data, beside the record.
        data_bytes: size of the clip's data on disk.
    """

    clip: str
    frames: int
    arrays: Mapping[str, ArrayRecord]
    attrs: Mapping[str, Json]
    source_digest: str
    spec_sha256: str
    data: str
    data_bytes: int

    def render(self) -> bytes:
        """Returns the bytes of the record's file, with a digest over all the rest."""
        content: dict[str, Json] = asdict(self)
        return documents.render({**content, "record_sha256": documents.digest(content)})

    @classmethod
    def parse(
        cls,
        document: Mapping[str, Any],
        clip: str,
        spec: Spec,
        spec_sha256: str,
        suffixes: Collection[str],
    ) -> "Record":
        """Builds the record of ``clip`` from its JSON object and checks it against the store's spec.

        Args:
            document: the JSON object.
            clip: id that the record must have.
            spec: spec of the store.
            spec_sha256: its digest, which thousands of records need not compute.
            suffixes: what the backend's names of data end in.

        Raises:
            StoreError: the record is malformed, altered, another clip's, or of a store with another spec.
        """
        keys = {field.name for field in fields(cls)} | {"record_sha256"}
        if document.keys() != keys:
            msg = f"clip {clip!r}: record has keys {sorted(document)}, expected {sorted(keys)}"
            raise StoreError(msg)
        content = {key: value for key, value in document.items() if key != "record_sha256"}
        if document["record_sha256"] != documents.digest(content):
            msg = f"clip {clip!r}: record was altered after it was written (its own digest does not match)"
            raise StoreError(msg)
        if document["clip"] != clip:
            msg = f"clip {clip!r}: record is of clip {document['clip']!r}"
            raise StoreError(msg)
        if document["spec_sha256"] != spec_sha256:
            msg = (
                f"clip {clip!r}: record is of a store with spec {document['spec_sha256']!r}, this store has "
                f"{spec_sha256!r}; clips of different specs never mix"
            )
            raise StoreError(msg)
        try:
            arrays = {
                name: ArrayRecord(
                    tuple(array["shape"]),
                    str(array["dtype"]),
                    str(array["sha256"]),
                    str(array["chunk_crc32c"]),
                )
                for name, array in document["arrays"].items()
            }
            frames, size = operator.index(document["frames"]), operator.index(document["data_bytes"])
            attrs, source = check_attrs(clip, document["attrs"], spec), str(document["source_digest"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            msg = f"clip {clip!r}: malformed record: {error!r}"
            raise StoreError(msg) from error
        layout = spec.layout(frames) if frames > 0 else {}
        expected = {name: (array.shape, array.dtype) for name, array in layout.items()}
        found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if found != expected:
            msg = (
                f"clip {clip!r}: record lists {found}, a clip of {frames} frames of this store has {expected}"
            )
            raise StoreError(msg)
        data = document["data"]
        names = data_names(clip, suffixes)
        if data not in names:
            msg = f"clip {clip!r}: record says the data is {data!r}, expected {' or '.join(names)}"
            raise StoreError(msg)
        # Values are raw, so a shape that the data cannot hold is refused before anything of its size is made.
        values = sum(array.nbytes for array in layout.values())
        if size < values:
            msg = f"clip {clip!r}: record says {size} bytes of data, its {frames} frames take {values}"
            raise StoreError(msg)
        for name, array in arrays.items():
            digits = CRC_DIGITS * layout[name].chunk_count
            if len(array.chunk_crc32c) != digits or re.fullmatch("[0-9a-f]*", array.chunk_crc32c) is None:
                msg = f"clip {clip!r}: record's chunk_crc32c of {name!r} is not {digits} hexadecimal digits"
                raise StoreError(msg)
        return cls(clip, frames, arrays, attrs, source, spec_sha256, data, size)


def record_name(clip: str) -> str:
    """Returns the name of the commit record of ``clip``."""
    return clip + SUFFIX


def clip_of(name: str) -> str | None:
    """Returns the clip whose commit record is called ``name``, or None if it is no record's name."""
    clip = name.removesuffix(SUFFIX)
    return clip if clip != name and is_clip_id(clip) else None


def data_names(clip: str, suffixes: Collection[str]) -> list[str]:
    """Returns the names that the data of ``clip`` may have; a rewritten clip goes from one to the other."""
    return [clip + suffix for suffix in suffixes]


def data_in_use(record: Path, suffixes: Collection[str]) -> str | None:
    """Returns which name the data of a clip has, or None if there is no record that says so.

    Args:
        record: where the record is, or would be.
        suffixes: what the backend's names of data end in.
    """
    try:
        name = documents.read(record).get("data")
    except (FileNotFoundError, StoreError):
        return None
    names = data_names(record.name.removesuffix(SUFFIX), suffixes)
    return name if isinstance(name, str) and name in names else None


def is_clip_id(clip: str) -> bool:
    """Says whether ``clip`` can name files on any system without leaving the folder they belong in."""
    return _fault(clip) is None


def check_clip_id(clip: str) -> str:
    """Returns ``clip`` if it is a clip id.

    Raises:
        StoreError: empty, over 200 bytes of UTF-8, starts with a dot, or holds ``..``, a slash, a backslash,
            a control character or a lone surrogate.
    """
    fault = _fault(clip)
    if fault is not None:
        msg = (
            f"clip id {clip!r} {fault}: expected a name such as 'video59_right', at most {MAX_ID_BYTES} bytes"
        )
        raise StoreError(msg)
    return clip


def _fault(clip: str) -> str | None:
    if not isinstance(clip, str) or not clip or clip.startswith("."):
        return "is empty or starts with a dot"
    if re.search(r"\.\.|[/\\\x00-\x1f\x7f\ud800-\udfff]", clip):
        return "holds '..', a slash, a backslash, a control character or a lone surrogate"
    size = len(clip.encode())
    return f"takes {size} bytes" if size > MAX_ID_BYTES else None
