"""The record of one video's crops, ``crops/<video>.json``: what they were made from, by what, and which.

No video library is needed to read it, so that corpus readers can tell where crops come from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stores import commit, documents
from stores.documents import Json
from stores.errors import CorpusError, StoreError

FORMAT, VERSION = "facets-crops", 1
FOLDER = "crops"
CROPS = "cropped_aligned"
KEYS = {
    "complete",
    "video",
    "frames",
    "fps",
    "time_stamps",
    "damaged_frames",
    "clips",
    "maker",
    "maker_sha256",
}
PEOPLE = ("_left", "_right")
"""What the clips of two people in one video add to its name, as in Aff-Wild2."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the crops of one clip come from.

    Attributes:
        video: stem of the video file.
        frames: length of the video's timeline, frames without a face at its end included.
        fps: frames per second of that timeline.
        attrs: what a feature store keeps of it: detector, the digests of its model, of all settings, of the
            video and of the crops, and the number of frames whose place was interpolated.
    """

    video: str
    frames: int
    fps: float
    attrs: Mapping[str, Json]


def path_of(target: Path, video: str) -> Path:
    """Returns where the record of a video is."""
    return target / FOLDER / f"{video}.json"


def read(path: Path) -> dict[str, Any] | None:
    """Returns the record at ``path``, or None where there is none.

    Raises:
        CorpusError: it is damaged, or of another version.
    """
    try:
        document = documents.read(path)
    except FileNotFoundError:
        return None
    except StoreError as error:
        msg = f"{error}; delete it and the clips of this video"
        raise CorpusError(msg) from error
    if document.get("format") == FORMAT and not document.keys() >= KEYS:
        lacking = ", ".join(sorted(KEYS - document.keys()))
        msg = f"{path} has no {lacking}; delete it and the clips of this video"
        raise CorpusError(msg)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        msg = (
            f"{path} is of format {document.get('format')!r} version {document.get('version')!r}: expected "
            f"{FORMAT} version {VERSION}; use the version of facets that wrote it, or another folder"
        )
        raise CorpusError(msg)
    return document


def write(path: Path, content: Mapping[str, Json]) -> None:
    """Puts a record in place, whole or not at all, and durably.

    Raises:
        OSError: it could not be written.
    """
    commit.replace_file(path, documents.render({"format": FORMAT, "version": VERSION, **content}))


def origins(root: Path) -> dict[str, Origin]:
    """Returns clip -> where its crops come from, for every clip under ``root`` that was cut from a video.

    Raises:
        CorpusError: a record is damaged, or ``facets crop`` was stopped while it replaced a video's clips.
    """
    found: dict[str, Origin] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        if path.name.startswith("."):
            continue
        document = read(path)
        if document is None:
            continue
        if not document.get("complete"):
            msg = (
                f"{path}: the crops of this video were being replaced when facets crop was stopped: "
                "run it again"
            )
            raise CorpusError(msg)
        try:
            for clip in document["clips"]:
                found[clip["id"]] = _origin(path.name.removesuffix(".json"), document, clip)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path}: malformed record ({error!r}); run facets crop again without it"
            raise CorpusError(msg) from error
    return found


def warnings(document: Mapping[str, Any]) -> list[str]:
    """Returns what the user of the crops of a record should know, one clause each."""
    frames, fps, stamps = document["frames"], document["maker"]["fps"], document["time_stamps"]
    said = []
    if not document["clips"]:
        said.append(
            f"no face in any of {frames} frames, so there is no clip: try another --detector, or a smaller "
            "--min-face"
        )
    if damaged := sum(last - first + 1 for first, last in document["damaged_frames"]):
        said.append(f"{damaged} of {frames} pictures are damaged and have no crop")
    if fps is None and stamps["variable"]:
        said.append(
            f"pictures follow each other after {stamps['shortest_interval']:.3f} to "
            f"{stamps['longest_interval']:.3f} s, and each is one frame: --fps makes a constant rate"
        )
    if 0 < stamps["without"] < stamps["pictures"] - 1:
        said.append(
            f"{stamps['without']} of {stamps['pictures']} pictures have no time stamp, or none after the one "
            "before: the file is damaged, look at the crops"
        )
    return said


def ranges(frames: Iterable[int]) -> list[list[int]]:
    """Returns increasing frame numbers as pairs of the first and the last of each run."""
    pairs: list[list[int]] = []
    for frame in frames:
        if pairs and pairs[-1][1] == frame - 1:
            pairs[-1][1] = frame
        else:
            pairs.append([frame, frame])
    return pairs


def _origin(video: str, document: Mapping[str, Any], clip: Mapping[str, Any]) -> Origin:
    detector = document["maker"]["detector"]
    return Origin(
        video,
        int(document["frames"]),
        float(document["fps"]),
        {
            "detector": detector["name"],
            "model_sha256": detector["model_sha256"],
            "maker_sha256": document["maker_sha256"],
            "video_sha256": document["video"]["sha256"],
            "crops_sha256": clip["sha256"],
            "interpolated": sum(last - first + 1 for first, last in clip["interpolated"]),
        },
    )
