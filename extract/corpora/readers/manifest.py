"""Reads a corpus that one table describes, CSV or Parquet: a row per frame, columns by name.

Not a guesser: classes are names, never numbers, and a column that no rule knows is not read, which is noted.

=====================  ================================================================================
column                 holds
=====================  ================================================================================
``path``               of the crop, JPEG or PNG, relative to the table; empty where there is none
``clip``, ``frame``    id of the clip, and index of the frame in it from 0, in any order and with holes
``valence, arousal``   in [-1, 1]; empty or below -1 is unknown
``expression``         name of the class; empty or -1 is unknown
``AU1``, ``AU2`` ...   0 or 1, or an intensity (``au_threshold``); empty or -1 is unknown, per cell
``split``              train, validation or test; without the column all rows train
``subject``            who it is, or the video, that no split may divide
``fps``                frames per second of the video; 30 without the column
``static``             1 for an independent image, which needs neither clip nor frame; otherwise 0
=====================  ================================================================================

All columns are optional, save that a row which is not static has a clip and a frame. A table without the
columns ``clip``, ``frame`` and ``static`` is of independent images. A clip has one split, one subject and one
frame rate.

Memory is that of the labels and the names of the crops: batches of rows pass through once.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.corpora.clip import Clip, Corpus, Labels
from extract.corpora.imagery import stills
from extract.corpora.imagery.stills import SPLITS, Group, ImageFrames
from extract.corpora.readers.manifest_columns import FPS, KNOWN, ColumnReader, Columns, read
from extract.parsing import tables
from extract.parsing.faults import found_in, some
from extract.parsing.tables import Table
from stores.errors import ConfigError, CorpusError
from stores.record import is_clip_id

FILES = tuple(f"manifest{suffix}" for suffix in tables.SUFFIXES)

_UNIT = re.compile(r"AU0?([1-9][0-9]?)")


def load(
    root: Path,
    edition: str,
    *,
    name: str = "manifest",
    expressions: Sequence[str] = (),
    aus: Sequence[str] = (),
    au_threshold: int | None = None,
) -> Corpus:
    """Reads the table ``root``, or ``manifest.csv``, ``.tsv`` or ``.parquet`` in the folder ``root``.

    Args:
        root: file or folder.
        edition: not looked at.
        name: of the corpus; in a mixture, subjects of corpora of one name are the same people.
        expressions: the classes that the corpus annotates; by default those that the column names, sorted.
        aus: the columns that are action units; by default those that are called ``AU1`` to ``AU99``.
        au_threshold: an action unit is present from this intensity on, of 0 to 5; None if units are 0 or 1.

    Raises:
        ConfigError: a threshold that is none.
        CorpusError: no table, a column or value that is not as it should be, two rows of one frame, or a
            clip of two splits, subjects or frame rates; names file and line.
    """
    if au_threshold is not None and not 1 <= au_threshold <= 5:
        msg = f"manifest: option au_threshold: found {au_threshold}, expected 1 to 5, or none for 0 and 1"
        raise ConfigError(msg)
    path = _file(Path(root))
    rows = tables.open_table(path)
    columns = rows.names
    units = tuple(aus) or tuple(column for column in columns if _UNIT.fullmatch(column))
    _check_spelling(rows, units, declared=bool(aus))
    timed = ("clip", "frame") if {"clip", "frame"} & set(columns) else ()
    tables.check_columns(rows, (*timed, *units))
    if not {*KNOWN, *units} & set(columns):
        tables.check_columns(rows, ("path",))
    table, classes = read(rows, ColumnReader(rows, expressions, units, au_threshold))
    names = stills.existing(path.parent, table.path)
    notes = _notes(rows, table, units, au_threshold) + stills.missing(path.parent, table.path, names)
    clips = [*_sequences(rows, table, names), *_shards(path.parent, table, names)]
    clips.sort(key=lambda clip: clip.id)
    for clip, following in pairwise(clips):
        if clip.id == following.id:
            msg = f"{path}: {clip.id} is the name of a shard of static images: call the clip something else"
            raise CorpusError(msg)
    return Corpus(name, Path(root), "", classes, units, tuple(clips), tuple(notes))


def _check_spelling(rows: Table, units: Sequence[str], *, declared: bool) -> None:
    """Passes if no column would go unread, or be read as another, for the way that its name is written."""
    columns = rows.names
    for name in columns:
        plain = re.sub(r"[\s_-]", "", name).casefold()
        known = plain.upper() if _UNIT.fullmatch(plain.upper()) else plain
        wanted = known in KNOWN or (known != plain and not declared)
        if wanted and known not in columns and name not in (*KNOWN, *units):
            msg = f"{rows.path}: column {name!r} is not read: call it {known!r}, or something else"
            raise CorpusError(msg)
    numbers: dict[str, str] = {}
    for name in units:
        match = _UNIT.fullmatch(name)
        other = numbers.setdefault(match[1] if match else name, name)
        if other != name:
            msg = f"{rows.path}: columns {other!r} and {name!r} are one action unit: keep one of them"
            raise CorpusError(msg)


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    found = [root / name for name in FILES if (root / name).is_file()]
    if len(found) != 1:
        msg = (
            f"{len(found)} tables in {root} (found {found_in(root)}): expected one of {', '.join(FILES)}, or "
            "the path of the file as corpus.root"
        )
        raise CorpusError(msg)
    return found[0]


def _sequences(rows: Table, table: Columns, names: pa.Array) -> Iterator[Clip]:
    """Puts the rows of each clip on its timeline."""
    timed = np.flatnonzero(~table.static)
    if not len(timed):
        return
    order = timed[np.lexsort((table.frame[timed], table.clip[timed]))]
    clip, frame = table.clip[order], table.frame[order]
    starts = np.flatnonzero(np.diff(clip, prepend=-1))
    _check_clips(rows, table, order, starts)
    twice = np.flatnonzero((clip[1:] == clip[:-1]) & (frame[1:] == frame[:-1]))
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        found = f"frame {frame[twice[0]]} of {table.clips[clip[twice[0]]]}"
        raise rows.error(int(second), found, f"each frame once: it is in {rows.place(int(first))} already")
    for part in np.split(order, starts[1:]):
        at, first = table.frame[part], part[0]
        count = int(at[-1]) + 1
        row = np.zeros(count, np.intp)
        row[at] = part
        absent = np.ones(count, np.bool_)
        absent[at] = False
        labels = Labels.unknown(count, table.labels.au.shape[1])
        labels.valence[at], labels.arousal[at] = table.labels.valence[part], table.labels.arousal[part]
        labels.expression[at], labels.au[at] = table.labels.expression[part], table.labels.au[part]
        yield Clip(
            table.clips[table.clip[first]],
            SPLITS[table.split[first]],
            # Taken, not sliced: what is sent to a worker are then these names alone.
            ImageFrames(rows.path.parent, names.take(pa.array(row, mask=absent))),
            labels,
            float(table.fps[first]),
            _subject(table, first),
        )


def _subject(table: Columns, row: np.intp) -> str:
    return table.subjects[table.subject[row]] if table.subject[row] >= 0 else ""


def _check_clips(rows: Table, table: Columns, order: NDArray[np.intp], starts: NDArray[np.intp]) -> None:
    """Passes if every clip has a name that can be an id, and one split, subject and frame rate."""
    for start in order[starts]:
        if not is_clip_id(name := table.clips[table.clip[start]]):
            raise rows.error(int(start), name, "a clip id that can name a file, in column 'clip'")
    head = np.repeat(order[starts], np.diff(starts, append=len(order)))
    for noun, column in (("split", table.split), ("subject", table.subject), ("fps", table.fps)):
        differs = order[column[order] != column[head]]
        if len(differs):
            row = int(differs.min())
            found = f"another {noun} of {table.clips[table.clip[row]]}"
            raise rows.error(row, found, f"the same {noun} in all rows of a clip")


def _shards(folder: Path, table: Columns, names: pa.Array) -> list[Clip]:
    """Gathers static rows, those of one split and subject together, in the order of the table."""
    static = np.flatnonzero(table.static)
    order = static[np.lexsort((table.subject[static], table.split[static]))]
    split, subject = table.split[order], table.subject[order]
    ends = np.flatnonzero((np.diff(split) != 0) | (np.diff(subject) != 0)) + 1
    groups = [
        Group(SPLITS[table.split[part[0]]], part, _subject(table, part[0]))
        for part in np.split(order, ends)
        if len(part)
    ]
    return stills.shards(folder, names, table.labels, groups)


def _notes(rows: Table, table: Columns, units: Sequence[str], threshold: int | None) -> list[str]:
    columns = rows.names
    notes = []
    if unread := [column for column in columns if column not in (*KNOWN, *units)]:
        notes.append(f"columns that were not read: {some(unread)}")
    if "split" not in columns:
        notes.append("no column split: all rows are of the training split")
    if "fps" not in columns and not table.static.all():
        notes.append(f"no column fps: {FPS:g} frames per second are assumed")
    if static := int(table.static.sum()):
        notes.append(f"{static} of {len(table.static)} rows are independent images")
        shown = table.path.filter(pa.array(table.static)).drop_null()
        if repeated := len(shown) - len(pc.unique(shown)):
            notes.append(f"{repeated} of them name an image that an earlier one names: all were read")
    if units and threshold is not None:
        notes.append(f"action units are present from intensity {threshold} on")
    return notes
