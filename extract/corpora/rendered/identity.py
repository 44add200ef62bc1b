"""Who is drawn: the shape, colours and accessories of one synthetic person, fixed over all their clips.

Nothing here moves from frame to frame.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]

# Skin from light to dark, hair and iris tones: plausible RGB anchors, blended and jittered per person.
_SKINS = np.array([[242, 208, 184], [226, 180, 150], [198, 146, 112], [156, 106, 76], [108, 72, 52]], float)
_HAIRS = np.array([[32, 26, 24], [70, 46, 32], [120, 82, 48], [196, 160, 98], [150, 148, 146]], float)
_IRISES = np.array([[70, 46, 30], [104, 78, 40], [84, 110, 70], [80, 116, 150]], float)


def generator(*key: str | int) -> np.random.Generator:
    """A random stream that is a pure function of ``key``; streams of different keys are independent.

    Args:
        key: words and numbers such as ``("corpus", seed, "identity", 3)``. The first word is the namespace
            that keeps the people of the embedded corpus apart from those that trained the bundled backbone.
    """
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


@dataclass(frozen=True, slots=True)
class Identity:
    """One person. Lengths are in face units: the crop spans [-1, 1] in x and y, y points down.

    Attributes:
        skin, hair, iris, lips, brow: colours, RGB in [0, 255].
        face_width, jaw_width, chin: half width at the cheekbones, at the jaw, and height of the chin line.
        eye_distance, eye_width, eye_height: half distance between the eyes, half width, half opening.
        brow_height, brow_width, brow_thickness, brow_tilt: height over the eye, half width, thickness, slope.
        nose_width, nose_length, mouth_width, upper_lip, lower_lip, mouth_height: as they say.
        hair_line, hair_side, fringe, beard: hair line, hair beside the face, fringe, beard (0..1).
        wrinkle: how deep this skin folds, 0.7 .. 1.3; age: depth of folds at rest, 0..0.25.
        glasses: frame thickness, 0 = none.
        cheek: how rosy the cheeks are, 0..1.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    brow: Colour
    face_width: float
    jaw_width: float
    chin: float
    eye_distance: float
    eye_width: float
    eye_height: float
    brow_height: float
    brow_width: float
    brow_thickness: float
    brow_tilt: float
    nose_width: float
    nose_length: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    mouth_height: float
    hair_line: float
    hair_side: float
    fringe: float
    beard: float
    wrinkle: float
    age: float
    glasses: float
    cheek: float


def _blend(
    anchors: NDArray[np.float64], at: float, rng: np.random.Generator, jitter: float
) -> NDArray[np.float64]:
    low = min(int(at), len(anchors) - 2)
    colour = anchors[low] + (anchors[low + 1] - anchors[low]) * (at - low)
    jittered: NDArray[np.float64] = np.clip(colour + rng.normal(0, jitter, 3), 8, 250)
    return jittered


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(v) for v in np.clip(values, 0, 255))
    return red, green, blue


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draws one person from ``rng``; every field is a smooth random quantity within what faces look like."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = _blend(_SKINS, tone, rng, 5)
    hair = _blend(_HAIRS, rng.uniform(0, len(_HAIRS) - 1) if tone < 2 else rng.uniform(0, 1.2), rng, 6)
    redness = rng.uniform(0.2, 0.75)
    lips = skin * np.array([0.92, 0.62, 0.62]) * (1 - redness) + np.array([176, 62, 70]) * redness
    brow = hair * 0.55 + skin * 0.1
    return Identity(
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(_blend(_IRISES, rng.uniform(0, len(_IRISES) - 1), rng, 8)),
        lips=_colour(lips * (0.7 + 0.3 * skin.mean() / 200)),
        brow=_colour(brow),
        face_width=rng.uniform(0.72, 0.84),
        jaw_width=rng.uniform(0.48, 0.64),
        chin=rng.uniform(0.94, 1.04),
        eye_distance=rng.uniform(0.33, 0.38),
        eye_width=rng.uniform(0.155, 0.19),
        eye_height=rng.uniform(0.075, 0.1),
        brow_height=rng.uniform(0.21, 0.26),
        brow_width=rng.uniform(0.2, 0.24),
        brow_thickness=rng.uniform(0.05, 0.085),
        brow_tilt=rng.uniform(-0.02, 0.03),
        nose_width=rng.uniform(0.12, 0.18),
        nose_length=rng.uniform(0.36, 0.44),
        mouth_width=rng.uniform(0.27, 0.33),
        upper_lip=rng.uniform(0.055, 0.085),
        lower_lip=rng.uniform(0.07, 0.105),
        mouth_height=rng.uniform(0.5, 0.56),
        hair_line=rng.uniform(-0.9, -0.68),
        hair_side=rng.uniform(0.0, 1.0),
        fringe=rng.uniform(0.0, 1.0) * (rng.random() < 0.4),
        beard=rng.uniform(0.3, 0.9) * (rng.random() < 0.22),
        wrinkle=rng.uniform(0.75, 1.25),
        age=rng.uniform(0.0, 0.22),
        glasses=rng.uniform(0.02, 0.04) * (rng.random() < 0.25),
        cheek=rng.uniform(0.0, 0.8),
    )
