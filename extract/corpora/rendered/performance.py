"""Draws one clip of the embedded corpus: crops, annotations with the warts of the real ones, the truth."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.corpora.rendered import action
from extract.corpora.rendered.camera import draw_setting, film
from extract.corpora.rendered.canvas import Shot
from extract.corpora.rendered.cast import RenderSettings, Role, Task
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity, generator
from stores.commit import replace_file
from stores.editions import AU_12, EXPR_7, EXPR_8

PIXELS = 112
JPEG_QUALITY = 92
_HEADERS: dict[Task, str] = {"VA": "valence,arousal", "EXPR": ",".join(EXPR_7), "AU": ",".join(AU_12)}
_SPLIT_FOLDERS = {"train": "Train_Set", "validation": "Validation_Set"}


@dataclass(frozen=True, slots=True, eq=False)
class _Performance:
    """What happens in one clip: AU intensities (T, 12), ratings (T,), expression (T,) over EXPR_8, shots."""

    aus: NDArray[np.float64]
    valence: NDArray[np.float64]
    arousal: NDArray[np.float64]
    expression: NDArray[np.int8]
    shots: list[Shot]


def render_clip(root: Path, settings: RenderSettings, role: Role) -> None:
    """Writes one clip: crops, annotations, and last its truth, which says that the clip is complete."""
    who = draw_identity(generator("corpus", settings.seed, "identity", role.person))
    rng = generator("corpus", settings.seed, "clip", role.id)
    played = _perform(rng, settings, role.frames)
    missing = _gaps(rng, role.frames, settings)
    folder = root / "cropped_aligned" / role.id
    folder.mkdir(parents=True, exist_ok=True)
    camera = generator("corpus", settings.seed, "noise", role.id)
    for i, shot in enumerate(played.shots):
        intensities = dict(zip(AU_12, played.aus[i], strict=True))
        picture = draw_face(who, intensities, shot, PIXELS, camera)
        if not missing[i]:
            image = io.BytesIO()
            Image.fromarray(picture).save(image, "JPEG", quality=JPEG_QUALITY)
            _place(root, folder / f"{i + 1:05d}.jpg", image.getvalue())
    for task, offset in zip(role.tasks, role.row_offsets, strict=True):
        path = root / "annotations" / f"{task}_Set" / _SPLIT_FOLDERS[role.split] / f"{role.id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = _annotate(task, played, rng, settings)
        rows = rows + rows[-1:] * offset if offset >= 0 else rows[:offset]
        _place(root, path, ("\n".join([_HEADERS[task], *rows]) + "\n").encode())
    _place(root, root / "truth" / f"{role.id}.csv", _truth(played, missing).encode())


def _place(root: Path, path: Path, content: bytes) -> None:
    """Puts a file whole at ``path``, or leaves the same one alone: others may draw it too, or read it."""
    if not path.exists() or path.read_bytes() != content:
        replace_file(path, content, through=root, durable=False)


def _perform(rng: np.random.Generator, settings: RenderSettings, frames: int) -> _Performance:
    # Raters were already watching before the first frame, so their lag has no edge at the start of the clip.
    before = 4 * settings.rater_lag
    aus = action.trajectory(rng, frames + before)
    valence = action.rate(action.valence(aus), rng, settings.rater_lag, settings.rater_noise)
    arousal = action.rate(action.arousal(aus), rng, settings.rater_lag, settings.rater_noise)
    aus = aus[before:]
    shots = film(rng, draw_setting(rng), frames)
    return _Performance(aus, valence[before:], arousal[before:], action.expression(aus), shots)


def _gaps(rng: np.random.Generator, frames: int, settings: RenderSettings) -> NDArray[np.bool_]:
    """(T,) bool: frames where the face detector found nothing; runs of 1 to 9, at times at the very start."""
    missing = np.zeros(frames, dtype=bool)
    if settings.warts and rng.random() < 0.45:
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(-3, frames - 12))
            stop = start + int(rng.integers(1, 10))
            missing[max(start, 0) : max(stop, 0)] = True  # a negative stop would count from the end
    return missing


def _annotate(
    task: Task, played: _Performance, rng: np.random.Generator, settings: RenderSettings
) -> list[str]:
    frames = len(played.aus)
    unknown = np.zeros(frames, dtype=bool)
    if settings.warts and rng.random() < 0.4:
        start = int(rng.integers(0, frames - 8))
        unknown[start : start + int(rng.integers(2, 16))] = True
    if task == "VA":
        both = zip(played.valence, played.arousal, unknown, strict=True)
        return ["-5,-5" if bad else f"{v:.3f},{a:.3f}" for v, a, bad in both]
    if task == "EXPR":  # seven classes: what is Other has no name in this edition
        other = EXPR_8.index("Other")
        return [
            "-1" if bad or label == other else str(label)
            for label, bad in zip(played.expression, unknown, strict=True)
        ]
    cells = (played.aus >= action.OCCURRENCE).astype(int)
    cells[unknown] = -1
    if settings.warts:
        cells[rng.random(cells.shape) < 0.002] = -1
    return [",".join(map(str, row)) for row in cells]


def _truth(played: _Performance, missing: NDArray[np.bool_]) -> str:
    lines = ["frame,crop,valence,arousal,expression," + ",".join(AU_12) + ",yaw,pitch,roll,blink,occluded"]
    for i, shot in enumerate(played.shots):
        values = [f"{v:.4f}" for v in (*played.aus[i], shot.yaw, shot.pitch, shot.roll, shot.blink)]
        lines.append(
            f"{i},{int(not missing[i])},{played.valence[i]:.4f},{played.arousal[i]:.4f},"
            f"{EXPR_8[played.expression[i]]},{','.join(values)},{int(shot.occluder is not None)}"
        )
    return "\n".join(lines) + "\n"
