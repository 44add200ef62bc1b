"""The organisers' test lists of Aff-Wild2: which clips and frames an edition asks predictions for, in order.

Not a writer or checker of submissions: a list tells what to predict, not how well.

Names are what comes before the first comma of a line; dummy values and bare commas after it are ignored, as
in the lists of ABAW-5 (``2-30-640x360/00001.jpg,``) and ABAW-6 (``...,0.5,-0.5``). Lists of ABAW-1 and 2 are
assumed to look like those of ABAW-3, those of ABAW-10 like those of ABAW-6: neither was seen.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from extract.corpora.readers.affwild2.annotation import check_header
from extract.corpora.readers.affwild2.frame_names import CropNames, read_names
from extract.parsing import text
from stores import editions
from stores.errors import ConfigError, CorpusError

Track = Literal["VA", "EXPR", "AU", "MTL", "CE", "LSD"]

# Where lists lie below the root of a corpus, and what they are called.
_FOLDERS = (".", "test_set_examples")
_RELEASE = "{}_Challenge_test_set_release.txt"
_SIXTH: dict[Track, str] = {
    "VA": "CVPR_6th_ABAW_VA_test_set_example.txt",
    "EXPR": "CVPR_6th_ABAW_Expr_test_set_example.txt",
    "AU": "CVPR_6th_ABAW_AU_test_set_example.txt",
}
_CE: dict[Track, str] = {"CE": "CVPR_6th_ABAW_CE_test_set_example.txt"}
_NO_KNOWN_NAME: dict[Track, str] = {"VA": "", "EXPR": "", "AU": ""}
_FILES: dict[str, dict[Track, str]] = {
    "abaw1": _NO_KNOWN_NAME,
    "abaw2": _NO_KNOWN_NAME,
    "abaw3": {
        "VA": _RELEASE.format("Valence_Arousal_Estimation"),
        "EXPR": _RELEASE.format("Expression_Classification"),
        "AU": _RELEASE.format("Action_Unit_Detection"),
        "MTL": _RELEASE.format("Multi_Task_Learning"),
    },
    "abaw4": {"MTL": _RELEASE.format("MTL"), "LSD": _RELEASE.format("LSD")},
    "abaw5": {
        "VA": "CVPR_5th_ABAW_VA_test_set_sample.txt",
        "EXPR": "CVPR_5th_ABAW_EXPR_test_set_sample.txt",
        "AU": "CVPR_5th_ABAW_AU_test_set_sample.txt",
    },
    "abaw6": _SIXTH | _CE,
    "abaw7": {"MTL": "MTL.txt", "CE": "CER.txt"},
    "abaw8": _SIXTH | _CE,  # it still ships the names of the sixth
    "abaw10": _SIXTH,
    "abaw11": {"MTL": _RELEASE.format("MTL")},
}
_LSD_IMAGE = re.compile(r"([0-9]{1,7})\.jpg")


@dataclass(frozen=True, slots=True, eq=False)
class TestList:
    """One list.

    Attributes:
        path: of its file.
        edition: it is of, such as ``abaw5``.
        track: it is of.
        clips: whose predictions are asked for, in the order of their first line.
        rows: the frames asked for, one per line in the order of the file, or None where the list names
            videos alone (ABAW-1 to 3): every frame of each is asked for. The images of LSD, ``0.jpg``, have
            no clip: they are frames of a clip called "".
    """

    __test__ = False  # pytest takes the name for a test

    path: Path
    edition: str
    track: Track
    clips: tuple[str, ...]
    rows: CropNames | None

    def name(self, row: int) -> str:
        """What line ``row`` of a list of frames asks for, as it is to be written in a submission."""
        if self.rows is None:
            msg = f"{self.path} lists videos, not frames"
            raise ValueError(msg)
        return f"{self.rows.frame[row]}.jpg" if self.track == "LSD" else self.rows.name(row)

    def frames(self) -> dict[str, int]:
        """Clip -> the least length of its timeline: the last frame that is asked for, plus one."""
        if self.rows is None:
            return dict.fromkeys(self.clips, 0)
        last = np.zeros(len(self.clips), np.int32)
        np.maximum.at(last, self.rows.clip, self.rows.frame)
        return {clip: int(frame) + 1 for clip, frame in zip(self.clips, last, strict=True)}


def find(root: Path, annotations: Path, edition: str, tracks: Sequence[Track]) -> dict[Track, Path]:
    """The lists of an edition in a corpus, by track.

    Args:
        root: of the corpus; lists lie in it, in ``test_set_examples`` or beside the annotations.
        annotations: folder of the annotations.
        edition: such as ``abaw5``.
        tracks: those of interest.
    """
    known = _FILES.get(edition, {})
    places = (*(root / folder for folder in _FOLDERS), annotations)
    found: dict[Track, Path] = {}
    for track in tracks:
        paths = [place / known[track] for place in places if known.get(track)]
        if existing := [path for path in paths if path.is_file()]:
            found[track] = existing[0]
    return found


def read(path: Path, edition: str, track: Track) -> TestList:
    """Reads a list.

    Args:
        path: of its file, whatever its name.
        edition: it is of; decides its header.
        track: it is of.

    Raises:
        ConfigError: the edition is unknown or has no such track.
        CorpusError: another header, a blank line, a clip twice or a name of no crop; the message has file
            and line.
    """
    header = _header(edition, track)
    body = text.read(path)
    line = 1
    if header:
        first, _, body = body.partition(b"\n")
        check_header(path, text.decode(path, first), header, "choose the edition and track this list is of")
        line = 2
    if not body:
        msg = f"{path}: no row; expected what to predict, one name per line: restore it from the release"
        raise CorpusError(msg)
    lines = text.decode(path, body).replace("\r\n", "\n").split("\n")
    if not header:
        return TestList(path, edition, track, _clips(path, lines), None)
    if track == "LSD":
        return TestList(path, edition, track, ("",), _images(path, lines, line))
    rows = read_names(path, pa.chunked_array([pa.array(lines, pa.string())]), line)
    return TestList(path, edition, track, rows.clips, rows)


def counts(lists: Mapping[Track, TestList]) -> Counter[str]:
    """What lists ask for, by the names of ``affwild2_counts``."""
    found: Counter[str] = Counter()
    for track, test_list in lists.items():
        found[f"videos in the {track} list"] = len(test_list.clips)
        if test_list.rows is not None:
            found[f"rows in the {track} list"] = len(test_list.rows)
    return found


def _header(edition: str, track: Track) -> tuple[str, ...]:
    """First line of a list; () for one that has none."""
    names = editions.edition(edition)
    if track not in _FILES.get(edition, {}):
        tracks = ", ".join(_FILES.get(edition, {})) or "none that is known"
        msg = f"edition {edition} has no track {track}: expected one of {tracks}"
        raise ConfigError(msg)
    if track == "MTL":
        return ("image", "valence", "arousal", "expression", "aus")
    if track == "LSD":
        return ("image", "expression")
    if edition in ("abaw1", "abaw2", "abaw3"):
        return ()
    columns: dict[Track, tuple[str, ...]] = {
        "VA": ("valence", "arousal"),
        "EXPR": names.expressions,
        "AU": names.aus,
        "CE": editions.CE_7,
    }
    return ("image_location", *columns[track])


def _clips(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    clips: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.partition(",")[0].strip()
        if not name or "/" in name:
            msg = f"{path}, line {number}: found {line[:80]!r}, expected the name of a video"
        elif name in clips:
            msg = f"{path}, line {number}: {name} is in line {clips[name]} already, expected every video once"
        else:
            clips[name] = number
            continue
        msg += "; restore the file from the release"
        raise CorpusError(msg)
    return tuple(clips)


def _images(path: Path, lines: Sequence[str], first_line: int) -> CropNames:
    numbers = np.empty(len(lines), np.int32)
    for row, line in enumerate(lines):
        match = _LSD_IMAGE.fullmatch(line.partition(",")[0].strip())
        if match is None:
            msg = f"{path}, line {first_line + row}: found {line[:80]!r}, expected an image such as 0.jpg"
            msg += "; restore the file from the release"
            raise CorpusError(msg)
        numbers[row] = int(match[1])
    return CropNames(("",), np.zeros(len(lines), np.int32), numbers)
