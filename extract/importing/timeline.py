"""From the rows of a file to the dense timeline of a clip: one row per frame, zeros where there is none.

A value, a frame number or a length that cannot be right is an error that names file and row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from extract.importing.request import Selection
from stores.digest import Array
from stores.errors import CorpusError

MAX_FRAMES = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a file says of one clip: rows in any order, and any frame may lack one.

    Attributes:
        path: of the file.
        features: (N, D) of floats or integers.
        frame: (N,) frame numbers as the source counts them, or None where row i is frame i.
        valid: (N,) bool, or integers 0 and 1, or None where every row holds a frame; kept as bool.
        columns: names of the table's feature columns; empty for arrays.
        unit: what the file is counted in.
        first: number of the first of these rows in the file.

    Raises:
        CorpusError: the arrays do not have these types, shapes or values.
    """

    path: Path
    features: Array
    frame: Array | None = None
    valid: Array | None = None
    columns: tuple[str, ...] = ()
    unit: Literal["row", "line"] = "row"
    first: int = 0

    def __post_init__(self) -> None:
        for name, array, kinds, shape in (
            ("features", self.features, "fiu", (*self.features.shape[:1], *self.features.shape[1:2])),
            ("frame numbers", self.frame, "fiu", self.features.shape[:1]),
            ("valid flags", self.valid, "iub", self.features.shape[:1]),
        ):
            if array is None:
                continue
            if array.dtype.kind not in kinds or array.dtype.itemsize > 8:
                msg = f"{self.path}: {name} are of type {array.dtype}, expected numbers of at most 64 bits"
                raise CorpusError(msg)
            axes = "(frames, dimensions)" if name == "features" else f"{shape}, one for each row of features"
            if array.shape != shape or 0 in array.shape or (name == "features" and array.ndim != 2):
                msg = f"{self.path}: {name} have shape {array.shape}, expected {axes}"
                raise CorpusError(msg)
        if self.valid is not None:
            other = (self.valid != 0) & (self.valid != 1)
            if other.any():
                row = int(other.argmax())
                msg = f"{self.place(row)}: found valid flag {self.valid[row]}, expected 0 or 1"
                raise CorpusError(msg)
            object.__setattr__(self, "valid", self.valid.astype(bool))

    def place(self, row: int) -> str:
        """Returns where a row is, for a message."""
        return f"{self.path}, {self.unit} {self.first + row}"


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The arrays of a feature clip.

    Attributes:
        features: (T, D) in the dtype of the store; zeros where not valid.
        valid: (T,) bool.
        not_finite: rows that held a NaN or an infinity and count as missing.
    """

    features: Array
    valid: Array
    not_finite: int

    def arrays(self) -> dict[str, Array]:
        """Returns what a feature store writes."""
        frame = np.arange(len(self.features), dtype=np.int32)
        return {"features": self.features, "frame": frame, "valid": self.valid}


def dense(
    rows: Rows,
    dtype: str,
    selection: Selection,
    *,
    frames: int | None = None,
    nan_is_missing: bool = False,
) -> Timeline:
    """Lays the rows of a clip out on its timeline.

    A row that the source marks as not valid is zeroed, whatever it holds. Integers and wider floats are
    rounded to ``dtype``.

    Args:
        rows: as the file holds them.
        dtype: ``float16`` or ``float32``.
        selection: number of the first frame, and the limit in bytes.
        frames: length ``T`` of the timeline, or None for the last frame that has a row, and one.
        nan_is_missing: rows that are not finite count as missing.

    Raises:
        CorpusError: frame numbers that are no whole numbers, too small, beyond ``frames`` or given twice;
            a value that is not finite or does not fit ``dtype``; no row that is valid. Names row and frame.
    """
    numbers = _frame_numbers(rows, selection)
    row = int(numbers.argmax())
    last = int(numbers[row])
    length = last + 1 if frames is None else frames
    dim = rows.features.shape[1]
    if last >= length:
        given = f"{last + 1} rows" if rows.frame is None else f"frames up to {last}"
        msg = f"{rows.place(row)}: found {given}, but the clip has {length} frames in the store of --like"
        raise CorpusError(msg)
    if length > MAX_FRAMES or length * dim * np.dtype(dtype).itemsize > selection.max_bytes:
        msg = f"{rows.place(row)} is of frame {last}: a clip of {length} frames is over the limit"
        raise CorpusError(msg)
    order = np.argsort(numbers, kind="stable")
    again = np.flatnonzero(np.diff(numbers[order]) == 0)
    if len(again):
        first, second = order[again[0]], order[again[0] + 1]
        msg = f"{rows.place(int(second))} is of frame {numbers[second] + selection.first_frame}, as is"
        msg += f" {rows.unit} {rows.first + int(first)}: expected one row per frame"
        raise CorpusError(msg)

    held = np.ones(len(numbers), bool) if rows.valid is None else rows.valid
    finite = np.isfinite(rows.features).all(axis=1)
    broken = held & ~finite
    if broken.any() and not nan_is_missing:
        row = int(broken.argmax())
        value = rows.features[row][~np.isfinite(rows.features[row])][0]
        msg = (
            f"{rows.place(row)}: frame {numbers[row]} holds {value}; {int(broken.sum())} rows in all are not"
            " finite: repair them, or say --nan-is-missing"
        )
        raise CorpusError(msg)
    used = held & finite
    if not used.any():
        msg = f"{rows.path}: none of its {len(used)} rows holds a frame: expected at least one that is valid"
        msg += " and finite"
        raise CorpusError(msg)
    features = np.zeros((length, dim), dtype)
    with np.errstate(over="ignore"):  # what did not fit is looked for next
        features[numbers[used]] = rows.features[used]
    lost = ~np.isfinite(features[numbers]).all(axis=1)
    if lost.any():
        row = int(lost.argmax())
        value = rows.features[row][~np.isfinite(features[numbers[row]])][0]
        remedy = "import with --dtype float32" if dtype == "float16" else "scale the features down"
        msg = (
            f"{rows.place(row)}: frame {numbers[row]} holds {value}, beyond {dtype}'s largest number"
            f" {np.finfo(dtype).max:g}: {remedy}"
        )
        raise CorpusError(msg)
    valid = np.zeros(length, bool)
    valid[numbers[used]] = True
    return Timeline(features, valid, int(broken.sum()))


def _frame_numbers(rows: Rows, selection: Selection) -> Array:
    """Returns (N,) int64, from 0."""
    first, given = selection.first_frame, rows.frame
    if given is None:
        if first:
            msg = (
                f"{rows.path}: --first-frame {first} was given, but there are no frame numbers: name them by"
                " --frame-column, or leave it out where row i is frame i"
            )
            raise CorpusError(msg)
        return np.arange(len(rows.features))
    # NaN fails every comparison.
    wrong = ~((given >= first) & (given <= MAX_FRAMES) & (given == np.floor(given)))
    if wrong.any():
        row = int(wrong.argmax())
        msg = f"{rows.place(row)}: found frame number {given[row]}, expected a whole number from {first} on"
        raise CorpusError(msg + (", or say --first-frame 0" if first and given[row] == 0 else ""))
    return given.astype(np.int64) - first
