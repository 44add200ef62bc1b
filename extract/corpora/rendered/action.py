"""How a face moves and what it means: AU trajectories, expression prototypes, valence and arousal.

A fixed rule makes labels that can be learnt from faces and are hard in the usual ways; it models no emotion.

Prototypes follow the emotion combinations of EMFACS (Friesen & Ekman, 1983) as far as the 12 ABAW AUs reach.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stores.editions import AU_12, EXPR_8

Floats = NDArray[np.float64]

OCCURRENCE = 0.4  # an AU counts as present from this intensity on
PRESENCE = 0.3  # below this intensity of every AU the face is neutral

# Intensity of each AU in the prototype of each expression; "Other" is whatever matches none of them.
PROTOTYPES: Mapping[str, Mapping[str, float]] = {
    "Anger": {"AU4": 1.0, "AU7": 0.9, "AU23": 0.9, "AU24": 0.6},
    "Disgust": {"AU10": 1.0, "AU4": 0.4, "AU7": 0.4, "AU25": 0.6},
    "Fear": {"AU1": 0.9, "AU2": 0.7, "AU4": 0.8, "AU7": 0.5, "AU25": 0.8, "AU26": 0.4},
    "Happiness": {"AU6": 0.9, "AU12": 1.0, "AU25": 0.6},
    "Sadness": {"AU1": 0.9, "AU4": 0.7, "AU15": 1.0},
    "Surprise": {"AU1": 1.0, "AU2": 1.0, "AU25": 0.9, "AU26": 0.9},
}
_MATRIX = np.array([[PROTOTYPES.get(name, {}).get(au, 0.0) for au in AU_12] for name in EXPR_8])

# order of AU_12:         AU1   AU2   AU4   AU6   AU7   AU10  AU12  AU15  AU23  AU24  AU25  AU26
_VALENCE = np.array([-0.15, 0.05, -0.35, 0.45, -0.15, -0.45, 0.80, -0.55, -0.25, -0.20, 0.05, 0.00])
_AROUSAL = np.array([0.25, 0.30, 0.15, 0.20, 0.30, 0.15, 0.15, -0.35, 0.25, 0.05, 0.30, 0.45])


def expression(aus: Floats) -> NDArray[np.int8]:
    """The expression a viewer reads from action units.

    Args:
        aus: (T, 12) intensities in [0, 1], columns in the order of ``AU_12``.

    Returns:
        (T,) int8 indices into ``EXPR_8``: Neutral where every AU is below ``PRESENCE``, otherwise the
        prototype with the largest cosine to the AUs, or Other where that cosine is below 0.72.
    """
    norms = np.linalg.norm(aus, axis=1) + 1e-9
    lengths = np.linalg.norm(_MATRIX, axis=1)
    cosine = aus @ _MATRIX.T / norms[:, None] / np.where(lengths > 0, lengths, 1)
    best = cosine.argmax(axis=1)
    other = EXPR_8.index("Other")
    label = np.where(cosine.max(axis=1) < 0.72, other, best)
    return np.where(aus.max(axis=1) < PRESENCE, EXPR_8.index("Neutral"), label).astype(np.int8)


def valence(aus: Floats) -> Floats:
    """(T, 12) intensities -> (T,) valence in (-1, 1), before lag and rater noise."""
    values: Floats = np.tanh(aus @ _VALENCE * 1.1 + 0.03)
    return values


def arousal(aus: Floats) -> Floats:
    """(T, 12) intensities -> (T,) arousal in (-1, 1), before lag and rater noise."""
    values: Floats = np.tanh(aus @ _AROUSAL * 1.1 - 0.12)
    return values


def rate(values: Floats, rng: np.random.Generator, lag: int, noise: float) -> Floats:
    """What a rater writes down while watching ``values``: late, smoothed, biased and unsteady.

    Args:
        values: (T,) the quantity being rated, in [-1, 1].
        rng: source of the noise.
        lag: reaction time in frames; the rating follows as a first-order low pass with this time constant.
        noise: standard deviation of the slow drift of the rater's hand.

    Returns:
        (T,) float64 in [-1, 1].
    """
    followed, drift = np.empty(len(values)), np.empty(len(values))
    state, wander = float(values[0]), rng.normal(0, noise)
    gain = 1 / max(lag, 1)
    steps = rng.normal(0, noise * np.sqrt(1 - 0.97**2), len(values))
    for i, value in enumerate(values):
        state += gain * (float(value) - state)
        wander = 0.97 * wander + steps[i]
        followed[i], drift[i] = state, wander
    return np.clip(followed + drift, -1, 1)


def _envelope(rng: np.random.Generator, length: int) -> Floats:
    """(length,) onset, apex, offset: 0 -> 1 -> 0 with cosine flanks and a slightly restless apex."""
    onset = int(rng.integers(6, 14))
    offset = int(rng.integers(8, 20))
    onset, offset = min(onset, length // 3), min(offset, length // 3)
    curve = np.ones(length)
    curve[:onset] = 0.5 - 0.5 * np.cos(np.pi * np.arange(onset) / max(onset, 1))
    curve[length - offset :] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, offset + 1) / max(offset, 1))
    wave = np.sin(2 * np.pi * np.arange(length) / rng.uniform(15, 40) + rng.uniform(0, 6.28))
    restless: Floats = curve * (1 + 0.08 * wave)
    return restless


def trajectory(rng: np.random.Generator, frames: int) -> Floats:
    """AU intensities of one clip: expression episodes, lone movements and speech between spells of rest.

    Args:
        rng: source of all choices.
        frames: length T of the clip.

    Returns:
        (T, 12) intensities in [0, 1], columns in the order of ``AU_12``.
    """
    aus = np.zeros((frames, len(AU_12)))
    names = list(PROTOTYPES)
    order = rng.permutation(len(names))
    at, episode = int(rng.integers(-12, 8)), 0
    while at < frames:
        length = int(rng.integers(34, 74))
        envelope = _envelope(rng, length) * rng.uniform(0.65, 1.0)
        if rng.random() < 0.82:
            target = np.array([PROTOTYPES[names[order[episode % len(names)]]].get(au, 0.0) for au in AU_12])
            target = target * rng.uniform(0.75, 1.15, len(AU_12)) * (rng.random(len(AU_12)) > 0.12)
            episode += 1
            shape = envelope
        elif rng.random() < 0.5:  # speech: the mouth opens and closes several times a second
            target = np.where(np.isin(AU_12, ["AU25", "AU26"]), rng.uniform(0.5, 1.0, len(AU_12)), 0.0)
            shape = envelope * (0.55 + 0.45 * np.sin(2 * np.pi * np.arange(length) / rng.uniform(7, 12)))
        else:  # an expression with no name
            target = np.zeros(len(AU_12))
            target[rng.choice(len(AU_12), 3, replace=False)] = rng.uniform(0.6, 1.0, 3)
            shape = envelope
        low, high = max(at, 0), min(at + length, frames)
        if high > low:
            aus[low:high] = np.maximum(aus[low:high], target * shape[low - at : high - at, None])
        at += length + int(rng.integers(4, 26))
    for column in range(len(AU_12)):  # lone movements on top
        if rng.random() < frames / 900:
            length = int(rng.integers(18, 50))
            start = int(rng.integers(-10, max(frames - 10, 1)))
            low, high = max(start, 0), min(start + length, frames)
            shape = _envelope(rng, length) * rng.uniform(0.5, 1.0)
            aus[low:high, column] = np.maximum(aus[low:high, column], shape[low - start : high - start])
    return np.clip(aus, 0, 1)
