"""Turns a face upright and scales it so that its landmarks come to lie where face networks expect them.

Rotation, one scale and a shift; the face itself is not warped.

The template is ArcFace's for 112 pixels (J. Deng et al., CVPR 2019; InsightFace's ``face_align``).
"""

import numpy as np
from numpy.typing import NDArray

from extract.crops.extra import library

TEMPLATE_SIZE = 112
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) x, y of the eyes, the tip of the nose and the corners of the mouth, left of the picture first."""


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the (2, 3) matrix of the rotation, scale and shift that takes ``source`` nearest to ``target``.

    Least squares without reflection (S. Umeyama, PAMI 1991), which in the plane is a regression of complex
    numbers: a point z goes to a z + b.

    Args:
        source: (K, 2) points, not all the same.
        target: (K, 2) points.
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / np.vdot(centred, centred).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(picture: NDArray[np.uint8], landmarks: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Returns the (size, size, 3) uint8 crop of one face; what lies outside of the picture is black.

    Args:
        picture: (H, W, 3) uint8 RGB.
        landmarks: (2, 2) eyes or (5, 2) eyes, nose, corners of the mouth, in pixels of the picture.
        size: side of the crop; the template grows with it.
    """
    cv2 = library("cv2")
    matrix = similarity(landmarks, TEMPLATE[: len(landmarks)] * (size / TEMPLATE_SIZE))
    # A bilinear warp reads four pixels whatever the scale: a large face is averaged down first.
    shrink = int(1 / np.hypot(*matrix[:, 0]))
    if shrink > 1:
        height, width = (max(1, length // shrink) for length in picture.shape[:2])
        factor = np.array([picture.shape[1] / width, picture.shape[0] / height])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        # Pixel centres: x of the large picture is factor * (x + 1/2) - 1/2.
        matrix = np.column_stack([matrix[:, :2] * factor, matrix[:, 2] + matrix[:, :2] @ (factor / 2 - 0.5)])
    crop: NDArray[np.uint8] = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return crop
