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

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.corpora import images, tables
from extract.corpora.affwild2_crops import found_in, some
from extract.corpora.clip import Clip, Corpus, Labels
from extract.corpora.images import SPLITS, Group, ImageFrames
from extract.corpora.tables import Rows
from stores.errors import ConfigError, CorpusError
from stores.record import is_clip_id

logger = logging.getLogger(__name__)

FPS = 30.0
"""Of clips in a table without the column ``fps``."""
LAST_FRAME = 999_999
"""Nine hours at 30 frames per second: a stray number must not become a timeline of a hundred million rows."""
FILES = tuple(f"manifest{suffix}" for suffix in tables.OPEN)
MAX_CLASSES = 127
"""As many as the labels of a frame can tell apart."""

_KNOWN = ("path", "clip", "frame", "valence", "arousal", "expression", "split", "subject", "fps", "static")
_UNIT = re.compile(r"AU0?([1-9][0-9]?)")
_CLASS_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The N rows of a table.

    Attributes:
        path: (N,) text, null where there is none.
        clip: (N,) int32, index into ``clips``, -1 for static rows.
        clips: ids.
        frame: (N,) int32, -1 for static rows.
        static: (N,) bool.
        split: (N,) int8, index into ``SPLITS``.
        subject: (N,) int32, index into ``subjects``, -1 for nobody.
        subjects: their names.
        fps: (N,) float32.
        labels: of the rows.
    """

    path: pa.Array
    clip: NDArray[np.int32]
    clips: tuple[str, ...]
    frame: NDArray[np.int32]
    static: NDArray[np.bool_]
    split: NDArray[np.int8]
    subject: NDArray[np.int32]
    subjects: tuple[str, ...]
    fps: NDArray[np.float32]
    labels: Labels


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
    rows = tables.open_rows(path)
    columns = rows.table.names
    units = tuple(aus) or tuple(column for column in columns if _UNIT.fullmatch(column))
    _check_spelling(rows, units, declared=bool(aus))
    timed = ("clip", "frame") if {"clip", "frame"} & set(columns) else ()
    tables.check_columns(rows, (*timed, *units))
    if not {*_KNOWN, *units} & set(columns):
        tables.check_columns(rows, ("path",))
    table, classes = _read(rows, _Reader(rows, expressions, units, au_threshold))
    names = images.existing(path.parent, table.path)
    notes = _notes(rows, table, units, au_threshold) + images.missing(path.parent, table.path, names)
    for note in notes:
        logger.info("%s: %s", path, note)
    clips = [*_sequences(rows, table, names), *_shards(path.parent, table, names)]
    clips.sort(key=lambda clip: clip.id)
    for clip, following in pairwise(clips):
        if clip.id == following.id:
            msg = f"{path}: {clip.id} is the name of a shard of static images: call the clip something else"
            raise CorpusError(msg)
    return Corpus(name, Path(root), "", classes, units, tuple(clips), tuple(notes))


def _check_spelling(rows: Rows, units: Sequence[str], *, declared: bool) -> None:
    """Passes if no column would go unread, or be read as another, for the way that its name is written."""
    columns = rows.table.names
    for name in columns:
        plain = re.sub(r"[\s_-]", "", name).casefold()
        known = plain.upper() if _UNIT.fullmatch(plain.upper()) else plain
        wanted = known in _KNOWN or (known != plain and not declared)
        if wanted and known not in columns and name not in (*_KNOWN, *units):
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


class _Reader:
    """Turns batches of rows into arrays; text becomes numbers, in the order in which it first comes."""

    def __init__(
        self, rows: Rows, expressions: Sequence[str], units: Sequence[str], threshold: int | None
    ) -> None:
        self.clips: dict[str, int] = {}
        self.subjects: dict[str, int] = {}
        self.classes = {name: index for index, name in enumerate(expressions)}
        self.closed = bool(expressions)
        self.columns = tuple(name for name in rows.table.names if name in (*_KNOWN, *units))
        self._rows, self._units, self._threshold = rows, units, threshold

    def arrays(self, first: int, batch: pa.RecordBatch) -> dict[str, Any]:
        """Returns the columns of a batch as they are in ``_Table`` and ``Labels``."""
        self._first, self._batch = first, batch
        count = batch.num_rows
        static = np.full(count, not {"clip", "frame", "static"} & set(self.columns))
        if "static" in self.columns:
            flag = self._numbers("static", lambda v: ~np.isin(v, (0, 1)) & ~np.isnan(v), "0 or 1")
            static = flag == 1
        clip, frame = np.full((2, count), -1, np.int32)
        if "clip" in self.columns:
            wrong = _fractional_or_outside(0, LAST_FRAME)
            given = self._numbers("frame", wrong, f"a whole number from 0 to {LAST_FRAME}")
            frame = np.where(static | np.isnan(given), -1, given).astype(np.int32)
            clip = np.where(static, -1, _encode(tables.text(batch, "clip"), self.clips))
        lacking = ~static & ((clip < 0) | (frame < 0))
        if lacking.any():
            raise self._error(int(lacking.argmax()), "", "a clip and a frame, or 1 in the column 'static'")
        return {
            "path": self._text("path"),
            "clip": clip,
            "frame": frame,
            "static": static,
            "split": self._split(),
            "subject": _encode(self._text("subject"), self.subjects),
            "fps": self._fps(),
            "valence": self._affect("valence"),
            "arousal": self._affect("arousal"),
            "expression": self._expression(),
            "au": self._au(),
        }

    def _text(self, name: str) -> pa.Array:
        if name not in self.columns:
            return pa.nulls(self._batch.num_rows, pa.large_string())
        return tables.text(self._batch, name)

    def _numbers(self, name: str, wrong: Callable[[Array], Array], expected: str) -> NDArray[np.float64]:
        values = self._rows.numbers(self._batch, name, self._first)
        bad = wrong(values)
        if bad.any():
            row = int(bad.argmax())
            raise self._error(row, self._batch.column(name)[row], f"{expected} in column {name!r}")
        return values

    def _error(self, row: int, found: object, expected: str) -> CorpusError:
        return self._rows.error(self._first + row, found, expected)

    def _split(self) -> NDArray[np.int8]:
        if "split" not in self.columns:
            return np.zeros(self._batch.num_rows, np.int8)
        codes: dict[str, int] = {name: index for index, name in enumerate(SPLITS)}
        column = self._text("split")
        found = _encode(column, codes)
        bad = (found < 0) | (found >= len(SPLITS))
        if bad.any():
            row = int(bad.argmax())
            raise self._error(row, column[row].as_py() or "", f"{', '.join(SPLITS)} in column 'split'")
        return found.astype(np.int8)

    def _fps(self) -> NDArray[np.float32]:
        if "fps" not in self.columns:
            return np.full(self._batch.num_rows, FPS, np.float32)
        values = self._numbers("fps", lambda v: v <= 0, "a positive number")
        return np.where(np.isnan(values), FPS, values).astype(np.float32)

    def _affect(self, name: str) -> NDArray[np.float32]:
        if name not in self.columns:
            return np.full(self._batch.num_rows, np.nan, np.float32)
        values = self._numbers(name, lambda v: v > 1, "a number from -1 to 1, or below -1 for unknown,")
        return np.where(values < -1, np.nan, values).astype(np.float32)

    def _expression(self) -> NDArray[np.int8]:
        if "expression" not in self.columns:
            return np.full(self._batch.num_rows, -1, np.int8)
        column = self._text("expression")
        column = pc.if_else(pc.equal(column, "-1"), pa.scalar(None, pa.large_string()), column)
        known = len(self.classes)
        found = _encode(column, self.classes)
        fresh = list(self.classes)[known:]
        wrong = fresh if self.closed else [name for name in fresh if _CLASS_NUMBER.fullmatch(name)]
        if not wrong and len(self.classes) > MAX_CLASSES:
            wrong = fresh[-1:]
        if wrong:
            row = int(np.isin(found, [self.classes[name] for name in wrong]).argmax())
            expected = "the name of a class, for a number means another one in every corpus,"
            if self.closed:
                expected = f"one of {', '.join(list(self.classes)[:known])}"
            elif len(self.classes) > MAX_CLASSES:
                expected = f"at most {MAX_CLASSES} different classes"
            raise self._error(row, column[row].as_py(), f"{expected} in column 'expression'")
        return found.astype(np.int8)

    def _au(self) -> NDArray[np.int8]:
        most = 1 if self._threshold is None else 5
        expected = f"a whole number from 0 to {most}, or -1 for unknown,"
        if self._threshold is None:
            expected += " (intensities need the option au_threshold)"
        cells = np.full((self._batch.num_rows, len(self._units)), -1, np.int8)
        for column, name in enumerate(self._units):
            values = self._numbers(name, _fractional_or_outside(-1, most), expected)
            known = values >= 0
            cells[known, column] = values[known] >= (self._threshold or 1)
        return cells


def _fractional_or_outside(low: int, high: int) -> Callable[[Array], Array]:
    return lambda v: (v < low) | (v > high) | (~np.isnan(v) & (v != np.floor(v)))


def _encode(column: pa.Array, codes: dict[str, int]) -> NDArray[np.int32]:
    """Returns the number of each text, -1 where there is none; ``codes`` grows by what is new."""
    encoded = column.dictionary_encode()
    numbers = [codes.setdefault(name, len(codes)) for name in encoded.dictionary.to_pylist()]
    lookup = np.array([*numbers, -1], np.int32)
    indices: NDArray[np.int32] = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return lookup[indices]


def _read(rows: Rows, reader: _Reader) -> tuple[_Table, tuple[str, ...]]:
    """Returns the whole table and the names of its classes."""
    parts: dict[str, list[Any]] = {}
    for first, batch in rows.batches(reader.columns):
        for name, array in reader.arrays(first, batch).items():
            parts.setdefault(name, []).append(array)
    if not parts:
        msg = f"{rows.path}: no row; expected one per frame"
        raise CorpusError(msg)
    path = pa.concat_arrays(parts.pop("path"))
    arrays = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    classes = tuple(reader.classes) if reader.closed else tuple(sorted(reader.classes))
    order = np.array([*(classes.index(name) for name in reader.classes), -1], np.int8)
    labels = Labels(
        arrays.pop("valence"), arrays.pop("arousal"), order[arrays.pop("expression")], arrays.pop("au")
    )
    clips, subjects = tuple(reader.clips), tuple(reader.subjects)
    return _Table(path=path, clips=clips, subjects=subjects, labels=labels, **arrays), classes


def _sequences(rows: Rows, table: _Table, names: pa.Array) -> Iterator[Clip]:
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


def _subject(table: _Table, row: np.intp) -> str:
    return table.subjects[table.subject[row]] if table.subject[row] >= 0 else ""


def _check_clips(rows: Rows, table: _Table, order: NDArray[np.intp], starts: NDArray[np.intp]) -> None:
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


def _shards(folder: Path, table: _Table, names: pa.Array) -> list[Clip]:
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
    return images.shards(folder, names, table.labels, groups)


def _notes(rows: Rows, table: _Table, units: Sequence[str], threshold: int | None) -> list[str]:
    columns = rows.table.names
    notes = []
    if unread := [column for column in columns if column not in (*_KNOWN, *units)]:
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
