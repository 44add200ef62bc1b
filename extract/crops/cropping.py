"""Cuts the main faces out of videos, one video after the other, into a tree of aligned crops.

One process, whose detector uses all cores; several processes may fill one tree.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from extract.crops import detection, journal
from extract.crops.choices import CropOptions
from extract.crops.cutting import Cutter, sha256
from extract.crops.extra import library
from extract.crops.folder import Tree
from extract.crops.pictures import SUFFIXES, stamp
from stores.errors import CorpusError
from stores.progress import Progress, silent
from stores.record import is_clip_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """A video of which no crop was written, and why; the others were."""

    video: str
    reason: str


@dataclass(frozen=True, slots=True)
class CropReport:
    """What one run of ``crop_videos`` did.

    Attributes:
        written: ids of the clips that were cut and committed.
        unchanged: stems of the videos that were cut before from the same file in the same way.
        failed: videos that could not be cut; older crops of theirs stay.
        warnings: video -> what its user should know, such as that no face was found.
        frames: frames looked at.
        crops: crops written.
        seconds: wall-clock time.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedVideo, ...]
    warnings: dict[str, str]
    frames: int
    crops: int
    seconds: float


def crop_videos(
    videos: Path | Sequence[Path],
    target: Path,
    options: CropOptions | None = None,
    progress: Progress = silent,
) -> CropReport:
    """Writes ``target/cropped_aligned/<clip>/00001.jpg ...`` and a record of each video in ``target/crops``.

    The main face of ``<video>.mp4`` is clip ``<video>``; of two people, who are asked for by
    ``options.people``, the one further left in the picture is ``<video>_left``, the other ``<video>_right``.
    Crop ``{i+1:05d}.jpg`` is of frame i; a frame in which the face was not found has none.

    A video is cut whole or not at all; one that cannot be fails, and is listed, and the others go on. What
    was cut before from the same file (by size and modification time, or by its SHA-256) with the same
    detector and options is left as it is.

    Args:
        videos: video files, and folders that are searched for them at any depth.
        target: folder of the tree; made when absent.
        options: detector, sizes, people; the defaults need no model file.
        progress: called with step ``crop`` and the bytes of video files.

    Returns:
        What was written, kept and failed.

    Raises:
        ConfigError: the libraries of the extra are not installed, or the detector cannot be had.
        CorpusError: there is no video.
        OSError: the target cannot be written.
    """
    began = time.perf_counter()
    options = options or CropOptions()
    library("av")
    detector = detection.load(options.detector, options.model, options.min_face)
    job = _Job(Tree(target), Cutter(detector, options))
    paths, twice = _find([videos] if isinstance(videos, Path) else videos)
    for stem, same in twice.items():
        msg = f"{len(same)} videos have this name, rename all but one: {', '.join(map(str, same))}"
        job.fail(stem, CorpusError(msg))
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    total, done = sum(sizes), 0
    for path, size in zip(paths, sizes, strict=True):
        progress("crop", total, done)
        job.crop(path, partial(_report, progress, total, done))
        done += size
    progress("crop", total, total)
    logger.info(
        "%s: %d clips cut (%d crops of %d frames), %d videos unchanged, %d failed",
        target,
        len(job.written),
        job.crops,
        job.frames,
        len(job.unchanged),
        len(job.failed),
    )
    return CropReport(
        written=tuple(job.written),
        unchanged=tuple(job.unchanged),
        failed=tuple(job.failed),
        warnings=job.warnings,
        frames=job.frames,
        crops=job.crops,
        seconds=time.perf_counter() - began,
    )


def _report(progress: Progress, total: int, done: int, position: int) -> None:
    progress("crop", total, done + position)


def _find(given: Sequence[Path]) -> tuple[list[Path], dict[str, list[Path]]]:
    """Returns the video files by stem, and those whose stem another one has as well."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in given:
        files = _videos_in(path) if path.is_dir() else [path]
        for file in files:
            if file not in by_stem[file.stem]:
                by_stem[file.stem].append(file)
    if not by_stem:
        msg = f"no video in {', '.join(map(str, given))}: expected files in {' '.join(sorted(SUFFIXES))}"
        raise CorpusError(msg)
    paths = [files[0] for _, files in sorted(by_stem.items()) if len(files) == 1]
    return paths, {stem: files for stem, files in sorted(by_stem.items()) if len(files) > 1}


def _videos_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


class _Job:
    """One run: the tree that is filled, and what became of each video."""

    def __init__(self, tree: Tree, cutter: Cutter) -> None:
        self.written: list[str] = []
        self.unchanged: list[str] = []
        self.failed: list[FailedVideo] = []
        self.warnings: dict[str, str] = {}
        self.frames = self.crops = 0
        self._tree, self._cutter = tree, cutter

    def crop(self, path: Path, position: Callable[[int], None]) -> None:
        """Cuts one video, or notes why it need not or cannot be cut."""
        video = path.stem
        try:
            if not is_clip_id(video):
                msg = f"{path}: its name cannot be a clip's: rename it, such as video59.mp4"
                raise CorpusError(msg)
            known = self._tree.read(video)
            if known is not None and self._is_of(path, known):
                self.unchanged.append(video)
                said = journal.warnings(known)
            else:
                content = self._cut(path, position)
                said = journal.warnings(content)
                if known is not None and known["video"]["sha256"] != content["video"]["sha256"]:
                    said.append(
                        "replaced the crops of an older file of this name: if that was another video, rename "
                        "one of the two and cut both again"
                    )
        except CorpusError as error:
            self.fail(video, error)
            return
        if said:
            self.warnings[video] = "; ".join(said)

    def fail(self, video: str, error: CorpusError) -> None:
        """Notes that a video could not be cut."""
        self.failed.append(FailedVideo(video, str(error)))
        logger.debug("video %s is not cut: %s", video, error)

    def _is_of(self, path: Path, document: Mapping[str, Any]) -> bool:
        """Says whether a record is of this file as it is, of this detector and these options."""
        size, mtime = stamp(path)
        video = document["video"]
        if video["file"] != path.name and sha256(path) != video["sha256"]:
            msg = (
                f"{path}: the clips of this name were cut from {video['file']}: rename one of the two, or "
                f"delete {journal.path_of(self._tree.target, path.stem)} and those clips"
            )
            raise CorpusError(msg)
        if not document["complete"] or document["maker_sha256"] != self._cutter.maker_sha256:
            return False
        if video["bytes"] != size or not self._tree.holds(document["clips"]):
            return False
        return bool(video["mtime_ns"] == mtime or sha256(path) == video["sha256"])

    def _cut(self, path: Path, position: Callable[[int], None]) -> Mapping[str, Any]:
        video = path.stem
        self._tree.check_free(video, self._cutter.names(video))
        with self._tree.staging(video) as staged:
            content: Mapping[str, Any] = self._cutter.cut(path, staged, position)
            clips = [clip["id"] for clip in content["clips"]]
            self._tree.publish(video, staged, clips, content)
        self.written += clips
        self.frames += content["frames"]
        self.crops += sum(clip["crops"] for clip in content["clips"])
        return content
