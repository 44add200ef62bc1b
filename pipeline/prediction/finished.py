"""Predicts clips with a finished run: from kept predictions if it was scored on the clip, else by its model.

Nothing here knows the purpose of a prediction: there is no track and no list of names but the run's own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ledger
from pipeline.data import open_stream
from pipeline.workdir import WorkDir
from stores import LabelSpec, Store, documents
from stores.errors import ConfigError, StoreError

Values = Mapping[str, NDArray[np.float32]]
"""Task -> (T,) values of V and A, (T, K) probabilities of AU and EXPR."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that can predict.

    Attributes:
        run_id: of the run.
        folder: of the run.
        tasks: that it predicts.
        streams: that it reads.
        names: of its classes and action units.
        thresholds: probability from which each action unit is on; empty if AU is not predicted.
    """

    run_id: str
    folder: Path
    tasks: tuple[str, ...]
    streams: tuple[str, ...]
    names: LabelSpec
    thresholds: tuple[float, ...]


def open_run(runs: Path, run_id: str) -> FinishedRun:
    """Returns a finished run.

    Args:
        runs: folder with one folder per run.
        run_id: of the run.

    Raises:
        ConfigError: the run is not there or not finished.
        StoreError: its description is damaged.
    """
    folder = runs / run_id
    if ledger.status(folder) != "done":
        msg = f"no finished run {run_id} in {runs}: 'facets sweep --dry-run' lists the runs"
        raise ConfigError(msg)
    config: Mapping[str, Any] = documents.read(folder / "config.json")
    try:
        names = LabelSpec.from_json(config["label_spec"])
        tasks = tuple(str(task) for task in config["run"]["tasks"])
        streams = tuple(dict(config["streams"]))
        thresholds = tuple(float(value) for value in config["thresholds"].get("AU", ()))
        if len(thresholds) != (len(names.au_names) if "AU" in tasks else 0):
            msg = f"{len(thresholds)} thresholds for {len(names.au_names)} AUs"
            raise ValueError(msg)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{folder / 'config.json'} is damaged ({error!r}): delete {folder} and run the sweep again"
        raise StoreError(msg) from error
    return FinishedRun(run_id, folder, tasks, streams, names, thresholds)


def open_streams(runs: Iterable[FinishedRun], place: WorkDir) -> dict[str, Store]:
    """Opens the feature store of every stream that one of ``runs`` reads.

    Raises:
        ConfigError: the experiment has no such stream.
        StoreError: a store is absent or damaged; says what to run.
        SpecMismatch: it is no feature store.
    """
    found: dict[str, Store] = {}
    for run in runs:
        for name in run.streams:
            if name not in place.streams:
                msg = (
                    f"run {run.run_id} reads the stream {name!r}, and the configuration has"
                    f" {', '.join(place.streams)}: add streams.{name}"
                )
                raise ConfigError(msg)
            if name not in found:
                found[name] = open_stream(place, name)[0]
    return found


def predictor(
    run: FinishedRun, features: Mapping[str, Store], device: str, labels: Store | None = None
) -> Callable[[str], Values]:
    """Returns a function from a clip to what ``run`` predicts of it.

    Clips that the run was scored on are read from its ``predictions.h5``. Its model predicts all others, and
    is loaded for the first of them.

    Args:
        run: the run.
        features: the feature store of each stream that the run reads, and maybe of others.
        device: where the model computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        labels: store that knows which clips are shards of independent images; None if none are.

    Raises:
        SpecMismatch: the model was trained on features of another specification.
        StoreError: a file of the run is damaged, or of other features than those in a store.
    """
    own = {name: features[name] for name in run.streams}
    kept = ledger.predicted_clips(run.folder)
    model: Any = None

    def predict(clip: str) -> Values:
        nonlocal model
        values: Values
        if clip in kept:
            values = _read_kept(clip, own, run)
        else:
            if model is None:
                model = _load_model(run, device)
            values = model.predict(own, clip, static=is_static(clip, labels))
        for task, array in values.items():
            finite = np.isfinite(array.reshape(len(array), -1)).all(1)
            if not finite.all():
                frame = int(np.argmin(finite))
                msg = f"run {run.run_id} predicts {task} of clip {clip}, frame {frame}, as no finite number"
                raise StoreError(msg)
        return values

    return predict


def is_static(clip: str, labels: Store | None) -> bool:
    """Tells whether ``clip`` is a shard of independent images, as far as there are labels that know."""
    return labels is not None and labels.has(clip) and bool(labels.record(clip).attrs.get("static"))


def _load_model(run: FinishedRun, device: str) -> Any:
    import temporal
    from pipeline.device import resolve_device

    model = temporal.load(run.folder)
    model.network.to(resolve_device(device))
    return model


def _read_kept(clip: str, features: Mapping[str, Store], run: FinishedRun) -> Values:
    found = ledger.predictions(run.folder, clip, run.tasks)
    for stream, store in features.items():
        frames = store.record(clip).frames
        for task, values in found.items():
            if len(values) != frames:
                msg = (
                    f"{run.folder}: clip {clip} has {len(values)} predictions of {task}, its stream {stream}"
                    f" {frames} frames: the run is of other features; run the sweep again"
                )
                raise StoreError(msg)
    return found
