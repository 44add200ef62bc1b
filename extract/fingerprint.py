"""What a clip's features are made from: which crops exist, and a digest that changes when any of them does.

Size and modification time stand for content, so an unchanged clip costs one stat a crop.
"""

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.corpora import Crops, NamedFrames


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The crops of one clip as found on disk.

    Attributes:
        digest: SHA-256 over the number of frames and every crop's name, size and modification time.
        present: (T,) bool, whether a frame has a crop.
    """

    digest: str
    present: NDArray[np.bool_]


def inspect(clip: Crops) -> Source:
    """Looks at the crops of ``clip`` without reading them.

    A copy of a corpus that does not keep modification times therefore counts as changed: features are made
    anew rather than trusted. A crop that vanished since the corpus was read is part of the digest as such.
    """
    digest = hashlib.sha256(f"{len(clip.frames)}\n".encode())
    present = np.zeros(len(clip.frames), np.bool_)
    frames = clip.frames
    names = map(frames.name, range(len(frames))) if isinstance(frames, NamedFrames) else frames
    for frame, path in enumerate(names):
        if path is None:
            continue
        present[frame] = True
        try:
            status = os.stat(path)  # noqa: PTH116 - Path.stat costs twice as much, a million times over
            found = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            found = f"unreadable {error.errno}"
        name = os.path.basename(path)  # noqa: PTH119 - as above
        digest.update(f"{frame} {name} {found}\n".encode("utf-8", "surrogateescape"))
    return Source(digest.hexdigest(), present)
