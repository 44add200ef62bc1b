"""Follows faces through a video and keeps those of the main people, with gaps where they are not seen.

One face is the next one's if it lies where that was; nobody is recognised. A face is never made up;
between two detections of one track, a few frames apart, its place is interpolated and marked so.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from extract.crops.detection import Detection

LEAST_OVERLAP = 0.3
"""Intersection over union of a face with its last place (A. Bewley et al., "SORT", ICIP 2016)."""
LEAST_DETECTIONS = 5
"""A track of fewer is taken for a false alarm."""
REACH, REACH_PER_FRAME, FARTHEST = 1.0, 1 / 30, 3.0
"""A lost face may come back so many widths away: at once, more per frame of its absence, at most."""
SIZE_CHANGE = 2.0
MAX_TRACKS = 4000
"""Of one video, the largest: joining takes the square of their number."""


@dataclass(slots=True, eq=False)
class Track:
    """The detections of one face, in consecutive frames but for short gaps.

    Numbers are kept in growing buffers: small arrays that stay, between pictures that come and go, break up
    the heap, and eight seconds of 1080p then took 600 MB instead of 130.

    Attributes:
        frames: of the detections.
        seen: positions in ``frames`` of the detections that have landmarks.
        last: (4,) box of the last detection.
    """

    frames: "array[int]" = field(default_factory=lambda: array("q"))
    seen: "array[int]" = field(default_factory=lambda: array("q"))
    last: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    _boxes: "array[float]" = field(default_factory=lambda: array("d"))
    _points: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) boxes of the detections."""
        return np.array(self._boxes).reshape(-1, 4)

    @property
    def points(self) -> NDArray[np.float64]:
        """(len(seen), 2 K) landmarks of the detections that have them."""
        return np.array(self._points).reshape(len(self.seen), -1)

    @property
    def weight(self) -> float:
        """Sum of the widths of its boxes: how large and how long it is seen."""
        return sum(self._boxes[2::4])

    def add(self, frame: int, found: Detection) -> None:
        """Appends the detection of a later frame."""
        if found.landmarks is not None:
            self.seen.append(len(self.frames))
            self._points.extend(found.landmarks.ravel().tolist())
        self.frames.append(frame)
        self._boxes.extend(found.box.tolist())
        self.last = found.box


@dataclass(slots=True, eq=False)
class Tracker:
    """Joins the detections of successive frames into tracks.

    Attributes:
        max_gap: frames without a detection that a track may span.
        tracks: every track so far that is not a false alarm, or may still turn out not to be one.
    """

    max_gap: int
    tracks: list[Track] = field(default_factory=list)
    _open: list[Track] = field(default_factory=list)

    def add(self, frame: int, found: Sequence[Detection]) -> None:
        """Gives each face of a frame to the track that it overlaps most, or to a new one."""
        self._close(frame)
        overlaps = sorted(
            (
                (-_overlap(track.last, face.box), t, f)
                for t, track in enumerate(self._open)
                for f, face in enumerate(found)
            ),
        )
        free_tracks, free_faces = set(range(len(self._open))), set(range(len(found)))
        for overlap, t, f in overlaps:
            if -overlap >= LEAST_OVERLAP and t in free_tracks and f in free_faces:
                self._open[t].add(frame, found[f])
                free_tracks.remove(t)
                free_faces.remove(f)
        for f in sorted(free_faces):
            track = Track()
            track.add(frame, found[f])
            self._open.append(track)

    def finish(self) -> list[Track]:
        """Returns the tracks in order of their first frames; no frame may follow."""
        self._close(None)
        return sorted(self.tracks, key=lambda track: (track.frames[0], track.boxes[0].tolist()))

    def _close(self, frame: int | None) -> None:
        """Ends the tracks that were not seen for too long; None ends all."""
        still = []
        for track in self._open:
            if frame is not None and frame - track.frames[-1] - 1 <= self.max_gap:
                still.append(track)
            elif len(track.frames) >= LEAST_DETECTIONS:
                self.tracks.append(track)
        self._open = still


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One face over the whole video.

    Attributes:
        frames: (N,) int64 frames in which it is seen, increasing.
        landmarks: (N, K, 2) float64, in pixels of those frames' pictures.
        interpolated: (N,) bool, no detection in this frame: the place is between its neighbours'.
        centre: mean x of its boxes.
        weight: sum of the widths of its boxes: how large and how long.
    """

    frames: NDArray[np.int64]
    landmarks: NDArray[np.float64]
    interpolated: NDArray[np.bool_]
    centre: float
    weight: float

    def without(self, frames: Sequence[int]) -> "Person":
        """Returns the same person, not seen in ``frames``."""
        kept = ~np.isin(self.frames, frames)
        return replace(
            self,
            frames=self.frames[kept],
            landmarks=self.landmarks[kept],
            interpolated=self.interpolated[kept],
        )


def people(tracks: Sequence[Track], usual: NDArray[np.float64]) -> list[Person]:
    """Joins tracks that follow each other in one place; largest and longest seen first.

    Args:
        tracks: in order of their first frames.
        usual: (K, 2) landmarks of a face that never shows any, as shares of its box.
    """
    kept = set(sorted(range(len(tracks)), key=lambda t: -tracks[t].weight)[:MAX_TRACKS])
    chains: list[list[Track]] = []
    for t, track in enumerate(tracks):
        if t not in kept:
            continue
        near = [(_distance(chain[-1], track), number) for number, chain in enumerate(chains)]
        distance, number = min(near, default=(np.inf, 0))
        if distance < np.inf:
            chains[number].append(track)
        else:
            chains.append([track])
    return sorted((_person(chain, usual) for chain in chains), key=lambda p: (-p.weight, p.centre))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    left, top = np.maximum(one[:2], other[:2])
    right, bottom = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    return float(common / (one[2] * one[3] + other[2] * other[3] - common))


def _distance(before: Track, after: Track) -> float:
    """Widths between the end of a track and the start of another; infinite if they are of two faces."""
    absent = after.frames[0] - before.frames[-1]
    one, other = before.last, after.boxes[0]
    width = (one[2] + other[2]) / 2
    away = float(np.hypot(*(one[:2] + one[2:] / 2 - other[:2] - other[2:] / 2)) / width)
    change = max(one[2] / other[2], other[2] / one[2])
    reach = min(FARTHEST, REACH + REACH_PER_FRAME * absent)
    return away if absent > 0 and away <= reach and change <= SIZE_CHANGE else np.inf


def _person(chain: Sequence[Track], usual: NDArray[np.float64]) -> Person:
    frames = np.concatenate([np.array(track.frames) for track in chain])
    boxes = np.concatenate([track.boxes for track in chain])
    shares = _landmark_shares(chain, frames, boxes, usual)
    landmarks = boxes[:, None, :2] + shares * boxes[:, None, 2:]
    all_frames = np.concatenate([np.arange(track.frames[0], track.frames[-1] + 1) for track in chain])
    flat = landmarks.reshape(len(frames), -1)
    filled = np.column_stack([np.interp(all_frames, frames, column) for column in flat.T])
    return Person(
        all_frames,
        filled.reshape(len(all_frames), *usual.shape),
        ~np.isin(all_frames, frames),
        float((boxes[:, 0] + boxes[:, 2] / 2).mean()),
        float(boxes[:, 2].sum()),
    )


def _landmark_shares(
    chain: Sequence[Track],
    frames: NDArray[np.int64],
    boxes: NDArray[np.float64],
    usual: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(N, K, 2) landmarks as shares of the boxes; where only the box was found, as in the frames around."""
    starts = np.cumsum([0] + [len(track.frames) for track in chain])
    seen = np.concatenate([np.array(track.seen) + start for track, start in zip(chain, starts, strict=False)])
    if not len(seen):
        return np.broadcast_to(usual, (len(frames), *usual.shape))
    points = np.concatenate([track.points for track in chain if len(track.seen)]).reshape(-1, *usual.shape)
    shares = (points - boxes[seen, None, :2]) / boxes[seen, None, 2:]
    flat = shares.reshape(len(shares), -1)
    filled = np.column_stack([np.interp(frames, frames[seen], column) for column in flat.T])
    return filled.reshape(len(frames), *usual.shape)
