"""The small JSON documents of a store: written canonically, read strictly.

Whatever is read is at most a few MiB of plain JSON; arrays never pass through here.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from stores.errors import StoreError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_BYTES = 16 * 2**20


def canonical(value: Json) -> bytes:
    """Returns the one byte string that stands for ``value``: sorted keys, no spaces, UTF-8, shortest floats.

    Raises:
        TypeError: ``value`` holds something that JSON has no word for.
        ValueError: ``value`` holds a NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(value: Json) -> str:
    """Returns the SHA-256 (64 hexadecimal digits) of the canonical bytes of ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()


def render(value: Mapping[str, Json]) -> bytes:
    """Returns ``value`` as people read it: sorted keys, indented, one newline at the end; stable."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse(data: bytes, where: str) -> dict[str, Json]:
    """Returns the JSON object in ``data``.

    Args:
        data: UTF-8 JSON text.
        where: the file, for the message.

    Raises:
        StoreError: not JSON, not an object, a key given twice, a NaN or infinity (1e999 is one), or text that
            is not Unicode; so ``canonical`` takes what this returns.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        canonical(value)
    except (ValueError, RecursionError) as error:
        msg = f"{where} is not a valid JSON document: {error}"
        raise StoreError(msg) from error
    if not isinstance(value, dict):
        msg = f"{where} holds a JSON {type(value).__name__}, expected an object"
        raise StoreError(msg)
    return value


def read(path: Path) -> dict[str, Json]:
    """Reads the JSON object in a regular file.

    Raises:
        FileNotFoundError: there is no such file; what that means is the caller's to say.
        StoreError: not a regular file (a symbolic link is never followed), over 16 MiB, or not strict JSON.
    """
    try:
        # O_NONBLOCK so that a FIFO put in place of a document cannot hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = (
            "is a symbolic link, which stores never hold"
            if error.errno == errno.ELOOP
            else str(error.strerror)
        )
        msg = f"cannot read {path}: {what}"
        raise StoreError(msg) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            msg = f"cannot read {path}: expected a regular file of at most {MAX_BYTES} bytes"
            raise StoreError(msg)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return parse(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise StoreError(msg) from error
    finally:
        os.close(descriptor)


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        msg = "a key is given twice"
        raise ValueError(msg)
    return document


def _no_constant(name: str) -> Json:
    msg = f"{name} is not JSON"
    raise ValueError(msg)
