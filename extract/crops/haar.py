"""Viola-Jones face and eye cascades as OpenCV ships them: no file to fetch, frontal faces only.

It misses turned and tilted heads, which ``yunet`` finds: publish with ``yunet``.

Cascades: R. Lienhart, "haarcascade_frontalface_default", and S. Hameed, "haarcascade_eye_tree_eyeglasses".
OpenCV 5 has no CascadeClassifier any more, so the extra asks for OpenCV 4.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.crops.detection import Detection, DetectorInfo, largest_first
from extract.crops.extra import library, version
from stores.errors import ConfigError

FACE = "haarcascade_frontalface_default.xml"
EYE = "haarcascade_eye_tree_eyeglasses.xml"
SHORTER_SIDE = 360
"""Pictures are reduced to this before the search, whose time grows with their area."""
LEAST_FACE = 40
"""Pixels of the reduced picture; the cascade was trained on 24."""
EYES_WIDTH = 160
"""The upper half of a smaller face is enlarged to this width before the eyes are searched."""
SCALE, NEIGHBOURS = 1.1, 5
EYE_SCALE, EYE_NEIGHBOURS = 1.05, 2


class Haar:
    """The two cascades."""

    # Means over drawn faces and a photograph; both agree to 0.03 of the width of the box.
    eyes = np.array([[0.30, 0.39], [0.70, 0.39]])

    def __init__(self, min_face: float) -> None:
        self._cv2 = library("cv2")
        if not hasattr(self._cv2, "CascadeClassifier"):
            msg = (
                f"OpenCV {self._cv2.__version__} has no cascades, the detector haar needs version 4: run uv "
                "sync --extra video, or use --detector yunet"
            )
            raise ConfigError(msg)
        folder = Path(self._cv2.data.haarcascades)
        self._face = self._cv2.CascadeClassifier(str(folder / FACE))
        self._eye = self._cv2.CascadeClassifier(str(folder / EYE))
        self._min_face = min_face
        self.info = DetectorInfo(
            "haar",
            (FACE, EYE),
            tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (FACE, EYE)),
            {
                "shorter_side": SHORTER_SIDE,
                "scale": SCALE,
                "neighbours": NEIGHBOURS,
                "min_face": min_face,
            },
            {"opencv": version("cv2")},
        )

    def detect(self, picture: NDArray[np.uint8]) -> Sequence[Detection]:
        """Finds frontal faces, with their eyes where both are open to see."""
        grey = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)
        shorter = min(grey.shape)
        factor = min(1.0, SHORTER_SIDE / shorter)
        small = self._resized(grey, factor)
        least = max(LEAST_FACE, round(self._min_face * min(small.shape)))
        boxes = self._face.detectMultiScale(small, SCALE, NEIGHBOURS, minSize=(least, least))
        scaled = np.asarray(boxes, np.float64).reshape(-1, 4) / factor
        return largest_first([Detection(box, self._eyes_in(grey, box)) for box in scaled])

    def _eyes_in(self, grey: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """(2, 2) centres of the eyes, or None unless one pair lies as eyes do."""
        left, top, width, height = box
        y, x = int(top + 0.2 * height), int(left)
        region = grey[y : int(top + 0.6 * height), x : int(left + width)]
        factor = EYES_WIDTH / width
        region = self._resized(region, factor)
        least, most = round(0.15 * EYES_WIDTH), round(0.45 * EYES_WIDTH)
        found = self._eye.detectMultiScale(
            region, EYE_SCALE, EYE_NEIGHBOURS, minSize=(least, least), maxSize=(most, most)
        )
        squares = np.asarray(found, np.float64).reshape(-1, 4) / factor
        centres = squares[:, :2] + squares[:, 2:] / 2 + (x, y)
        pairs = [
            (-squares[a, 2] - squares[b, 2], *centres[a], *centres[b])
            for a in range(len(centres))
            for b in range(len(centres))
            if centres[a, 0] < left + width / 2 < centres[b, 0]
            and 0.25 * width < centres[b, 0] - centres[a, 0] < 0.6 * width
            and abs(centres[b, 1] - centres[a, 1]) < 0.35 * (centres[b, 0] - centres[a, 0])
        ]
        return np.array(min(pairs)[1:]).reshape(2, 2) if pairs else None

    def _resized(self, image: NDArray[np.uint8], factor: float) -> Any:
        if factor == 1:
            return image
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        method = self._cv2.INTER_AREA if factor < 1 else self._cv2.INTER_LINEAR
        return self._cv2.resize(image, size, interpolation=method)


def load(model: Path | None, min_face: float) -> Haar:
    """Returns the detector; see ``detection.load``.

    Raises:
        ConfigError: a model was given, or OpenCV is missing or too new.
    """
    if model is not None:
        msg = f"--model {model}: the detector haar takes none, it comes with OpenCV; give --detector yunet"
        raise ConfigError(msg)
    return Haar(min_face)
