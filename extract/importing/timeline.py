"""From the rows of a file to the dense timeline of a clip: one row per frame, zeros where there is none.

Not a repair: a value, a frame number or a length that cannot be right is an error that says where it is.
"""

from dataclasses import dataclass

import numpy as np

from extract.importing.request import Selection
from extract.importing.rows import Rows
from stores.digest import Array
from stores.errors import CorpusError

MAX_FRAMES = 2**31 - 1


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
    last = int(numbers.max())
    length = last + 1 if frames is None else frames
    if last >= length:
        row = int(numbers.argmax())
        given = (
            f"{len(rows.features)} rows"
            if rows.frame is None
            else f"frames up to {last} (row {rows.first_row + row}), so {last + 1} frames"
        )
        msg = f"it has {given}, but the same clip has {length} frames in the store of --like"
        raise CorpusError(msg)
    dim = rows.features.shape[1]
    needed = length * dim * np.dtype(dtype).itemsize
    if length > MAX_FRAMES or needed > selection.max_bytes:
        row = int(numbers.argmax())
        msg = f"row {rows.first_row + row} is of frame {last}: a clip of {length} frames is over the limit"
        raise CorpusError(msg)
    _refuse_duplicates(numbers, rows)

    held = np.ones(len(numbers), bool) if rows.valid is None else rows.valid
    finite = np.isfinite(rows.features).all(axis=1)
    broken = held & ~finite
    if broken.any() and not nan_is_missing:
        row = int(broken.argmax())
        value = rows.features[row][~np.isfinite(rows.features[row])][0]
        msg = (
            f"frame {numbers[row]} (row {rows.first_row + row}) holds {value}; {int(broken.sum())} rows in"
            " all are not finite: repair them, or say --nan-is-missing"
        )
        raise CorpusError(msg)
    used = held & finite
    if not used.any():
        msg = f"none of its {len(used)} rows holds a frame: expected at least one that is valid and finite"
        raise CorpusError(msg)
    features = np.zeros((length, dim), dtype)
    with np.errstate(over="ignore"):  # what did not fit is looked for below
        features[numbers[used]] = rows.features[used]
    _refuse_overflow(features, rows, numbers)
    valid = np.zeros(length, bool)
    valid[numbers[used]] = True
    return Timeline(features, valid, int(broken.sum()))


def _frame_numbers(rows: Rows, selection: Selection) -> Array:
    """Returns (N,) int64, from 0."""
    count = len(rows.features)
    if rows.frame is None:
        if selection.first_frame:
            msg = (
                f"--first-frame {selection.first_frame} was given, but there are no frame numbers: name them"
                " by --frame-column, or leave it out where row i is frame i"
            )
            raise CorpusError(msg)
        return np.arange(count)
    given = rows.frame
    first = selection.first_frame
    # NaN fails every comparison.
    wrong = ~((given >= first) & (given <= MAX_FRAMES))
    if given.dtype.kind == "f":
        wrong |= ~(given == np.floor(given))
    if wrong.any():
        row = int(wrong.argmax())
        msg = (
            f"row {rows.first_row + row} has frame number {given[row]}, expected a whole number of at least"
            f" {first}" + (", or say --first-frame 0" if first and given[row] == 0 else "")
        )
        raise CorpusError(msg)
    return given.astype(np.int64) - first


def _refuse_duplicates(numbers: Array, rows: Rows) -> None:
    order = np.argsort(numbers, kind="stable")
    again = np.flatnonzero(np.diff(numbers[order]) == 0)
    if len(again):
        first, second = sorted(int(order[again[0] + i]) for i in (0, 1))
        assert rows.frame is not None
        msg = (
            f"row {rows.first_row + second} is of frame {rows.frame[second]}, as is row"
            f" {rows.first_row + first}: expected one row per frame"
        )
        raise CorpusError(msg)


def _refuse_overflow(features: Array, rows: Rows, numbers: Array) -> None:
    lost = ~np.isfinite(features).all(axis=1)
    if not lost.any():
        return
    frame = int(lost.argmax())
    row = int(np.flatnonzero(numbers == frame)[0])
    value = rows.features[row][~np.isfinite(features[frame])][0]
    remedy = "import with --dtype float32" if features.dtype == np.float16 else "scale the features down"
    msg = (
        f"frame {frame} (row {rows.first_row + row}) holds {value}, beyond {features.dtype}'s largest number"
        f" {np.finfo(features.dtype).max:g}: {remedy}"
    )
    raise CorpusError(msg)
