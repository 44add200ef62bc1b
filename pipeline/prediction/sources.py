"""Where a submission's numbers come from: finished runs, by name of class and AU, clip by clip.

Not a decision: V and A values and AU and EXPR probabilities, as the runs give them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.ledger import PREDICTIONS_FORMAT, PREDICTIONS_VERSION, status
from stores import FeatureSpec, LabelSpec, Store, documents
from stores.editions import Edition, Track
from stores.errors import ConfigError, SpecMismatch, StoreError

Values = dict[str, NDArray[np.float64]]
PREDICTIONS = "predictions.h5"


@dataclass(frozen=True, slots=True)
class Source:
    """A finished run and the tasks that a submission takes from it.

    Attributes:
        run_id: of the run.
        folder: of the run.
        columns: task -> which outputs of the run are wanted, in the order of the track.
        thresholds: probability from which each AU of the track is on; empty where AU is not taken.
    """

    run_id: str
    folder: Path
    columns: Mapping[str, tuple[int, ...]]
    thresholds: tuple[float, ...]


def open_runs(runs: Path, run_ids: Sequence[str], track: Track) -> list[Source]:
    """Finds each task of ``track`` in one of the runs.

    Outputs are matched by name. AUs that the track does not ask for are left out; a class list must have
    exactly the track's names, for a probability among other classes is another number.

    Args:
        runs: folder with one folder per run.
        run_ids: the runs; a task that several were trained on cannot be told apart and is refused.
        track: what to submit to.

    Raises:
        ConfigError: a run is not there or not finished, no run or several have a task, or names differ.
        StoreError: a run's files are damaged.
    """
    taken: dict[str, str] = {}
    sources = []
    for run_id in dict.fromkeys(run_ids):
        folder = runs / run_id
        if status(folder) != "finished":
            msg = f"no finished run {run_id} in {runs}: 'facets sweep --dry-run' lists the runs"
            raise ConfigError(msg)
        config = documents.read(folder / "config.json")
        try:
            trained, names, thresholds = _parse(config)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{folder / 'config.json'} is damaged ({error!r}): delete {folder} and run the sweep again"
            raise StoreError(msg) from error
        wanted = [task for task in track.tasks if task in trained]
        if not wanted:
            msg = f"run {run_id} predicts {', '.join(trained)}, nothing that track {track.name} asks for"
            raise ConfigError(msg)
        for task in wanted:
            if task in taken:
                msg = f"runs {taken[task]} and {run_id} both predict {task}: leave one out"
                raise ConfigError(msg)
            taken[task] = run_id
        columns = {task: _columns(task, names, track.rules, run_id) for task in wanted}
        chosen = tuple(thresholds[column] for column in columns.get("AU", ()))
        sources.append(Source(run_id, folder, columns, chosen))
    if lacking := [task for task in track.tasks if task not in taken]:
        msg = (
            f"track {track.name} needs {', '.join(track.tasks)}, and no given run predicts"
            f" {', '.join(lacking)}: add a run that does"
        )
        raise ConfigError(msg)
    return sources


def _parse(config: Mapping[str, Any]) -> tuple[list[str], LabelSpec, tuple[float, ...]]:
    names = LabelSpec.from_json(config["label_spec"])
    tasks = [str(task) for task in config["run"]["tasks"]]
    thresholds = tuple(float(value) for value in config["thresholds"].get("AU", ()))
    if len(thresholds) != (len(names.au_names) if "AU" in tasks else 0):
        msg = f"{len(thresholds)} thresholds for {len(names.au_names)} AUs"
        raise ValueError(msg)
    return tasks, names, thresholds


def _columns(task: str, names: LabelSpec, rules: Edition, run_id: str) -> tuple[int, ...]:
    """Returns which outputs are the track's, in its order."""
    if task == "AU":
        ours, wanted, expected = names.au_names, rules.aus, "all AUs"
        fits = set(wanted) <= set(ours)
    elif task == "EXPR":
        ours, wanted, expected = names.expression_names, rules.expressions, "exactly the classes"
        fits = set(wanted) == set(ours)
    else:
        return (0,)
    if not fits:
        msg = (
            f"run {run_id} predicts {task} {', '.join(ours)}; {rules.name} asks for {expected}"
            f" {', '.join(wanted)}: choose the edition the run was trained for, or train on its label list"
        )
        raise ConfigError(msg)
    return tuple(ours.index(name) for name in wanted)


def predictor(
    source: Source, features: Store, device: str, labels: Store | None = None
) -> Callable[[str], Values]:
    """Returns a function from a clip to (T, K) float64 per task of ``source``, in the track's order.

    Clips of the split that the run was scored on are read from its ``predictions.h5``; any other clip is
    predicted by its model, loaded when first needed.

    Args:
        source: the run.
        features: store that has the clips' features.
        device: where the model computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        labels: store that knows which clips are shards of independent images; None where none are.

    Raises:
        SpecMismatch: the model was trained on features of another specification.
        StoreError: a file of the run is damaged, or of other features than those in the store.
    """
    path = source.folder / PREDICTIONS
    kept = _kept_clips(path)
    model: Any = None

    def predict(clip: str) -> Values:
        nonlocal model
        frames = features.record(clip).frames
        found: Mapping[str, NDArray[np.float32]]
        if clip in kept:
            found = _read_kept(path, clip, frames, source)
        else:
            if model is None:
                model = _load_model(source, features, device)
            static = is_static(clip, labels)
            found = model.predict(features.read(clip), features.read(clip, "valid"), static=static)
        values = {
            task: found[task].reshape(frames, -1)[:, columns].astype(np.float64)
            for task, columns in source.columns.items()
        }
        for task, array in values.items():
            if not np.isfinite(array).all():
                frame = int(np.argmin(np.isfinite(array).all(1)))
                msg = (
                    f"run {source.run_id} predicts {task} of clip {clip}, frame {frame}, as no finite number"
                )
                raise StoreError(msg)
        return values

    return predict


def is_static(clip: str, labels: Store | None) -> bool:
    """Tells whether ``clip`` is a shard of independent images, as far as there are labels that know."""
    return labels is not None and labels.has(clip) and bool(labels.record(clip).attrs.get("static"))


def _load_model(source: Source, features: Store, device: str) -> Any:
    import temporal
    from extract.engine import resolve_device

    if not isinstance(features.spec, FeatureSpec):
        msg = f"{features.path} holds {features.spec.kind}: expected the feature store of the run"
        raise SpecMismatch(msg)
    model = temporal.load(source.folder, features.spec)
    model.network.to(resolve_device(device))
    return model


def _kept_clips(path: Path) -> frozenset[str]:
    try:
        with h5py.File(path) as file:
            found = file.attrs.get("format"), file.attrs.get("version")
            clips = frozenset(file)
    except OSError as error:
        msg = f"{path} cannot be read ({error}): delete {path.parent} and run the sweep again"
        raise StoreError(msg) from error
    if found != (PREDICTIONS_FORMAT, PREDICTIONS_VERSION):
        msg = f"{path} is of format {found}, expected {(PREDICTIONS_FORMAT, PREDICTIONS_VERSION)}"
        raise StoreError(msg)
    return clips


def _read_kept(path: Path, clip: str, frames: int, source: Source) -> dict[str, NDArray[np.float32]]:
    try:
        with h5py.File(path) as file:
            found = {task: file[clip][task][:] for task in source.columns}
    except (OSError, KeyError) as error:
        msg = f"{path}: clip {clip} cannot be read ({error}): delete {path.parent} and run the sweep again"
        raise StoreError(msg) from error
    for task, values in found.items():
        if len(values) != frames:
            msg = (
                f"{path}: clip {clip} has {len(values)} predictions of {task}, its features {frames} frames:"
                " the run is of other features; run the sweep again"
            )
            raise StoreError(msg)
    return found
