"""Cuts the main faces out of one video: once through it to find and follow them, once more to write crops.

Clips go to a folder that is given, and what is known of them is returned.
"""

import hashlib
import importlib.metadata
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.crops import alignment, journal
from extract.crops.choices import CropOptions
from extract.crops.detection import Detector
from extract.crops.extra import version
from extract.crops.numbering import Timeline
from extract.crops.pictures import Picture, Video, stamp
from extract.crops.tracking import Person, Tracker, people
from stores import commit, documents
from stores.documents import Json
from stores.errors import CorpusError

CUTTER_VERSION = 1
"""Goes up when the same video starts to give other crops: older ones are made again."""
BLOCK = 1 << 20


class Cutter:
    """A detector and options, which every video of a run shares.

    Attributes:
        maker: everything that decides the crops of a given video, library versions aside, and its digest.
    """

    def __init__(self, detector: Detector, options: CropOptions) -> None:
        self._detector, self._options = detector, options
        self.maker: dict[str, Json] = {
            "cutter": CUTTER_VERSION,
            "detector": detector.info.document(),
            "people": options.people,
            "size": options.size,
            "quality": options.quality,
            "fps": None if options.fps is None else str(options.fps),
            "max_gap": options.max_gap,
        }
        self.maker_sha256 = documents.digest(self.maker)

    def names(self, video: str) -> list[str]:
        """Returns the ids that clips of a video may get."""
        return [video, *(video + suffix for suffix in journal.PEOPLE if self._options.people > 1)]

    def cut(self, path: Path, folder: Path, position: Callable[[int], None]) -> dict[str, Json]:
        """Writes the clips of a video as ``folder/<clip>/00001.jpg ...`` and returns their record.

        Args:
            path: the video.
            folder: an empty folder.
            position: called with the bytes of the video that were searched for faces.

        Raises:
            CorpusError: the video cannot be decoded as a whole, or changes meanwhile.
            OSError: the folder cannot be written.
        """
        options = self._options
        size, mtime = stamp(path)
        with Video(path) as video:
            codec = video.codec
            timeline = Timeline(video.rate, options.fps)
            found = self._follow(timeline.number(video.pictures(position)))
        kept = [person.without(timeline.damaged) for person in found[: options.people]]
        names = [path.stem + suffix for suffix in journal.PEOPLE] if len(kept) > 1 else [path.stem]
        left_first = sorted(kept, key=lambda person: person.centre)
        clips = dict(zip(names, left_first, strict=False))
        digests = self._write(path, clips, folder, timeline.frames)
        content: dict[str, Json] = {
            "video": {
                "file": path.name,
                "bytes": size,
                "mtime_ns": mtime,
                "sha256": sha256(path),
                "codec": codec,
            },
            "frames": timeline.frames,
            "fps": timeline.frames_per_second,
            "time_stamps": timeline.document(),
            "damaged_frames": journal.ranges(timeline.damaged),
            "clips": [
                {
                    "id": clip,
                    "crops": len(person.frames),
                    "interpolated": journal.ranges(person.frames[person.interpolated].tolist()),
                    "sha256": digests[clip],
                }
                for clip, person in clips.items()
            ],
            "people_not_kept": len(found) - len(kept),
            "maker": self.maker,
            "maker_sha256": self.maker_sha256,
            "versions": {
                **self._detector.info.versions,
                "av": version("av"),
                "opencv": version("cv2"),
                "pillow": importlib.metadata.version("pillow"),
                "facets": importlib.metadata.version("facets"),
            },
        }
        if stamp(path) != (size, mtime):
            msg = f"{path}: changed while it was read: run facets crop again"
            raise CorpusError(msg)
        return content

    def _follow(self, frames: Iterable[tuple[int, Picture]]) -> list[Person]:
        """Finds the faces of every frame and joins them; a damaged picture shows none."""
        tracker = Tracker(self._options.max_gap)
        for frame, picture in frames:
            tracker.add(frame, () if picture.damaged else self._detector.detect(picture.pixels))
        return people(tracker.finish(), self._detector.eyes)

    def _write(self, path: Path, clips: Mapping[str, Person], staged: Path, frames: int) -> dict[str, str]:
        """Writes the crops and returns their digest by clip.

        Which faces are the main ones is known at the end of a video, and all its pictures would take
        gigabytes: it is decoded a second time.
        """
        digests = {clip: hashlib.sha256() for clip in clips}
        rows = {clip: np.full(frames, -1) for clip in clips}
        for clip, person in clips.items():
            (staged / clip).mkdir()
            rows[clip][person.frames] = np.arange(len(person.frames))
        seen = 0
        if clips:
            with Video(path) as video:
                for frame, picture in Timeline(video.rate, self._options.fps).number(video.pictures()):
                    seen = frame + 1
                    for clip, person in clips.items():
                        if seen > frames or rows[clip][frame] < 0:
                            continue
                        data = self._encode(picture, person.landmarks[rows[clip][frame]])
                        digests[clip].update(data)
                        commit.write_file(staged / clip / f"{frame + 1:05d}.jpg", [data])
            if seen != frames:
                msg = f"{path}: had {frames} frames and then {seen}: run facets crop again"
                raise CorpusError(msg)
        for clip in clips:
            commit.sync_folder(staged / clip)
        return {clip: digest.hexdigest() for clip, digest in digests.items()}

    def _encode(self, picture: Picture, landmarks: NDArray[np.float64]) -> bytes:
        crop = alignment.align(picture.pixels, landmarks, self._options.size)
        buffer = io.BytesIO()
        Image.fromarray(crop).save(buffer, "JPEG", quality=self._options.quality)
        return buffer.getvalue()


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        CorpusError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise CorpusError(msg) from error
    return digest.hexdigest()
