"""What the error of a file or folder says: where, what was found, what was expected, what to do."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from stores.errors import CorpusError


def fault(path: Path, line: int, found: str, expected: str) -> CorpusError:
    """Returns the error that a line of a file holds something else."""
    return CorpusError(
        f"{path}, line {line}: found {found[:80]!r}, expected {expected}; restore the file from the release"
    )


def stranger(path: Path, what: str, expected: str) -> CorpusError:
    """Returns the error that a file or folder is not what it should be, such as ``file of BP4D``."""
    return CorpusError(
        f"{path}: no {what}; expected {expected}: rename or remove it, or restore it from the release"
    )


def rival(path: Path, other: Path, subject: str) -> CorpusError:
    """Returns the error that two files or folders say what one should."""
    return CorpusError(f"{path} and {other} are both of {subject}: keep one of them")


def lacking(folder: Path, what: str, expected: str) -> CorpusError:
    """Returns the error that something is not in a folder."""
    return CorpusError(
        f"no {what} in {folder} (found {found_in(folder)}): expected {expected}, as the release has it; "
        "check corpus.root"
    )


def found_in(path: Path) -> str:
    """Returns some of what lies in a folder, for a message."""
    if not path.is_dir():
        return "no folder"
    return ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"


def some(names: Sequence[str]) -> str:
    """Returns some names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def listing(names: Iterable[str]) -> str:
    """Returns some names in quotes and how many there are, for a message."""
    known = list(names)
    return ", ".join(map(repr, known[:8])) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")


def visible(folder: Path, pattern: str) -> list[Path]:
    """Returns the sorted files in a folder that match a pattern and are not hidden."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
