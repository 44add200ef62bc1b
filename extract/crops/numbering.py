"""Numbers the pictures of a video: frame i of the clip, as annotations count, or at a constant rate.

A picture is shown, shown again or skipped, never mixed with another.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from extract.crops.pictures import Picture
from stores.documents import Json
from stores.errors import CorpusError

MAX_FRAMES = 999_999
"""The largest number that the name of a crop can have."""
VARIABLE = 1.75
"""Intervals that differ by more than this make a variable rate; the milliseconds of Matroska do not."""
LONGEST_STILL = 60
"""Seconds that one picture may stay on a timeline of constant rate."""


@dataclass(slots=True)
class Timeline:
    """Frames of one video, and what was found about its time stamps on the way.

    Attributes:
        rate: pictures per second as stated: what a picture without a time stamp lasts.
        fps: frames per second to resample to, or None for one frame per picture.
        pictures: decoded so far.
        untimed: pictures without a time stamp later than the one before.
        shortest, longest: seconds between two pictures, of those that have time stamps.
        damaged: frames that the decoder partly made up.
        frames: frames yielded so far.
    """

    rate: Fraction
    fps: Fraction | None = None
    pictures: int = 0
    untimed: int = 0
    shortest: Fraction | None = None
    longest: Fraction | None = None
    damaged: list[int] = field(default_factory=list)
    frames: int = 0
    _seconds: Fraction = Fraction(0)
    _stamp: Fraction | None = None

    def number(self, pictures: Iterable[Picture]) -> Iterator[tuple[int, Picture]]:
        """Yields every frame with its picture.

        Without ``fps`` frame i is the i-th picture, whatever the time stamps say: so the frames of Aff-Wild2
        were counted. With ``fps`` frame i is the picture nearest to i / fps after the first; a picture that
        stays longer is yielded again, of several for one frame the last counts.

        Raises:
            CorpusError: more than ``MAX_FRAMES``, or, with ``fps``, a picture that stays for over a minute.
        """
        held: tuple[int, Picture] | None = None
        for picture in pictures:
            time = self._time(picture)
            frame = self.pictures - 1 if self.fps is None else _nearest(time * self.fps)
            if held is not None:
                if self.fps is not None and frame - held[0] > LONGEST_STILL * self.fps:
                    msg = (
                        f"time stamps jump by {float((frame - held[0]) / self.fps):.0f} s after frame "
                        f"{held[0]}: leave out --fps, or rewrite the video with ffmpeg -i OLD -r RATE NEW.mp4"
                    )
                    raise CorpusError(msg)
                for repeated in range(held[0], frame):
                    yield self._frame(repeated, held[1])
            held = frame, picture
        if held is not None:
            yield self._frame(*held)

    @property
    def is_variable(self) -> bool:
        """Whether the pictures follow each other at different intervals."""
        if not self.shortest or self.longest is None:
            return False
        return float(self.longest / self.shortest) > VARIABLE

    @property
    def frames_per_second(self) -> float:
        """Of the timeline: as asked for, else as measured, else as stated."""
        if self.fps is not None:
            return float(self.fps)
        if self.is_variable and self._seconds:
            return round((self.pictures - 1) / float(self._seconds), 6)
        return round(float(self.rate), 6)

    def document(self) -> dict[str, Json]:
        """Returns what was found about the time stamps."""
        return {
            "pictures": self.pictures,
            "without": self.untimed,
            "shortest_interval": None if self.shortest is None else round(float(self.shortest), 6),
            "longest_interval": None if self.longest is None else round(float(self.longest), 6),
            "variable": self.is_variable,
        }

    def _frame(self, frame: int, picture: Picture) -> tuple[int, Picture]:
        if frame >= MAX_FRAMES:
            msg = f"more than {MAX_FRAMES} frames: cut the video into pieces, or give fewer --fps"
            raise CorpusError(msg)
        self.frames = frame + 1
        if picture.damaged:
            self.damaged.append(frame)
        return frame, picture

    def _time(self, picture: Picture) -> Fraction:
        """Seconds since the first picture; one without a usable time stamp follows at the stated rate."""
        self.pictures += 1
        if self.pictures == 1:
            self._stamp = picture.time
            return self._seconds
        interval = None
        if picture.time is not None and self._stamp is not None:
            interval = picture.time - self._stamp
        if interval is None or interval <= 0:
            self.untimed += 1
            interval = 1 / self.rate
            self._stamp = picture.time if self._stamp is None else self._stamp + interval
        else:
            self._stamp = picture.time
            self.shortest = interval if self.shortest is None else min(self.shortest, interval)
            self.longest = interval if self.longest is None else max(self.longest, interval)
        self._seconds += interval
        return self._seconds


def _nearest(value: Fraction) -> int:
    return int(value + Fraction(1, 2))  # halves go up: round() would send them to even numbers
