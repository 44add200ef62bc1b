"""The ledger of runs: one folder per run id, in which ``result.json`` is written last and means done.

Not a reader of scores, which is ``pipeline.report.scores``, and not the trainer.

A run folder holds ``config.json`` and ``model.safetensors`` (the checkpoint), ``metrics.jsonl`` (one line per
epoch), ``predictions.h5`` and ``result.json``. That of a failed run holds ``error.json``: ``error`` (one
line), ``type`` (of the exception), ``epoch`` and ``step`` (from 1, null if unknown), and which run it is. One
that successive halving ended before its time holds ``stopped.json``.

``predictions.h5`` is plain HDF5. Root attributes: ``format`` = ``facets-predictions``, ``version``,
``run_id``, ``split``, ``edition``, ``au_names``, ``expression_names``. One group per clip, in it one float32
dataset per trained task, row i = frame i: ``V`` and ``A`` (T,), ``AU`` and ``EXPR`` (T, K) probabilities.
"""

import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from pipeline.plan import PlannedRun
from stores import documents

Status = Literal["finished", "failed", "stopped", "missing"]

RESULT, ERROR, STOPPED, HISTORY = "result.json", "error.json", "stopped.json", "metrics.jsonl"
PREDICTIONS_FORMAT, PREDICTIONS_VERSION = "facets-predictions", 1


def status(folder: Path, bracket: str = "") -> Status:
    """Returns how far the run in ``folder`` came; a result outranks what an earlier attempt left.

    Args:
        folder: of the run.
        bracket: of successive halving; a run that another bracket stopped has yet to be trained in this one.
    """
    if (folder / RESULT).exists():
        return "finished"
    if bracket and stopped_by(folder) == bracket:
        return "stopped"
    return "failed" if (folder / ERROR).exists() else "missing"


def stopped_by(folder: Path) -> str | None:
    """Returns the bracket of successive halving that stopped the run in ``folder``; None if none did."""
    path = folder / STOPPED
    return str(json.loads(path.read_bytes())["bracket"]) if path.exists() else None


def unfinished(runs: Sequence[PlannedRun], folder: Path) -> list[PlannedRun]:
    """Returns the runs that have yet to be trained; one that failed is among them and is tried again."""
    return [run for run in runs if not settled(run, folder)]


def settled(run: PlannedRun, folder: Path) -> bool:
    """Says whether nothing is left to do for ``run``: it has a result, or its bracket stopped it."""
    return status(folder / run.run_id, run.bracket) in ("finished", "stopped")


def commit(
    folder: Path,
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    names: Mapping[str, Any],
    save_model: Callable[[Path], None],
) -> None:
    """Writes a finished run; a reader sees all of it or, without ``result.json``, none of it.

    Args:
        folder: of the run; leftovers of an interrupted or failed attempt in it are replaced.
        result: becomes ``result.json``.
        history: one mapping per epoch, becomes ``metrics.jsonl``.
        predictions: clip -> task -> array, becomes ``predictions.h5``.
        names: root attributes of ``predictions.h5``.
        save_model: writes the checkpoint into the folder that it is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder)
    lines = [json.dumps(without_nan(epoch), sort_keys=True, allow_nan=False) + "\n" for epoch in history]
    replace(folder / HISTORY, "".join(lines).encode())
    write_predictions(folder / "predictions.h5", predictions, names)
    for path in folder.iterdir():
        sync(path)
    for name in (ERROR, STOPPED):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / RESULT, result)


def commit_error(
    folder: Path,
    run: PlannedRun,
    error: str,
    kind: str,
    epoch: int | None = None,
    step: int | None = None,
) -> str:
    """Writes why a run has no result; the next sweep tries the run again.

    Args:
        folder: of the run.
        run: which one.
        error: the reason; is made one line.
        kind: name of the exception that ended it; ``FloatingPointError`` for a training that diverged.
        epoch: of the failure, from 1.
        step: of the epoch, from 1; None if it failed after its steps.

    Returns:
        The reason as one line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    line = " ".join(error.split())
    record = {"error": line, "type": kind, "epoch": epoch, "step": step}
    (folder / STOPPED).unlink(missing_ok=True)
    write_json(folder / ERROR, record | {"run_id": run.run_id, "name": run.name, "seed": run.seed})
    return line


def commit_stopped(folder: Path, run: PlannedRun, scores: Sequence[float], best_epoch: int) -> None:
    """Writes that successive halving ended a run, with its validation score of each epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "run_id": run.run_id,
        "name": run.name,
        "seed": run.seed,
        "bracket": run.bracket,
        "epochs": len(scores),
        "best_epoch": best_epoch,
        "scores": list(scores),
    }
    (folder / ERROR).unlink(missing_ok=True)
    write_json(folder / STOPPED, record)


def write_predictions(
    path: Path, predictions: Mapping[str, Mapping[str, np.ndarray]], names: Mapping[str, Any]
) -> None:
    """Writes ``predictions.h5`` as the head of this module describes it."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        file.attrs.update({"format": PREDICTIONS_FORMAT, "version": PREDICTIONS_VERSION, **names})
        for clip, tasks in predictions.items():
            group = file.create_group(clip)
            for task, values in tasks.items():
                group.create_dataset(task, data=np.asarray(values, np.float32))
    replace(path, image.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes ``value`` as JSON, NaN as null; readers see the old or the new content, also after a crash."""
    replace(path, documents.render(without_nan(value)))


def without_nan(value: Any) -> Any:
    """Returns a JSON value with null for every number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace(path: Path, content: bytes) -> None:
    """Puts ``content`` at ``path`` in one step: temporary name, flush, rename, flush of the folder."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flushes a file or the names in a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
