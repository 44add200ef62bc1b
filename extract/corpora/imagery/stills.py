"""Corpora of independent images: which of them are there, and the static clips they are gathered in.

Not a reader of any list, and no image is opened: folders are listed, once each.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.corpora.clip import Clip, Corpus, Labels, NamedFrames, Split
from extract.parsing.faults import found_in
from stores.errors import CorpusError

SHARD_ROWS = 256
"""Images per shard: few enough that some thousand images can be divided into folds, for no shard is divided;
as many as make a megabyte of 2048 half-precision values. A static clip may hold ``MAX_STATIC_ROWS``."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class ImageFrames(NamedFrames):
    """Images below one folder by name; a null name has no image. Memory is little more than the names."""

    __slots__ = ("folder", "names")

    def __init__(self, folder: Path, names: pa.Array) -> None:
        self.folder = folder
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, frame: int) -> str | None:
        """Returns the path as text, see ``NamedFrames``."""
        name = self.names[frame].as_py()
        return None if name is None else os.path.join(self.folder, name)  # noqa: PTH118 (text is wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Images that may share a shard.

    Attributes:
        split: of all of them.
        rows: (N,) which images, in the order that they are to have.
        subject: whom all of them show; "" when unknown.
    """

    split: Split
    rows: NDArray[np.intp]
    subject: str = ""


def folder_of(root: Path, places: Sequence[str]) -> Path:
    """Returns the first of some folders below ``root`` that is there.

    Raises:
        CorpusError: none is.
    """
    for place in places:
        if (root / place).is_dir():
            return root / place
    msg = (
        f"no folder {' or '.join(places)} in {root} (found {found_in(root)}): expected the images there, as "
        "the release unpacks them; check corpus.root"
    )
    raise CorpusError(msg)


def existing(folder: Path, names: Sequence[str] | pa.Array) -> pa.Array:
    """Returns the names of files below a folder as text, null where there is no such file.

    Names are compared as they are written: ``a/../b.jpg`` is looked for in ``a/..``.
    """
    wanted = names if isinstance(names, pa.Array) else pa.array(names, pa.large_string())
    wanted = wanted.cast(pa.large_string())
    parents = pc.unique(pc.replace_substring_regex(wanted, "[^/]*$", "")).drop_null()
    found = [pa.array([], pa.large_binary())]
    for parent in parents.to_pylist():
        prefix = parent.encode()
        try:
            # As bytes, for the name of a file that lies beside the images need not be text.
            with os.scandir(os.fsencode(folder / parent)) as entries:
                found.append(pa.array([prefix + entry.name for entry in entries], pa.large_binary()))
        except (FileNotFoundError, NotADirectoryError):
            continue
    there = pc.is_in(wanted.cast(pa.large_binary()), value_set=pa.chunked_array(found).combine_chunks())
    return pc.if_else(there, wanted, pa.scalar(None, pa.large_string()))


def missing(folder: Path, wanted: Sequence[str] | pa.Array, names: pa.Array) -> list[str]:
    """Notes how many images are not there.

    Args:
        folder: that they are looked for in.
        wanted: (N,) their names, null where there is none.
        names: (N,) what ``existing`` made of them.

    Raises:
        CorpusError: none is there.
    """
    asked = wanted if isinstance(wanted, pa.Array) else pa.array(wanted, pa.large_string())
    lost = pc.and_(asked.is_valid(), names.is_null())
    count, total = lost.true_count, len(asked) - asked.null_count
    if not count:
        return []
    first = asked[pc.index(lost, True).as_py()].as_py()
    if count == total:
        msg = (
            f"none of the {total} images is in {folder} (found {found_in(folder)}): expected files such as "
            f"{first}; unpack the images there"
        )
        raise CorpusError(msg)
    return [f"{count} of {total} images are not there, such as {folder / first}"]


def by_split(splits: Sequence[Split]) -> list[Group]:
    """Returns the images of each split, in the order in which they come."""
    found = np.array(splits, np.str_)
    return [Group(split, np.flatnonzero(found == split)) for split in SPLITS]


def corpus(
    name: str,
    root: Path,
    folder: Path,
    wanted: Sequence[str],
    labels: Labels,
    *,
    notes: Sequence[str],
    splits: Sequence[Split] = (),
    expressions: Sequence[str] = (),
    aus: Sequence[str] = (),
    picture: NDArray[np.intp] | None = None,
) -> Corpus:
    """Returns the corpus of N images in one folder, and notes those that are not there.

    Args:
        name: of the corpus.
        root: it was read from.
        folder: of the images.
        wanted: (N,) their names.
        labels: theirs.
        notes: what was tolerated so far.
        splits: (N,) theirs; by default all train.
        expressions: names of the classes.
        aus: names of the action units.
        picture: as for ``shards``.

    Raises:
        CorpusError: no image is there.
    """
    there = existing(folder, wanted)
    clips = shards(folder, there, labels, by_split(splits or ["train"] * len(wanted)), picture)
    notes = [*notes, *missing(folder, wanted, there)]
    return Corpus(name, root, "", tuple(expressions), tuple(aus), tuple(clips), tuple(notes))


def shards(
    folder: Path,
    names: pa.Array,
    labels: Labels,
    groups: Iterable[Group],
    picture: NDArray[np.intp] | None = None,
) -> list[Clip]:
    """Gathers N images in static clips of at most ``SHARD_ROWS``, such as ``train-00003``, sorted by id.

    Args:
        folder: that the names are below.
        names: (N,) text, null where there is no image.
        labels: of the N images.
        groups: which images make shards together; numbered in this order within a split.
        picture: (N,) which picture a face is cut from, if pictures have several. Faces of one picture must
            follow one another; they share a shard, so that no fold divides them.
    """
    numbers: Counter[str] = Counter()
    clips: list[Clip] = []
    for group in groups:
        for rows in _cut(group.rows, picture):
            part = Labels(
                labels.valence[rows], labels.arousal[rows], labels.expression[rows], labels.au[rows]
            )
            # Taken, not sliced: what is sent to a worker are then these names alone.
            frames = ImageFrames(folder, names.take(pa.array(rows)))
            shard = f"{group.split}-{numbers[group.split]:05d}"
            clips.append(Clip(shard, group.split, frames, part, 1.0, group.subject, static=True))
            numbers[group.split] += 1
    return sorted(clips, key=lambda clip: clip.id)


def _cut(rows: NDArray[np.intp], picture: NDArray[np.intp] | None) -> Iterator[NDArray[np.intp]]:
    start = 0
    while start < len(rows):
        stop = min(start + SHARD_ROWS, len(rows))
        if picture is not None and stop < len(rows):
            begun = int(np.count_nonzero(picture[rows[start:stop]] == picture[rows[stop]]))
            stop -= begun if begun < stop - start else 0
        yield rows[start:stop]
        start = stop
