"""How a face is filmed: pose, blinks, light, camera noise and things that get in the way."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from extract.corpora.rendered.canvas import Occluder, Shot


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over one clip: the ``base`` shot and how much the head moves, in radians."""

    base: Shot
    yaw_range: float
    pitch_range: float
    roll_range: float


def draw_setting(rng: np.random.Generator) -> Setting:
    """Draws the light, background, camera and restlessness of one clip."""
    base = Shot(
        zoom=rng.uniform(0.96, 1.06),
        light=(rng.uniform(0.78, 1.12), rng.normal(0, 0.11), rng.normal(0, 0.08)),
        tint=(rng.uniform(0.93, 1.07), 1.0, rng.uniform(0.92, 1.08)),
        background=tuple(rng.uniform(40, 210, 3)),
        noise=rng.uniform(1.5, 5.0),
    )
    return Setting(base, rng.uniform(0.06, 0.24), rng.uniform(0.04, 0.13), rng.uniform(0.02, 0.06))


def _walk(rng: np.random.Generator, frames: int, period: float) -> NDArray[np.float64]:
    """(frames,) smooth random motion in about [-1, 1]: three slow sines of random period and phase."""
    t = np.arange(frames)
    waves = [
        np.sin(2 * np.pi * t / (period * rng.uniform(0.6, 1.8)) + rng.uniform(0, 2 * np.pi))
        * rng.uniform(0.3, 0.6)
        for _ in range(3)
    ]
    motion: NDArray[np.float64] = np.sum(waves, axis=0)
    return motion


def draw_occluder(rng: np.random.Generator) -> Occluder:
    """Draws a hand, a cup or a microphone in front of the lower face or beside it."""
    return Occluder(
        x=rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.8),
        y=rng.uniform(0.1, 0.9),
        width=rng.uniform(0.16, 0.34),
        height=rng.uniform(0.18, 0.4),
        colour=tuple(rng.uniform(40, 215, 3)),
    )


def film(rng: np.random.Generator, setting: Setting, frames: int) -> list[Shot]:
    """The shots of one clip, smooth in time.

    Args:
        rng: source of all motion.
        setting: what the clip keeps fixed.
        frames: number of frames.
    """
    yaw = _walk(rng, frames, 90) * setting.yaw_range + rng.normal(0, setting.yaw_range / 2)
    pitch = _walk(rng, frames, 70) * setting.pitch_range
    roll = _walk(rng, frames, 80) * setting.roll_range
    gaze = np.clip(_walk(rng, frames, 50) * 0.25, -0.4, 0.4)
    shift = np.stack([_walk(rng, frames, 40), _walk(rng, frames, 40)]) * 0.02
    glow = 1 + 0.04 * _walk(rng, frames, 120)
    blink = np.zeros(frames)
    at = int(rng.integers(5, 80))
    while at < frames:
        for step, closed in enumerate((0.5, 1.0, 1.0, 0.6)):
            if at + step < frames:
                blink[at + step] = closed
        at += int(rng.integers(50, 130))
    hidden, occluder = range(0), None
    if rng.random() < 0.3:
        start = int(rng.integers(0, max(frames - 10, 1)))
        hidden, occluder = range(start, start + int(rng.integers(8, 26))), draw_occluder(rng)
    gain, slope_x, slope_y = setting.base.light
    return [
        replace(
            setting.base,
            yaw=float(yaw[i]),
            pitch=float(pitch[i]),
            roll=float(roll[i]),
            gaze=float(gaze[i]),
            blink=float(blink[i]),
            shift_x=float(shift[0, i]),
            shift_y=float(shift[1, i]),
            light=(gain * float(glow[i]), slope_x, slope_y),
            occluder=occluder if i in hidden else None,
        )
        for i in range(frames)
    ]
