"""What a file held when it was hashed: its SHA-256, and a way to tell that it did not change since.

Not a reader of features: nothing here knows a format.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from stores.errors import CorpusError
from stores.progress import Progress, silent

BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was when it was hashed.

    Attributes:
        path: of the file.
        sha256: of its bytes, hex.
        state: size, modification time and inode; they change when the file does.
    """

    path: Path
    sha256: str
    state: tuple[int, int, int]

    def check_unchanged(self) -> None:
        """Makes sure that what was read since is what was hashed.

        Raises:
            CorpusError: the file was changed or replaced meanwhile.
        """
        if _state(self.path) != self.state:
            msg = f"{self.path} changed while it was read: import again when it is complete"
            raise CorpusError(msg)


def content(path: Path, progress: Progress = silent) -> Content:
    """Hashes a file.

    Args:
        path: of the file.
        progress: called with step ``hashing`` and bytes done.

    Raises:
        CorpusError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        state = _state(path)
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                progress("hashing", state[0], min(file.tell(), state[0]))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CorpusError(msg) from error
    return Content(path, digest.hexdigest(), state)


def display_name(path: Path) -> str:
    """Returns the name of a file as text that JSON can hold."""
    return os.fsencode(path.name).decode(errors="replace")


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CorpusError(msg) from error
    return status.st_size, status.st_mtime_ns, status.st_ino
