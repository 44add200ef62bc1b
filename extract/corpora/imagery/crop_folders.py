"""The crops of an Aff-Wild2 tree: ``cropped_aligned/<clip>/00001.jpg`` is frame 0 of its clip.

Not a reader of labels, and no crop is opened: folders are listed, once each.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.parsing.faults import found_in, some
from stores.errors import CorpusError

FOLDER = "cropped_aligned"
# Six digits at most: the longest clip of the release has 47,419 frames, and a stray 99999999.jpg must not
# become a timeline of a hundred million rows.
_CROP = re.compile(r"([0-9]{5}|[1-9][0-9]{5})\.jpg")


def folder(root: Path) -> Path:
    """The folder of all crops.

    Raises:
        CorpusError: it is not there.
    """
    path = root / FOLDER
    if not path.is_dir():
        msg = (
            f"no folder {FOLDER} in {root} (found {found_in(root)}): expected {FOLDER}/ with the crops as "
            "the ABAW release unpacks them; check corpus.root"
        )
        raise CorpusError(msg)
    return path


def clip_folders(crops: Path) -> tuple[list[str], int]:
    """Names of the folders in ``crops``, and how many other things lie there; hidden ones do not count."""
    with os.scandir(crops) as entries:
        visible = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = [name for name, is_dir in visible if is_dir]
    return folders, len(visible) - len(folders)


def check_folders(crops: Path, clips: Sequence[str], folders: Sequence[str]) -> None:
    """Passes if every clip has a folder of crops.

    Raises:
        CorpusError: some have none.
    """
    if lacking := sorted(set(clips) - set(folders)):
        msg = (
            f"{len(lacking)} clips of the annotations or test lists have no folder in {crops}: "
            f"{some(lacking)}; unpack their crops there, or take their files away"
        )
        raise CorpusError(msg)


def present(clip: Path) -> tuple[NDArray[np.bool_], int]:
    """Which frames of a clip have a crop, up to the last one, and how many other files lie beside them.

    Raises:
        CorpusError: there is no crop, or crops are numbered from zero.
    """
    with os.scandir(clip) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    numbers = [int(name[:-4]) for name in names if _CROP.fullmatch(name)]
    if not numbers:
        found = f"{len(names)} other files such as {min(names)}" if names else "nothing"
        msg = f"{clip} holds no crop (found {found}): expected 00001.jpg and so on; unpack the clip's crops"
        raise CorpusError(msg)
    if min(numbers) == 0:
        msg = f"{clip / '00000.jpg'}: crops are numbered from 00001.jpg (= frame 0); rename this clip's crops"
        raise CorpusError(msg)
    frames = np.zeros(max(numbers), np.bool_)
    frames[np.array(numbers) - 1] = True
    return frames, len(names) - len(numbers)
