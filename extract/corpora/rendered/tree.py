"""Writes the embedded corpus: crops, annotation files with the warts of the real ones, and the truth.

Not a reader: ``extract.corpora.readers.affwild2.challenge`` reads the tree like any other copy of Aff-Wild2.

Layout: ``cropped_aligned/<clip>/%05d.jpg``, ``annotations/{VA,EXPR,AU}_Set/<split>/<clip>.txt``,
``truth/<clip>.csv`` (every frame, every AU intensity, Other included) and ``rendered.json``, written last.
"""

import io
import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.corpora.rendered import action
from extract.corpora.rendered.camera import draw_setting, film
from extract.corpora.rendered.canvas import Shot
from extract.corpora.rendered.cast import RenderSettings, Role, Task, cast
from extract.corpora.rendered.face import draw_face
from extract.corpora.rendered.identity import draw_identity, generator
from stores.editions import AU_12, EXPR_7, EXPR_8
from stores.errors import CorpusError
from stores.progress import Progress, silent

RENDERER_VERSION = 2  # raise it whenever the same settings would give other files
PIXELS = 112
JPEG_QUALITY = 92
_PART = ".part"
_PLAN, _MARKER = "rendering.json", "rendered.json"
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


def is_rendered(root: Path) -> bool:
    """Whether ``root`` holds a rendering that was finished."""
    return (root / _MARKER).is_file()


def drawn_people(root: Path) -> dict[str, str]:
    """Returns clip -> name of the person who is drawn in it, of a finished rendering.

    Raises:
        CorpusError: ``rendered.json`` is damaged, or another renderer wrote it.
    """
    marker = root / _MARKER
    found = _read(marker)
    if not isinstance(found, dict) or found.get("renderer") != RENDERER_VERSION:
        msg = f"{marker} is not of this renderer ({found}): delete the folder and render again"
        raise CorpusError(msg)
    return {role.id: f"person{role.person}" for role in cast(RenderSettings(**found["settings"]))}


def render(
    root: Path, settings: RenderSettings | None = None, workers: int = 0, progress: Progress = silent
) -> tuple[Role, ...]:
    """Writes the embedded corpus under ``root``; does nothing where it is already there.

    An interrupted rendering is taken up where it stopped: a clip whose truth is written is complete. Several
    processes may draw the same corpus into the same folder: every file appears whole, and stays as it is.

    Args:
        root: folder to fill; made if absent.
        settings: what to render; the default is the corpus of the demo.
        workers: rendering processes; 0 = one per core.
        progress: called after each clip with the frames done so far.

    Returns:
        The clips of the corpus.

    Raises:
        CorpusError: ``root`` holds a rendering with other settings, or files of something else.
    """
    settings = settings or RenderSettings()
    described = {"renderer": RENDERER_VERSION, "settings": asdict(settings)}
    roles = cast(settings)
    plan, marker = root / _PLAN, root / _MARKER
    for path in (marker, plan):
        if path.exists():
            found = _read(path)
            if found != described:
                msg = (
                    f"{root} holds a rendering with other settings ({path.name}: {found}), "
                    f"expected {described}: choose another folder, or delete this one"
                )
                raise CorpusError(msg)
    if marker.exists():
        return roles
    root.mkdir(parents=True, exist_ok=True)
    if not plan.exists():
        if any(path.suffix != _PART for path in root.iterdir()):
            msg = f"{root} is not empty and not a rendering: choose an empty folder for the embedded corpus"
            raise CorpusError(msg)
        _write(root, plan, (json.dumps(described, indent=1) + "\n").encode())
    (root / "truth").mkdir(exist_ok=True)
    todo = [role for role in roles if not (root / "truth" / f"{role.id}.csv").exists()]
    total = sum(role.frames for role in roles)
    done = total - sum(role.frames for role in todo)
    progress("render", total, done)
    # Workers are spawned: a forked copy of a process that runs threads (torch, rich) may hang. They leave an
    # interrupt to this process: clips that are begun are finished, the others are not begun.
    with ProcessPoolExecutor(
        workers or os.cpu_count() or 1,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        try:
            futures = {pool.submit(render_clip, root, settings, role): role for role in todo}
            for future in as_completed(futures):
                if (error := future.exception()) is not None:
                    error.add_note(f"while rendering clip {futures[future].id} into {root}")
                    raise error
                done += futures[future].frames
                progress("render", total, done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    try:
        plan.replace(marker)
    except FileNotFoundError:
        if not marker.exists():  # else another process that drew the same was done first
            raise
    return roles


def _read(path: Path) -> object:
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is not readable as JSON ({error}): delete the folder and render again"
        raise CorpusError(msg) from error
    return found


def _write(root: Path, path: Path, content: bytes) -> None:
    """Puts a file whole at ``path``, or leaves the same one alone: others may draw it too, or read it."""
    if path.exists() and path.read_bytes() == content:
        return
    part = root / f"{path.name}.{os.getpid()}{_PART}"
    part.write_bytes(content)
    part.replace(path)


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
            _write(root, folder / f"{i + 1:05d}.jpg", image.getvalue())
    for task, offset in zip(role.tasks, role.row_offsets, strict=True):
        path = root / "annotations" / f"{task}_Set" / _SPLIT_FOLDERS[role.split] / f"{role.id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = _annotate(task, played, rng, settings)
        rows = rows + rows[-1:] * offset if offset >= 0 else rows[:offset]
        _write(root, path, ("\n".join([_HEADERS[task], *rows]) + "\n").encode())
    _write(root, root / "truth" / f"{role.id}.csv", _truth(played, missing).encode())


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
