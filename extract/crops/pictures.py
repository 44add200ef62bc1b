"""Decodes the pictures of a video file one by one, in the order in which they are shown.

A file that cannot be decoded to its end is an error, because a lost picture would move every later frame away
from its label.

PyAV was chosen because its wheels bring FFmpeg; torchcodec's video decoder needs an FFmpeg of the system.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.crops.extra import library
from stores.errors import CorpusError

SUFFIXES = frozenset(
    f".{name}"
    for name in "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv".split()  # noqa: SIM905
)
MAX_PIXELS = 40 << 20
"""Of one picture; 8K has 33 million."""
MAX_ASPECT = 4
# Containers that hold their own data: playlists and scripts could name other files or hosts.
_CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
_REMEDY = "get the file whole, or rewrite what is left of it: ffmpeg -i OLD -c:v libx264 -crf 12 NEW.mp4"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright, of square pixels.
        time: when it is shown, in seconds from any origin, or None where the file does not say.
        damaged: whether the decoder had to make up parts of it.
    """

    pixels: NDArray[np.uint8]
    time: Fraction | None
    damaged: bool


class Video:
    """One open video file; ``pictures()`` may be read once.

    Attributes:
        path: of the file.
        codec: FFmpeg's name of the video codec.
        rate: pictures per second as the container states it, 30 where it does not.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            CorpusError: no regular file, not a video, without pictures, or of a hostile size.
            ConfigError: PyAV is not installed.
        """
        av = library("av")
        self.path = path
        self._size = stamp(path)[0]
        self._errors = (av.FFmpegError, ValueError, IndexError, MemoryError)
        try:
            self._container = av.open(
                # The prefix keeps a name such as 'concat:a|b' from being a protocol.
                f"file:{os.fspath(path.absolute())}",
                options={"max_pixels": str(MAX_PIXELS)},
                container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
                # A title in another encoding is no damage; from version 19 PyAV sees it so by itself.
                **({"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}),
            )
        except self._errors as error:
            msg = f"{path}: cannot be opened as a video ({_reason(error)}); {_REMEDY}"
            raise CorpusError(msg) from error
        try:
            self._stream = self._main_stream()
            self.codec = str(self._stream.codec_context.name)
            self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 30)
            if not 1 <= self.rate <= 1000:
                self.rate = Fraction(30)
            self._aspect = Fraction(self._stream.sample_aspect_ratio or 1)
            if not 1 <= max(self._aspect, 1 / self._aspect) <= MAX_ASPECT:
                msg = f"{path}: states pixels of {self._aspect} width to height; {_REMEDY}"
                raise CorpusError(msg)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def pictures(self, position: Callable[[int], None] = lambda _: None) -> Iterator[Picture]:
        """Yields every picture.

        Args:
            position: called with the bytes of the file that are read, as reading goes on.

        Raises:
            CorpusError: the file ends before its stated end, a picture is lost or is too large, or there is
                none at all.
        """
        count = 0
        end: Fraction | None = None
        packets = _PacketCount()
        try:
            for packet in self._container.demux(self._stream):
                if packet.pos is not None:
                    position(min(packet.pos, self._size))
                if packet.size and not packet.is_discard:
                    packets.add(packet.pts)
                for frame in packet.decode():
                    packets.begin(frame.pts)
                    picture = self._picture(frame)
                    if picture.time is not None:
                        end = picture.time + (frame.duration or 0) * self._stream.time_base
                        packets.origin = picture.time if packets.origin is None else packets.origin
                    count += 1
                    yield picture
        except self._errors as error:
            msg = f"{self.path}: picture {count} cannot be decoded ({_reason(error)}); {_REMEDY}"
            raise CorpusError(msg) from error
        if not count:
            msg = f"{self.path}: holds no picture that can be decoded; {_REMEDY}"
            raise CorpusError(msg)
        # Alternate reference frames of VP8 are packets that show nothing.
        if packets.count > count and self.codec != "vp8":
            msg = f"{self.path}: {packets.count - count} of {packets.count} pictures were lost; {_REMEDY}"
            raise CorpusError(msg)
        self._check_end(count, packets.origin, end)

    def _main_stream(self) -> Any:
        av = library("av")
        covers = av.stream.Disposition.attached_pic
        # A stream of an unknown codec has no context.
        streams = [
            stream
            for stream in self._container.streams.video
            if stream.codec_context is not None and not stream.disposition & covers
        ]
        if not streams:
            found = ", ".join(sorted({stream.type for stream in self._container.streams})) or "no stream"
            msg = f"{self.path}: has no moving pictures that can be decoded (found {found}); {_REMEDY}"
            raise CorpusError(msg)
        stream = max(streams, key=lambda s: ((s.width or 0) * (s.height or 0), -s.index))
        if (stream.width or 0) * (stream.height or 0) > MAX_PIXELS:
            msg = f"{self.path}: pictures of {stream.width} x {stream.height}, more than {MAX_PIXELS} pixels"
            raise CorpusError(msg)
        return stream

    def _picture(self, frame: Any) -> Picture:
        width = max(1, round(frame.width * self._aspect))
        if width * frame.height > MAX_PIXELS:
            msg = f"{self.path}: a picture of {width} x {frame.height}, more than {MAX_PIXELS} pixels"
            raise CorpusError(msg)
        pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
        # FFmpeg and numpy both turn counter-clockwise.
        if turns := round((frame.rotation or 0) / 90) % 4:
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        time = None if frame.pts is None else frame.pts * Fraction(self._stream.time_base)
        return Picture(pixels, time, bool(frame.is_corrupt))

    def _check_end(self, count: int, origin: Fraction | None, end: Fraction | None) -> None:
        """Raises if more than two pictures lack at the end; some containers, such as MPEG-TS, do not say."""
        stated = self._stated_seconds()
        if stated is None:
            return
        found = count / self.rate if origin is None or end is None else end - origin
        if stated - found > Fraction(5, 2) / self.rate:
            msg = (
                f"{self.path}: ends after {float(found):.2f} s, {count} pictures, of {float(stated):.2f} s; "
                f"{_REMEDY}"
            )
            raise CorpusError(msg)

    def _stated_seconds(self) -> Fraction | None:
        name = self._container.format.name
        if "avi" in name:  # its duration is worked out from the size of the file
            return self._stream.frames / self.rate if self._stream.frames else None
        if "matroska" in name:
            return _clock(self._stream.metadata.get("DURATION", ""))
        if "mov" in name and self._stream.duration is not None:
            return Fraction(self._stream.duration * self._stream.time_base)
        return None


class _PacketCount:
    """Counts the packets that must give a picture: all but those shown before the first decodable one."""

    def __init__(self) -> None:
        self.count = 0
        self.origin: Fraction | None = None
        self._first: int | None = None
        self._early: list[int | None] | None = []

    def add(self, pts: int | None) -> None:
        if self._early is not None:
            self._early.append(pts)
        elif self._first is None or pts is None or pts >= self._first:
            self.count += 1

    def begin(self, pts: int | None) -> None:
        if self._early is not None:
            early, self._early, self._first = self._early, None, pts
            for packet in early:
                self.add(packet)


def stamp(path: Path) -> tuple[int, int]:
    """Returns the size in bytes and the modification time in nanoseconds of a video file.

    Raises:
        CorpusError: it cannot be looked at, is empty, or is no regular file, which could block a reader.
    """
    try:
        status = path.stat()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise CorpusError(msg) from error
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        msg = f"{path}: expected a video, found {'an empty file' if path.is_file() else 'no regular file'}"
        raise CorpusError(msg)
    return status.st_size, status.st_mtime_ns


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).split("\n")[0][:120]


def _clock(text: str) -> Fraction | None:
    """Seconds of ``HH:MM:SS.fraction``, as Matroska's statistics tags write it."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (Fraction(part) for part in parts)
    except (ValueError, ZeroDivisionError):
        return None
    return hours * 3600 + minutes * 60 + seconds
