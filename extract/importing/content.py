"""What a source held when it was hashed: its SHA-256, and a way to tell that it did not change since."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from stores.errors import CorpusError
from stores.progress import Progress, silent

BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Content:
    """A file, or a folder such as ``a.zarr``, as it was when it was hashed.

    Attributes:
        path: of it.
        sha256: of its bytes, hex; of a folder, of the name, the size and the bytes of every file.
        state: size, modification time and inode of every file; they change when a file does.
    """

    path: Path
    sha256: str
    state: tuple[tuple[int, int, int], ...]

    def check_unchanged(self) -> None:
        """Passes if what was read since is what was hashed.

        Raises:
            CorpusError: a file was changed, replaced, added or removed meanwhile.
        """
        if _state(self.path, _files(self.path)) != self.state:
            msg = f"{self.path} changed while it was read: import again when it is complete"
            raise CorpusError(msg)


def content(path: Path, progress: Progress = silent) -> Content:
    """Hashes a file or a folder.

    Args:
        path: of it.
        progress: called with step ``hashing`` and bytes done.

    Raises:
        CorpusError: it cannot be read.
    """
    files = _files(path)
    state = _state(path, files)
    total, done = sum(size for size, _, _ in state), 0
    digest = hashlib.sha256()
    try:
        for file, (size, _, _) in zip(files, state, strict=True):
            if file != path:
                digest.update(os.fsencode(file.relative_to(path)) + b"\0" + str(size).encode() + b"\0")
            with file.open("rb") as opened:
                while block := opened.read(BLOCK_BYTES):
                    digest.update(block)
                    done = min(done + len(block), total)
                    progress("hashing", total, done)
    except OSError as error:
        raise _unreadable(path, error) from error
    return Content(path, digest.hexdigest(), state)


def display_name(path: Path) -> str:
    """Returns the name of a file as text that JSON can hold."""
    return os.fsencode(path.name).decode(errors="replace")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if not file.is_dir())


def _state(path: Path, files: list[Path]) -> tuple[tuple[int, int, int], ...]:
    try:
        found = [file.stat() for file in files]
    except OSError as error:
        raise _unreadable(path, error) from error
    return tuple((status.st_size, status.st_mtime_ns, status.st_ino) for status in found)


def _unreadable(path: Path, error: OSError) -> CorpusError:
    return CorpusError(f"{path} cannot be read: {error.strerror}")
