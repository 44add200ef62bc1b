"""What a face detector finds in one picture, and the detectors by name.

A detector's module is imported when its name is asked for.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stores.documents import Json
from stores.errors import ConfigError

MAX_FACES = 16
"""Of one picture: more are a crowd or a texture, and only the largest matter."""

# One line and one module add a detector: ``load(model: Path | None, min_face: float) -> Detector``.
DETECTORS = {
    "haar": "extract.crops.haar",
    "yunet": "extract.crops.yunet",
}


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face in one picture, in its pixels.

    Attributes:
        box: (4,) float64 left, top, width, height.
        landmarks: (K, 2) float64 x, y; K = 2 for the eyes or 5 for eyes, nose, corners of the mouth, the left
            one of the picture first; None where only the box was found.
    """

    box: NDArray[np.float64]
    landmarks: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """Which detector made crops; two that differ in anything but ``versions`` may find other faces.

    Attributes:
        name: key of ``DETECTORS``.
        model: names of its files.
        model_sha256: SHA-256 of each, in the same order.
        settings: thresholds and sizes.
        versions: library to version.
    """

    name: str
    model: tuple[str, ...]
    model_sha256: tuple[str, ...]
    settings: dict[str, Json] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """Returns everything, versions aside, as JSON."""
        return {
            "name": self.name,
            "model": list(self.model),
            "model_sha256": list(self.model_sha256),
            "settings": self.settings,
        }


class Detector(Protocol):
    """Finds faces; the same picture always gives the same faces in the same order."""

    info: DetectorInfo
    eyes: NDArray[np.float64]
    """(K, 2) where landmarks usually are, as shares of the box: used where a face never shows them."""

    def detect(self, picture: NDArray[np.uint8]) -> Sequence[Detection]:
        """Finds the faces in an (H, W, 3) uint8 RGB picture: at most ``MAX_FACES``, largest first."""


def load(name: str, model: Path | None, min_face: float) -> Detector:
    """Returns the detector ``name``.

    Args:
        name: a key of ``DETECTORS``.
        model: file of its network, where it needs one.
        min_face: width of the smallest face, as a share of the shorter side of the picture.

    Raises:
        ConfigError: unknown, its libraries are not installed, or its model is missing or not one.
    """
    if name not in DETECTORS:
        msg = f"unknown detector {name!r}: expected one of {', '.join(DETECTORS)}"
        raise ConfigError(msg)
    detector: Detector = importlib.import_module(DETECTORS[name]).load(model, min_face)
    return detector


def largest_first(found: Sequence[Detection]) -> list[Detection]:
    """Sorts by area, then by place, so that threads of a library cannot change the order; keeps the first."""
    order = sorted(found, key=lambda face: (-face.box[2] * face.box[3], *face.box.tolist()))
    return order[:MAX_FACES]
