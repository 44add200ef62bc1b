"""The columns of a manifest as arrays: every value checked, text as numbers.

Not what a row means beside others, clips and shards: that is ``extract.corpora.readers.manifest``, which
says what each column holds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from extract.corpora.clip import Labels
from extract.corpora.imagery.stills import SPLITS
from extract.parsing import tables
from extract.parsing.tables import Table
from stores.errors import CorpusError

FPS = 30.0
"""Of clips in a table without the column ``fps``."""
LAST_FRAME = 999_999
"""Nine hours at 30 frames per second: a stray number must not become a timeline of a hundred million rows."""
MAX_CLASSES = 127
"""As many as the labels of a frame can tell apart."""

KNOWN = ("path", "clip", "frame", "valence", "arousal", "expression", "split", "subject", "fps", "static")
_CLASS_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
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


class ColumnReader:
    """Turns batches of rows into arrays; text becomes numbers, in the order in which it first comes."""

    def __init__(
        self, rows: Table, expressions: Sequence[str], units: Sequence[str], threshold: int | None
    ) -> None:
        self.clips: dict[str, int] = {}
        self.subjects: dict[str, int] = {}
        self.classes = {name: index for index, name in enumerate(expressions)}
        self.closed = bool(expressions)
        self.columns = tuple(name for name in rows.names if name in (*KNOWN, *units))
        self._rows, self._units, self._threshold = rows, units, threshold

    def arrays(self, first: int, batch: pa.RecordBatch) -> dict[str, Any]:
        """Returns the columns of a batch as they are in ``Columns`` and ``Labels``."""
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


def read(rows: Table, reader: ColumnReader) -> tuple[Columns, tuple[str, ...]]:
    """Returns the whole table and the names of its classes."""
    parts: dict[str, list[Any]] = {}
    for first, batch in rows.full_batches(reader.columns):
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
    return Columns(path=path, clips=clips, subjects=subjects, labels=labels, **arrays), classes
