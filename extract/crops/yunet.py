"""YuNet by OpenCV's own wrapper, from a local model file: finds turned heads, and five landmarks.

OpenCV's model zoo has the file ``face_detection_yunet_2023mar.onnx`` (MIT licence).

W. Wu, H. Peng and S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.crops.detection import Detection, DetectorInfo, largest_first
from extract.crops.extra import library, version
from stores.errors import ConfigError

SHORTER_SIDE = 480
SCORE, OVERLAP, CANDIDATES = 0.8, 0.3, 5000
MAX_MODEL_BYTES = 64 << 20
LEAST_SPREAD = 4.0
"""Landmarks that span fewer pixels than this turn no face upright."""


class YuNet:
    """The network, from the bytes that were hashed."""

    eyes = np.array([[0.30, 0.40], [0.70, 0.40], [0.50, 0.60], [0.34, 0.78], [0.66, 0.78]])

    def __init__(self, model: Path, min_face: float) -> None:
        self._cv2 = library("cv2")
        self._min_face = min_face
        data = _read(model)
        try:
            self._network = self._cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(data, np.uint8),
                np.empty(0, np.uint8),
                (320, 320),
                SCORE,
                OVERLAP,
                CANDIDATES,
            )
            # Another ONNX network loads as well, and only fails when it is run.
            self._rows(np.zeros((320, 320, 3), np.uint8))
        except (self._cv2.error, ValueError) as error:
            msg = (
                f"--model {model}: not a YuNet model that OpenCV {self._cv2.__version__} can run "
                f"({' '.join(str(error).split())[:160]}): expected face_detection_yunet_2023mar.onnx of "
                "OpenCV's model zoo, or a later one"
            )
            raise ConfigError(msg) from error
        self.info = DetectorInfo(
            "yunet",
            (model.name,),
            (hashlib.sha256(data).hexdigest(),),
            {"shorter_side": SHORTER_SIDE, "score": SCORE, "overlap": OVERLAP, "min_face": min_face},
            {"opencv": version("cv2")},
        )

    def detect(self, picture: NDArray[np.uint8]) -> Sequence[Detection]:
        """Finds faces with eyes, nose and corners of the mouth."""
        shorter = min(picture.shape[:2])
        factor = min(1.0, SHORTER_SIDE / shorter)
        small = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR)
        if factor < 1:
            size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
            small = self._cv2.resize(small, size, interpolation=self._cv2.INTER_AREA)
        scale = np.array([picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]])
        found = []
        for row in self._rows(small):
            box = row[:4] * np.tile(scale, 2)
            landmarks = row[4:14].reshape(5, 2) * scale
            usable = np.isfinite(row).all() and np.ptp(landmarks, axis=0).max() >= LEAST_SPREAD
            if usable and box[2] >= self._min_face * shorter:
                found.append(Detection(box, landmarks))
        return largest_first(found)

    def _rows(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, 15) box, five landmarks, score of a BGR image."""
        self._network.setInputSize((image.shape[1], image.shape[0]))
        rows = self._network.detect(image)[1]
        faces = np.empty((0, 15)) if rows is None else np.asarray(rows, np.float64)
        if faces.ndim != 2 or faces.shape[1] != 15:
            msg = f"the network gives {faces.shape} numbers, expected 15 a face"
            raise ValueError(msg)
        return faces


def load(model: Path | None, min_face: float) -> YuNet:
    """Returns the detector; see ``detection.load``.

    Raises:
        ConfigError: no model was given, or it cannot be read, or is not YuNet's.
    """
    if model is None:
        msg = (
            "the detector yunet needs its network: give --model face_detection_yunet_2023mar.onnx, a file of "
            "OpenCV's model zoo (opencv/opencv_zoo on GitHub), or use --detector haar"
        )
        raise ConfigError(msg)
    return YuNet(model, min_face)


def _read(model: Path) -> bytes:
    try:
        if not model.is_file() or model.stat().st_size > MAX_MODEL_BYTES:
            msg = (
                f"--model {model}: expected a file of at most {MAX_MODEL_BYTES} bytes; YuNet has 0.2 million"
            )
            raise ConfigError(msg)
        return model.read_bytes()
    except OSError as error:
        msg = f"--model {model}: cannot be read: {error.strerror or error}"
        raise ConfigError(msg) from error
