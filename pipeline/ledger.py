"""The ledger of runs: one folder per run id, in which ``result.json`` is written last and means done.

Nothing else knows the files of a run. A run folder holds ``config.json`` and ``model.safetensors`` (the
checkpoint, written by ``temporal.save``), ``metrics.jsonl`` (one line per epoch), ``predictions.h5``,
``units.npz`` and ``result.json``. The folder of a failed run holds ``error.json``: ``error`` (one line),
``type`` (of the exception), ``epoch`` and ``step`` (from 1, null if unknown), and which run it is. The folder
of a run that successive halving ended before its time holds ``stopped.json``.

``predictions.h5`` is plain HDF5. Root attributes: ``format`` = ``facets-predictions``, ``version``,
``run_id``, ``split``, ``edition``, ``au_names``, ``expression_names``. One group per clip, in it one float32
dataset per trained task, row i = frame i: ``V`` and ``A`` (T,), ``AU`` and ``EXPR`` (T, K) probabilities.

``units.npz`` holds the sums that scores are functions of (``temporal.metrics.unit_sums``): ``clips`` (N,),
and for each task an array (N, L), row i of clip i.
"""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.plan import PlannedRun
from stores import documents
from stores.commit import remove_abandoned, replace_file, sync_tree
from stores.errors import FacetsError, StoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values: TypeAlias = Mapping[str, NDArray[np.float32]]
    Sums: TypeAlias = Mapping[str, Mapping[str, NDArray[np.float64]]]

Status = Literal["done", "failed", "stopped", "missing"]

RESULT, ERROR, STOPPED = "result.json", "error.json", "stopped.json"
HISTORY, PREDICTIONS, UNITS, MODEL = "metrics.jsonl", "predictions.h5", "units.npz", "config.json"
PREDICTIONS_FORMAT, PREDICTIONS_VERSION = "facets-predictions", 1


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the folder of a planned run says.

    Attributes:
        status: ``done``; ``failed``; ``stopped`` by the run's bracket of successive halving; or ``missing``.
        error: one line; empty unless failed.
        best_epoch: epoch kept, from 1; 0 unless done.
        epochs: epochs trained; 0 unless done or stopped.
        metrics: task -> metrics, null where a number is not finite; empty unless done.
    """

    status: Status
    error: str = ""
    best_epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def status(folder: Path, bracket: str = "") -> Status:
    """Returns how far the run in ``folder`` came; a result outranks what an earlier attempt left.

    Args:
        folder: of the run.
        bracket: of successive halving; a run that another bracket stopped has yet to be trained in this one.

    Raises:
        FacetsError: ``stopped.json`` is damaged.
    """
    if (folder / RESULT).exists():
        return "done"
    halved = folder / STOPPED
    if bracket and halved.exists() and _load(halved, "bracket")["bracket"] == bracket:
        return "stopped"
    return "failed" if (folder / ERROR).exists() else "missing"


def read(folder: Path, run: PlannedRun) -> RunRecord:
    """Reads what a planned run left.

    Raises:
        FacetsError: a file is damaged or belongs to another run; the message names it and the remedy.
    """
    found = status(folder, run.bracket)
    if found == "done":
        result = _load(folder / RESULT, "run_id", "seed", "tasks", "metrics")
        # Not the name: another sweep may have called the same run by what differs from its own settings.
        for key, planned in (("run_id", run.run_id), ("seed", run.seed), ("tasks", list(run.tasks))):
            if result[key] != planned:
                raise _damaged(folder / RESULT, f"{key} is {result[key]!r}, the plan says {planned!r}")
        metrics = result["metrics"]
        if not isinstance(metrics, dict) or not all(
            isinstance(metrics.get(task), dict) for task in run.tasks
        ):
            raise _damaged(folder / RESULT, "its metrics are not those of its tasks")
        best, epochs = (_count(folder / RESULT, result, key) for key in ("best_epoch", "epochs"))
        return RunRecord(found, "", best, epochs, metrics)
    if found == "stopped":
        return RunRecord(found, epochs=_count(folder / STOPPED, _load(folder / STOPPED), "epochs"))
    if found == "failed":
        return RunRecord(found, error=" ".join(str(_load(folder / ERROR, "error")["error"]).split()))
    return RunRecord(found)


def epoch_scores(folder: Path, run: PlannedRun) -> list[float]:
    """Returns the validation score of every epoch of a run that is done or stopped, NaN where it had none.

    Raises:
        FacetsError: a file is damaged; the message names it and the remedy.
    """
    path = folder / (STOPPED if status(folder, run.bracket) == "stopped" else HISTORY)
    try:
        if path.name == STOPPED:
            found = list(_load(path, "scores")["scores"])
        else:
            found = [json.loads(line)["score"] for line in path.read_text(encoding="utf-8").splitlines()]
        return [math.nan if score is None else float(score) for score in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def unfinished(runs: Sequence[PlannedRun], folder: Path) -> list[PlannedRun]:
    """Returns the runs that have yet to be trained; one that failed is among them and is tried again.

    Raises:
        FacetsError: the result of a run is damaged; the message names the file and the remedy.
    """
    return [run for run in runs if not settled(run, folder)]


def settled(run: PlannedRun, folder: Path) -> bool:
    """Says whether nothing is left to do for ``run``: it has a result, or its bracket stopped it.

    Raises:
        FacetsError: its result is damaged; the message names the file and the remedy.
    """
    return read(folder / run.run_id, run).status in ("done", "stopped")


def units(folder: Path) -> "Sums":
    """Returns clip -> task -> the sums that scores are functions of, of a run that is done.

    Raises:
        FacetsError: the file is absent or damaged; the message names it and the remedy.
    """
    import numpy as np

    path = folder / UNITS
    try:
        with np.load(path) as arrays:
            clips = [str(clip) for clip in arrays["clips"]]
            tasks = {name: np.asarray(arrays[name], np.float64) for name in arrays.files if name != "clips"}
        if any(len(values) != len(clips) for values in tasks.values()):
            msg = f"other numbers of rows than its {len(clips)} clips"
            raise ValueError(msg)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise _damaged(path, error) from error
    return {clip: {task: rows[i] for task, rows in tasks.items()} for i, clip in enumerate(clips)}


def predicted_clips(folder: Path) -> frozenset[str]:
    """Returns the clips whose predictions a run that is done kept: those that it was scored on.

    Raises:
        StoreError: the file is absent, damaged or of another format.
    """
    import h5py

    path = folder / PREDICTIONS
    try:
        with h5py.File(path) as file:
            found = file.attrs.get("format"), file.attrs.get("version")
            clips = frozenset(file)
    except OSError as error:
        raise _damaged(path, error) from error
    if found != (PREDICTIONS_FORMAT, PREDICTIONS_VERSION):
        raise _damaged(path, f"its format is {found}, not {(PREDICTIONS_FORMAT, PREDICTIONS_VERSION)}")
    return clips


def predictions(folder: Path, clip: str, tasks: Sequence[str]) -> "Values":
    """Returns task -> the predictions of one of ``predicted_clips``.

    Raises:
        StoreError: they are damaged.
    """
    import h5py

    path = folder / PREDICTIONS
    try:
        with h5py.File(path) as file:
            return {task: file[clip][task][:] for task in tasks}
    except (OSError, KeyError) as error:
        raise _damaged(path, f"clip {clip}: {error}") from error


def commit(
    folder: Path,
    result: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    predicted: "Mapping[str, Values]",
    sums: "Sums",
    names: Mapping[str, Any],
    save_model: Callable[[Path], None],
) -> None:
    """Writes a finished run; a reader sees all of it or, without ``result.json``, none of it.

    Args:
        folder: of the run; leftovers of an interrupted or failed attempt in it are replaced.
        result: becomes ``result.json``.
        history: one mapping per epoch, becomes ``metrics.jsonl``.
        predicted: clip -> task -> array, becomes ``predictions.h5``.
        sums: clip -> task -> the sums that scores are functions of, becomes ``units.npz``.
        names: root attributes of ``predictions.h5``.
        save_model: writes the checkpoint into the folder that it is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    save_model(folder)
    lines = [json.dumps(without_nan(epoch), sort_keys=True, allow_nan=False) + "\n" for epoch in history]
    replace_file(folder / HISTORY, "".join(lines).encode())
    write_predictions(folder, predicted, names)
    write_units(folder, sums)
    sync_tree(folder)
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


def write_predictions(folder: Path, predicted: "Mapping[str, Values]", names: Mapping[str, Any]) -> None:
    """Writes ``predictions.h5`` as the head of this module describes it."""
    import h5py
    import numpy as np

    image = io.BytesIO()
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        file.attrs.update({"format": PREDICTIONS_FORMAT, "version": PREDICTIONS_VERSION, **names})
        for clip, tasks in predicted.items():
            group = file.create_group(clip)
            for task, values in tasks.items():
                group.create_dataset(task, data=np.asarray(values, np.float32))
    replace_file(folder / PREDICTIONS, image.getvalue())


def write_units(folder: Path, sums: "Sums") -> None:
    """Writes ``units.npz`` as the head of this module describes it."""
    import numpy as np

    tasks = dict.fromkeys(task for clip in sums.values() for task in clip)
    columns: dict[str, Any] = {task: np.stack([clip[task] for clip in sums.values()]) for task in tasks}
    image = io.BytesIO()
    np.savez(image, clips=np.array(list(sums), dtype=np.str_), **columns)
    replace_file(folder / UNITS, image.getvalue())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes ``value`` as JSON, NaN as null; readers see the old or the new content, also after a crash."""
    replace_file(path, documents.render(without_nan(value)))


def without_nan(value: Any) -> Any:
    """Returns a JSON value with null for every number that JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _load(path: Path, *keys: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = documents.read(path)
    except (OSError, StoreError) as error:
        raise _damaged(path, error) from error
    for key in keys:
        if key not in found:
            raise _damaged(path, f"the key {key!r} is missing")
    return found


def _count(path: Path, record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _damaged(path, f"{key} is {value!r}, expected a whole number")
    return value


def _damaged(path: Path, found: object) -> FacetsError:
    return StoreError(
        f"{path} cannot be read as this run's result: {found}. Delete the folder {path.parent} and run the"
        " sweep again: only this run is repeated"
    )
