"""The drawing board of the face renderer: head pose, polygons, and the camera that photographs them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from extract.corpora.rendered.identity import Colour

Points = NDArray[np.float64]

SUPERSAMPLING = 3  # polygons are drawn this many times larger and averaged down: Pillow does not antialias
EYE_Y = -0.2  # height of the eyes' line, in face units


@dataclass(frozen=True, slots=True)
class Occluder:
    """Something in front of the face: an ellipse, centre and half axes in face units."""

    x: float
    y: float
    width: float
    height: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Shot:
    """How one frame is taken.

    Attributes:
        yaw, pitch, roll: head rotation in radians, small (the crops are aligned).
        blink: 0 open .. 1 closed.
        gaze: iris offset as a share of the eye's half width, -0.4 .. 0.4.
        zoom, shift_x, shift_y: imperfect alignment of the crop, factor and face units.
        light: gain, and its slope in x and y per face unit.
        tint: gain of each colour channel.
        background: RGB in [0, 255].
        noise: camera noise, standard deviation in grey levels.
        occluder: what hides part of the face, or None.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    blink: float = 0.0
    gaze: float = 0.0
    zoom: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    light: tuple[float, float, float] = (1.0, 0.0, 0.0)
    tint: Colour = (1.0, 1.0, 1.0)
    background: Colour = (120.0, 124.0, 130.0)
    noise: float = 0.0
    occluder: Occluder | None = None


class Canvas:
    """A supersampled picture on which face-unit polygons are projected by the head pose and filled."""

    def __init__(self, shot: Shot, size: int) -> None:
        self.pixels = size * SUPERSAMPLING
        self.image = Image.new("RGB", (self.pixels, self.pixels), rgb(shot.background))
        self._draw = ImageDraw.Draw(self.image)
        self._shot = shot
        self._cos = np.cos([shot.yaw, shot.pitch, shot.roll])
        self._sin = np.sin([shot.yaw, shot.pitch, shot.roll])
        self._origin = np.zeros(2)
        # An aligned crop keeps the point between the eyes in place, whatever the pose.
        self._origin = self.project(np.array([[0.0, EYE_Y]]))[0] - np.array([0.0, EYE_Y])

    def project(self, points: Points, lift: float = 0.0) -> Points:
        """(n, 2) face units -> (n, 2) face units, head rotated; ``lift`` is height above the skin."""
        x, y = points[:, 0], points[:, 1]
        z = 0.75 * np.sqrt(np.clip(1 - (x / 1.0) ** 2 - (y / 1.3) ** 2, 0, None)) + lift
        (cy, cp, cr), (sy, sp, sr) = self._cos, self._sin
        x, z = x * cy + z * sy, z * cy - x * sy
        y = y * cp - z * sp
        return np.stack([x * cr - y * sr, x * sr + y * cr], axis=1) - self._origin

    def _pixel(self, points: Points, lift: float) -> list[float]:
        shifted = self.project(points, lift) * self._shot.zoom
        shifted += (self._shot.shift_x, self._shot.shift_y)
        flat: list[float] = ((shifted + 1) * (self.pixels / 2)).ravel().tolist()
        return flat

    def fill(self, points: Points, colour: Colour | Points, lift: float = 0.0) -> None:
        """Fills the polygon ``points`` (n, 2) in face units with an RGB ``colour``."""
        self._draw.polygon(self._pixel(points, lift), fill=rgb(colour))

    def stroke(self, points: Points, width: float, colour: Colour | Points, lift: float = 0.0) -> None:
        """A fold: a line that is ``width`` thick in its middle and tapers to both ends."""
        if width <= 0.004:
            return
        along = np.gradient(points, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        taper = np.sin(np.linspace(0.12, np.pi - 0.12, len(points)))[:, None] * (width / 2)
        self.fill(np.concatenate([points + normal * taper, (points - normal * taper)[::-1]]), colour, lift)


def rgb(colour: Colour | Points) -> tuple[int, int, int]:
    """Clips a colour to whole numbers in [0, 255]."""
    red, green, blue = (int(min(255.0, max(0.0, c))) for c in colour)
    return red, green, blue


def ellipse(x: float, y: float, width: float, height: float, n: int = 28) -> Points:
    """(n, 2) points of an ellipse with centre ``x, y`` and half axes ``width, height``."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def curve(
    start: tuple[float, float], through: tuple[float, float], end: tuple[float, float], n: int = 12
) -> Points:
    """A parabola from ``start`` to ``end`` that passes through ``through`` half way."""
    t = np.linspace(0, 1, n)[:, None]
    a, b, c = np.array(start), np.array(through), np.array(end)
    control = 2 * b - (a + c) / 2
    points: Points = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * c
    return points


def mix(a: Colour | Points, b: Colour | Points, share: float) -> Points:
    """The colour between ``a`` and ``b``; ``share`` is the part of ``b``."""
    blend: Points = np.asarray(a) * (1 - share) + np.asarray(b) * share
    return blend


def photograph(
    image: Image.Image, shot: Shot, size: int, rng: np.random.Generator | None
) -> NDArray[np.uint8]:
    """Averages the supersampled picture down to ``size`` pixels, lights it and adds the camera's noise."""
    pixels = np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    gain, slope_x, slope_y = (np.float32(value) for value in shot.light)
    field = gain + slope_x * axis[None, :] + slope_y * axis[:, None]
    pixels = pixels * field[:, :, None] * np.asarray(shot.tint, dtype=np.float32)
    if shot.noise > 0:
        if rng is None:
            msg = "a noisy shot needs a random generator: pass rng"
            raise ValueError(msg)
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(shot.noise)
    return np.clip(pixels, 0, 255).astype(np.uint8)
