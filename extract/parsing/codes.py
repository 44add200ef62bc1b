"""Annotation files whose rows name their frame: ``frame,code,...``, checked by value, order, file and line.

Not the files of ABAW (``annotation``), where row i is frame i.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.parsing import faults, text
from stores.errors import ConfigError, CorpusError

ROW_TOLERANCE = 2
"""Files of one video, and its pictures, were counted by different tools: they differ by one or two frames."""

NUMBER = re.compile(r"([0-9]{1,6})")
"""A frame by its number; no video of these corpora has a million frames."""

_WRONG = -128


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file look.

    Attributes:
        frame: matches the first cell; its group is the number of the frame.
        first: the least such number.
        codes: value in the file -> value kept; -1 is unknown.
        separator: of the cells; None is any run of blanks.
        expected: a row in words, for messages.
    """

    frame: re.Pattern[str]
    first: int
    codes: Mapping[int, int]
    separator: str | None
    expected: str


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The rows of one file, N of them.

    Attributes:
        path: of the file.
        lines: (N,) int32, line of each row, from 1.
        frames: (N,) int32, increasing, 0 is the first frame of the video.
        values: (N, K) int8, -1 = unknown.
        first: what the file calls frame 0.
    """

    path: Path
    lines: NDArray[np.int32]
    frames: NDArray[np.int32]
    values: NDArray[np.int8]
    first: int

    @property
    def end(self) -> int:
        """The last frame, plus one."""
        return int(self.frames[-1]) + 1

    def beyond(self, end: int) -> str:
        """File and line of the first row at or after the frame ``end``; there must be one."""
        row = int(np.searchsorted(self.frames, end))
        return f"{self.path}, line {self.lines[row]} (frame number {self.frames[row] + self.first})"


def parse(path: Path, rows: Sequence[str], first_line: int, columns: int, layout: Layout) -> Codes:
    """Parses rows of a frame and ``columns`` codes.

    Raises:
        CorpusError: a row of another number of cells, without a frame number, with another value, or with a
            frame that does not come after that of the row before; or no row at all. Names file and line.
    """
    if not rows:
        msg = f"{path}: no row; expected {layout.expected} per frame: restore it from the release"
        raise CorpusError(msg)
    # Looked up as they are written; any other way to write the same number takes the slow path.
    known = {str(code): kept for code, kept in layout.codes.items()}
    frames = np.empty(len(rows), np.int32)
    values = np.empty((len(rows), columns), np.int8)
    last = -1
    for row, line in enumerate(rows):
        frame, *cells = line.split(layout.separator) or [line]
        match = layout.frame.fullmatch(frame.strip())
        index = -1 if match is None else int(match[1]) - layout.first
        kept = [known[cell] if cell in known else _slowly(cell, layout) for cell in cells]
        if index < 0 or len(kept) != columns or _WRONG in kept:
            raise faults.fault(path, first_line + row, line, layout.expected)
        if index <= last:
            found = f"frame number {index + layout.first} after {last + layout.first}"
            raise faults.fault(path, first_line + row, found, "increasing frame numbers, each once")
        frames[row], values[row], last = index, kept, index
    return Codes(path, np.arange(len(rows), dtype=np.int32) + first_line, frames, values, layout.first)


def _slowly(cell: str, layout: Layout) -> int:
    value = text.whole(cell)
    return _WRONG if value is None else layout.codes.get(value, _WRONG)


def read(path: Path, layout: Layout) -> Codes:
    """Reads a file of one code per frame, without a header.

    Raises:
        CorpusError: the file does not follow the layout; names file and line.
    """
    return parse(path, text.lines(path), 1, 1, layout)


def read_units(paths: Mapping[str, Path], layout: Layout) -> dict[str, Codes]:
    """Reads the files of one video, one per action unit.

    Raises:
        CorpusError: a file does not follow the layout, or ends more than ``ROW_TOLERANCE`` frames before
            another; names the first row beyond its end.
    """
    files = {unit: read(path, layout) for unit, path in paths.items()}
    shortest, longest = (choose(files.values(), key=lambda file: file.end) for choose in (min, max))
    if longest.end - shortest.end > ROW_TOLERANCE:
        msg = (
            f"{longest.beyond(shortest.end + ROW_TOLERANCE)}: beyond the end of {shortest.path}, whose last "
            f"frame number is {shortest.end - 1 + shortest.first}: expected ends that differ by at most "
            f"{ROW_TOLERANCE}; one of the files is of another video or cut short: restore it from the release"
        )
        raise CorpusError(msg)
    return files


def intensities(threshold: int) -> dict[int, int]:
    """Codes for intensities 0 to 5 that become occurrence: 1 from ``threshold`` on.

    Raises:
        ConfigError: a threshold that is no intensity of an active unit.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= 5:
        msg = f"au_threshold {threshold!r}: expected a whole number from 1 (any trace) to 5 (the maximum)"
        raise ConfigError(msg)
    return {intensity: int(intensity >= threshold) for intensity in range(6)}


def intensity_note(threshold: int) -> str:
    """Says which threshold made occurrence of intensities."""
    return f"an action unit of intensity {threshold} or more counts as present (au_threshold)"
