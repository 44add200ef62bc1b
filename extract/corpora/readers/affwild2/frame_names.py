"""Names of Aff-Wild2 crops, ``<clip>/00012.jpg``, as columns of clips and 0-based frames.

Not a look at the disk: whether a crop is there is the business of ``affwild2_crops``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stores.errors import CorpusError

# Six digits at most: the longest clip of the release has 47,419 frames, and a stray 99999999.jpg must not
# become a timeline of a hundred million rows. What follows the first comma of a test list is a dummy value.
_NAME = r"^\s*(?P<clip>[^,/\s](?:[^,/]*[^,/\s])?)/(?P<number>[0-9]{5}|[1-9][0-9]{5})\.jpg\s*(?:,.*)?$"


@dataclass(frozen=True, slots=True, eq=False)
class CropNames:
    """The crops that the rows of one file name, in the order of its rows; a name may come twice.

    Attributes:
        clips: ids in the order of their first row.
        clip: (N,) int32, index into ``clips``.
        frame: (N,) int32, 0-based: ``00001.jpg`` is frame 0.
    """

    clips: tuple[str, ...]
    clip: NDArray[np.int32]
    frame: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.clip)

    def name(self, row: int) -> str:
        """The name of the crop of one row, as in the file."""
        return f"{self.clips[self.clip[row]]}/{self.frame[row] + 1:05d}.jpg"

    def repeated(self) -> int:
        """How many rows name a crop that an earlier row has named."""
        crops = np.sort(self.clip.astype(np.int64) << 32 | self.frame)
        return int((crops[1:] == crops[:-1]).sum())


UNNAMED = CropNames((), np.empty(0, np.int32), np.empty(0, np.int32))
"""What a file without names has."""


def read_names(path: Path, column: pa.ChunkedArray, first_line: int) -> CropNames:
    """Takes the names in one column of a file apart; all that follows a comma is left away.

    Args:
        path: of the file, for messages.
        column: of strings.
        first_line: line of the file, counted from 1, that the first entry comes from.

    Raises:
        CorpusError: an entry names no crop; the message has its line.
    """
    import pyarrow.compute as pc  # late: most releases name no crops, and it takes a tenth of a second

    parts = pc.extract_regex(column, _NAME).combine_chunks()
    number, clip = pc.struct_field(parts, "number"), pc.struct_field(parts, "clip").dictionary_encode()
    wrong = pc.or_(pc.is_null(parts), pc.equal(pc.fill_null(number, "00000"), "00000"))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        found = column[row].as_py() or ""
        msg = (
            f"{path}, line {first_line + row}: found {found[:80]!r}, expected a crop such as "
            "video59_right/00001.jpg (five digits, six from 100000 on, the first frame is 00001); restore "
            "the file from the release"
        )
        raise CorpusError(msg)
    frame = number.cast(pa.int32()).to_numpy(zero_copy_only=False) - 1
    return CropNames(
        tuple(clip.dictionary.to_pylist()),
        clip.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False),
        frame.astype(np.int32, copy=False),
    )
