"""What an extraction did: clips written, kept and failed, unreadable crops, and where time went."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A crop that exists but could not be decoded: its row is zero and not valid."""

    clip: str
    frame: int
    reason: str


@dataclass(frozen=True, slots=True)
class FailedClip:
    """A clip that was not written, and why; the others were."""

    clip: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds that each stage was busy; stages run at the same time, so the longest decides.

    Attributes:
        read: reading crops, per decoding thread.
        decode: decoding them, per decoding thread.
        model: of the network.
        write: of the thread that commits clips.
    """

    read: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    write: float = 0.0

    def __add__(self, other: "Stages") -> "Stages":
        return Stages(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def bound(self) -> str:
        """The stage that bounds the run: reading and decoding share their threads."""
        feed = self.read + self.decode
        longest = max(feed, self.model, self.write)
        if longest == feed:
            return "decode" if self.decode >= self.read else "read"
        return "model" if longest == self.model else "write"

    def rates(self, images: int) -> dict[str, float]:
        """Stage -> crops per second that it could do, given ``images`` crops; idle stages are left out."""
        seconds = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: images / spent for name, spent in seconds.items() if spent}


@dataclass(frozen=True, slots=True)
class Report:
    """What one extraction did.

    Attributes:
        written: ids of the clips that were extracted and committed.
        unchanged: ids of the clips whose committed features are of the same crops.
        failed: clips that were not written.
        bad_frames: unreadable crops of the clips in ``written`` and ``failed``.
        frames: rows committed by this run.
        images: crops that went through the network.
        seconds: wall-clock time, looking at the sources included.
        stages: where the time went.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedClip, ...]
    bad_frames: tuple[BadFrame, ...]
    frames: int
    images: int
    seconds: float
    stages: Stages = Stages()

    @property
    def images_per_second(self) -> float:
        """Crops through the network per second of the whole run."""
        return self.images / self.seconds if self.seconds else 0.0

    @classmethod
    def together(cls, reports: Iterable["Report"], seconds: float) -> "Report":
        """Returns the report of several extractions that took ``seconds`` on the wall."""
        parts = list(reports)
        return cls(
            written=tuple(clip for part in parts for clip in part.written),
            unchanged=tuple(clip for part in parts for clip in part.unchanged),
            failed=tuple(clip for part in parts for clip in part.failed),
            bad_frames=tuple(bad for part in parts for bad in part.bad_frames),
            frames=sum(part.frames for part in parts),
            images=sum(part.images for part in parts),
            seconds=seconds,
            stages=reduce(add, (part.stages for part in parts), Stages()),
        )


def duration(seconds: float) -> str:
    """Returns a time as people say it: ``40 s``, ``12 min``, ``15.6 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
