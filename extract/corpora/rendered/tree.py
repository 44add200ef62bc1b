"""The folder of the embedded corpus: who is in it, and its rendering by several processes.

Layout: ``cropped_aligned/<clip>/%05d.jpg``, ``annotations/{VA,EXPR,AU}_Set/<split>/<clip>.txt``,
``truth/<clip>.csv`` (every frame, every AU intensity, Other included) and ``rendered.json``, written last.
"""

import json
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from extract.corpora.rendered.cast import RenderSettings, Role, cast
from stores import commit
from stores.errors import CorpusError
from stores.progress import Progress, silent

RENDERER_VERSION = 2  # raise it whenever the same settings would give other files
_PLAN, _MARKER = "rendering.json", "rendered.json"


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
    from extract.corpora.rendered.performance import render_clip

    root.mkdir(parents=True, exist_ok=True)
    if not plan.exists():
        if any(not path.name.startswith(commit.TEMPORARY) for path in root.iterdir()):
            msg = f"{root} is not empty and not a rendering: choose an empty folder for the embedded corpus"
            raise CorpusError(msg)
        commit.replace_file(plan, (json.dumps(described, indent=1) + "\n").encode())
    commit.remove_abandoned(root)
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
