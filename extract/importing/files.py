"""The files of an import: which there are, and whose clips they hold.

Not a reader of features: nothing here knows a format.
"""

from dataclasses import dataclass
from pathlib import Path

from extract.importing.readers import READERS
from stores.errors import CorpusError


@dataclass(frozen=True, slots=True)
class Source:
    """What was given to import.

    Attributes:
        suffix: of every file; a key of ``readers.READERS``.
        files: clip -> its file, sorted by clip; empty if ``many`` is given.
        many: the one file of many clips, or None.
    """

    suffix: str
    files: dict[str, Path]
    many: Path | None


def find(source: Path) -> Source:
    """Looks at what is to be imported.

    Args:
        source: a folder with one file per clip (its stem is the clip's id; hidden files do not count), or one
            file of many clips.

    Raises:
        CorpusError: no such thing, or the folder is empty, a store, or holds other things than files of one
            known suffix; names what is in the way.
    """
    if (source / "store.json").exists():
        msg = f"{source} is a store already: a configuration uses it as it is by features.store"
        raise CorpusError(msg)
    if not source.is_dir():
        if not source.is_file() or source.suffix not in READERS:
            msg = f"{source} is not a folder, nor a file that ends in one of {' '.join(READERS)}"
            raise CorpusError(msg)
        return Source(source.suffix, {}, source)
    paths = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    strange = [path for path in paths if path.suffix not in READERS or not path.is_file()]
    suffixes = sorted({path.suffix for path in paths} & READERS.keys())
    if strange or len(suffixes) != 1:
        found = "nothing"
        if strange:
            found = ", ".join(path.name for path in strange[:5]) + (", ..." if len(strange) > 5 else "")
        elif suffixes:
            found = f"files of {len(suffixes)} kinds ({' '.join(suffixes)})"
        msg = (
            f"the folder {source} holds {found}: expected one file per clip, all with the same one of the"
            f" suffixes {' '.join(READERS)}; move the rest elsewhere"
        )
        raise CorpusError(msg)
    return Source(suffixes[0], {path.name.removesuffix(suffixes[0]): path for path in paths}, None)
