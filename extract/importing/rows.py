"""The rows of one clip as a file holds them, and the limits that a file must keep before they are read.

Not a timeline: rows may be in any order, and any frame may lack one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from extract.importing.request import Selection
from stores.digest import Array
from stores.errors import CorpusError

MAX_EXPANSION = 1032
"""Most bytes that deflate makes of one (zlib's technical details); a declared size beyond it is a bomb."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a file says of one clip.

    Attributes:
        features: (N, D) of floats or integers.
        frame: (N,) frame numbers as the source counts them, or None where row i is frame i.
        valid: (N,) bool, or None where every row holds a frame.
        columns: names of the table's feature columns; empty for arrays.
        first_row: number of the first of these rows in the file, for messages.

    Raises:
        CorpusError: the arrays do not have these types or shapes.
    """

    features: Array
    frame: Array | None = None
    valid: Array | None = None
    columns: tuple[str, ...] = ()
    first_row: int = 0

    def __post_init__(self) -> None:
        _require_numbers("features", self.features, 2)
        if self.frame is not None:
            _require_numbers("frame numbers", self.frame, 1)
        for name, array in (("frame numbers", self.frame), ("valid flags", self.valid)):
            if array is not None and array.shape != self.features.shape[:1]:
                msg = (
                    f"{name} have shape {array.shape}, expected one per row of features {self.features.shape}"
                )
                raise CorpusError(msg)
        if self.valid is not None and self.valid.dtype != bool:
            msg = f"valid flags are {self.valid.dtype}, expected bool, or integers 0 and 1"
            raise CorpusError(msg)


def named_rows(
    shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Array], selection: Selection
) -> Rows:
    """Returns the rows of a clip that is a set of named arrays.

    Args:
        shapes: name to shape.
        read: gives an array by name.
        selection: which of the arrays are features, frame numbers and flags.

    Raises:
        CorpusError: an array that was asked for is not there, or it cannot be told which are the features.
    """
    for name in (selection.array, selection.frame, selection.valid):
        if name is not None and name not in shapes:
            msg = f"there is no array {name!r}, only {listing(shapes)}"
            raise CorpusError(msg)
    frame, valid = selection.frame_name, selection.valid_name
    chosen = selection.array or "features"
    if chosen not in shapes:
        matrices = [name for name, shape in shapes.items() if len(shape) == 2 and name not in (frame, valid)]
        if len(matrices) != 1:
            msg = (
                f"no array is called 'features', and {len(matrices)} of {listing(shapes)} are 2-D: name the"
                " one that it is by --array"
            )
            raise CorpusError(msg)
        chosen = matrices[0]
    return Rows(
        features=read(chosen),
        frame=read(frame) if frame in shapes else None,
        valid=as_flags(read(valid)) if valid in shapes else None,
    )


def as_flags(values: Array) -> Array:
    """Returns bool of integers that are all 0 or 1; other arrays as they are, for ``Rows`` to judge.

    Raises:
        CorpusError: integers that are neither 0 nor 1; names the first row.
    """
    if values.dtype.kind not in "iu" or values.ndim != 1:
        return values
    other = (values != 0) & (values != 1)
    if other.any():
        row = int(other.argmax())
        msg = f"row {row} has valid flag {values[row]}, expected 0 or 1"
        raise CorpusError(msg)
    return values.astype(bool)


def check_size(what: str, declared: int, stored: int, max_bytes: int) -> None:
    """Refuses an array whose declared size is over the limit, or more than its storage can hold.

    Args:
        what: the array, for the message.
        declared: bytes of the array in memory.
        stored: bytes that it takes in the file, compressed or not.
        max_bytes: ``Selection.max_bytes``.

    Raises:
        CorpusError: it is refused.
    """
    if declared > max_bytes:
        msg = f"{what} would take {declared} bytes, the limit for a clip is {max_bytes}: cut it into clips"
        raise CorpusError(msg)
    if declared > MAX_EXPANSION * stored:
        msg = f"{what} claims {declared} bytes, but {stored} bytes in the file cannot hold them: make it anew"
        raise CorpusError(msg)


def listing(names: Iterable[str]) -> str:
    """Returns some names for a message."""
    known = list(names)
    return ", ".join(map(repr, known[:8])) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")


def _require_numbers(what: str, array: Array, axes: int) -> None:
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        msg = f"{what} are of type {array.dtype}, expected floats or integers of at most 64 bits"
        raise CorpusError(msg)
    if array.ndim != axes or 0 in array.shape:
        shape = "(frames, dimensions)" if axes == 2 else "(frames,)"
        msg = f"{what} have shape {array.shape}, expected {shape}, none of them 0"
        raise CorpusError(msg)
