"""What a person may choose about the making of crops, checked.

The defaults of a detector lie with the detector.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from stores.errors import ConfigError

MAX_SIZE = 2048
"""The largest crop that ``extract.decode`` takes; it is not imported, for it brings torch."""


@dataclass(frozen=True, slots=True)
class CropOptions:
    """How videos become crops.

    Attributes:
        detector: a key of ``detection.DETECTORS``.
        model: file of the detector's network, where it needs one.
        people: how many faces of a video to follow, 1 or 2: the largest and longest seen.
        size: side of a crop in pixels.
        quality: of the JPEG files, 1 to 95.
        fps: frames per second of the timeline, or None for one frame per picture of the video.
        min_face: width of the smallest face, as a share of the shorter side of the picture.
        max_gap: frames without a detection, between two of the same face, over which it is interpolated.
    """

    detector: str = "haar"
    model: Path | None = None
    people: int = 1
    size: int = 112
    quality: int = 95
    fps: Fraction | None = None
    min_face: float = 0.1
    max_gap: int = 5

    def __post_init__(self) -> None:
        wrong = {
            "people": (self.people in (1, 2), "1 or 2: a tree has names for no more"),
            "size": (16 <= self.size <= MAX_SIZE, f"16 to {MAX_SIZE} pixels"),
            "quality": (1 <= self.quality <= 95, "1 to 95"),
            "fps": (self.fps is None or 1 <= self.fps <= 240, "1 to 240, or none"),
            "min_face": (0.02 <= self.min_face <= 1, "a share of 0.02 to 1"),
            "max_gap": (0 <= self.max_gap <= 30, "0 to 30 frames"),
        }
        for name, (right, expected) in wrong.items():
            if not right:
                msg = f"{name} {getattr(self, name)}: expected {expected}"
                raise ConfigError(msg)
