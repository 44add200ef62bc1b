"""Stage 2 of an experiment: trains the planned runs that have no result, in groups, and commits each run.

Not the trainer, which is ``temporal.fit``, nor the processes, which are ``pipeline.cluster``.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline import ledger, rules
from pipeline.cluster import Cluster, connected, run_tasks, threads_of
from pipeline.config import Config
from pipeline.data import SCORED, TRAIN, Data, open_data
from pipeline.folds import Division
from pipeline.plan import Plan, PlannedRun, make_plan, plan_before, projection_of
from pipeline.stage1.reading import require_section
from pipeline.stage2 import groups as grouping
from pipeline.stage2.groups import Group
from pipeline.stage2.trainer import Work, fail, run_settings, train_group, training_settings
from pipeline.workdir import WorkDir
from stores.documents import Json
from stores.errors import ConfigError, StoreError
from stores.progress import Progress, silent
from temporal.data.projection import Projection, locate

if TYPE_CHECKING:
    from distributed import Client

    from stores import Store
    from temporal.data.bank import Bank
    from temporal.data.placement import Wanted
    from temporal.train.memory import Shapes

logger = logging.getLogger(__name__)

Train: TypeAlias = Callable[[Sequence[Group]], dict[str, str]]
"""Trains groups and returns the outcome of their runs."""

DEADLY = "the workers that train it die: look at their memory, or lower training.max_replicas"


def run_sweep(
    config: Config,
    place: WorkDir,
    progress: Progress = silent,
    cluster: Cluster | None = None,
    only: Sequence[str] = (),
) -> dict[str, str]:
    """Trains what has no result yet.

    Each result is on disk as soon as its run ends, and the state of a group from time to time: a sweep that
    was killed goes on from there, and on the CPU ends in the same bytes as one that was not. So do workers
    with as many threads, on a like processor, that train the same groups.

    Args:
        config: the experiment.
        place: where it is.
        progress: called with the epochs of single runs that are done.
        cluster: which processes train, a group at a time each; None for this one.
        only: ids of the runs to train; by default all.

    Returns:
        Runs that failed, with the reason; the next sweep tries them again.

    Raises:
        ConfigError: ``only`` names a run that is not planned, or the cluster cannot be reached.
        FacetsError: the stores are missing, or do not hold what the sweep needs.
    """
    data = open_data(place)
    require_section(config, place)
    plan = make_plan(config, data, plan_before(place.plan, config))
    wanted = chosen(plan.runs, only)
    require_axes(plan, data, wanted)
    grouping.clean(wanted, place.runs)
    left = ledger.unfinished(wanted, place.runs)
    logger.info("%s: %d of %d runs are done", place.runs, len(wanted) - len(left), len(wanted))
    require_reduced(plan, data, place, left)
    found = rules.found_breaches(config, plan)
    if config.table.rules == "refuse":
        rules.refuse(config.table.edition, found)
    for sentence in rules.sentences(config.table.edition, found):
        logger.warning("rules: %s", sentence)
    plan.write(place.plan)
    if not left:
        return {}

    outcome: dict[str, str] = {}
    # Of all runs, so that a sweep that goes on comes to the same number.
    most = replicas(config, plan, wanted)
    with trainer(cluster, Work(config, place, plan), data, progress) as (workers, conditions, train):
        # Once, as a rule. Again for a run that had left its group before the state that the group went on
        # from, and that has no result: it failed then, or somebody removed its folder since.
        while any(run.run_id not in outcome for run in ledger.unfinished(wanted, place.runs)):
            formed = grouping.form(
                wanted,
                outcome,
                place.runs,
                conditions,
                most=most,
                workers=workers,
            )
            outcome |= train(sorted(formed, key=lambda group: (group.fold or 0, str(read_by(group)))))
    return {str(run): outcome[run.run_id] for run in wanted if outcome.get(run.run_id)}


def chosen(planned: Sequence[PlannedRun], only: Sequence[str]) -> list[PlannedRun]:
    """Returns the runs named by ``only``, or all if it names none.

    Raises:
        ConfigError: a run is not planned.
    """
    unknown = sorted(set(only) - {run.run_id for run in planned})
    if unknown:
        msg = f"no run {', '.join(unknown)} in this sweep: facets sweep --dry-run lists its runs"
        raise ConfigError(msg)
    return [run for run in planned if not only or run.run_id in only]


@contextmanager
def trainer(
    cluster: Cluster | None, work: Work, data: Data, progress: Progress
) -> Iterator[tuple[int, dict[str, Json], Train]]:
    """Yields how many groups train at a time, what their results rest on, and what trains them."""
    from pipeline.device import resolve_device
    from temporal import machine

    asked = work.config.training
    conditions: dict[str, Json] = {"max_replicas": asked.max_replicas}
    if cluster is None:
        device = resolve_device(asked.device)
        conditions |= {"workers": None, **machine.describe(device)}

        @functools.lru_cache(maxsize=1)  # groups that read the same come one after the other
        def bank_of(fold: int | None, projection: Projection | None) -> "Bank":
            splits = work.plan.division(fold).splits
            return load_bank(work.place, data, splits, asked.device, asked.bank, projection)

        yield 1, conditions, functools.partial(train_here, work=work, bank_of=bank_of, progress=progress)
        return
    with connected(cluster, asked.device) as client:
        if cluster.workers is None:
            workers = max(1, len(client.nthreads()))  # type: ignore[no-untyped-call]
            conditions |= {"workers": "scheduler", "device": asked.device, "versions": machine.versions()}
        else:
            workers = cluster.workers
            work = replace(work, threads=threads_of(workers))
            here = machine.describe(resolve_device(asked.device))
            conditions |= {"workers": workers, **here, "threads": work.threads}
        yield workers, conditions, functools.partial(train_on, client=client, work=work, progress=progress)


def load_bank(
    place: WorkDir,
    data: Data,
    splits: Mapping[str, str],
    device: str,
    placement: "Wanted",
    projection: Projection | None,
) -> "Bank":
    """Returns the part of an experiment's stores that the runs of a fold and a reduction read.

    Raises:
        StoreError: the reduced features are missing, stale or damaged.
    """
    import temporal
    from pipeline.device import resolve_device
    from temporal.data.reduced import open_reduced

    home = resolve_device(device)
    if projection is None:
        return temporal.load_bank(
            data.streams, data.labels, division=splits, device=home, placement=placement
        )
    return open_reduced(
        data.streams,
        data.labels,
        place.reductions,
        projection,
        division=splits,
        device=home,
        placement=placement,
    )


def read_by(group: Group) -> tuple[int | None, Projection | None]:
    """Returns the fold and the reduction of the features that the runs of a group read."""
    return group.fold, projection_of(group.runs[0].training)


def train_here(
    formed: Sequence[Group],
    *,
    work: Work,
    bank_of: "Callable[[int | None, Projection | None], Bank]",
    progress: Progress,
) -> dict[str, str]:
    """Trains groups in this process, one after the other."""
    everything, before = sum(map(epochs_of, formed)), 0
    outcome: dict[str, str] = {}
    for group in formed:
        logger.info("training %s", group)

        def advance(step: str, total: int, completed: int, before: int = before) -> None:
            progress(step, everything, before + completed)

        outcome |= train_group(group, work, bank_of(*read_by(group)), advance)
        before += epochs_of(group)
    return outcome


def epochs_of(group: Group) -> int:
    """Returns the most epochs that all runs of a group train together."""
    return len(group.runs) * training_settings(group.runs[0]).epochs


def train_on(formed: Sequence[Group], *, client: "Client", work: Work, progress: Progress) -> dict[str, str]:
    """Trains groups on the workers of a cluster, each on the next one that is free."""
    total, done = sum(map(epochs_of, formed)), 0
    outcome: dict[str, str] = {}

    def finished(group: Group, result: dict[str, str] | None) -> None:
        nonlocal done
        done += epochs_of(group)
        progress("train", total, done)
        ended = fail(group, work.place, {}, DEADLY, "KilledWorker") if result is None else result
        failed = sum(bool(reason) for reason in ended.values())
        logger.info("%s: %d finished, %d failed", group, len(ended) - failed, failed)
        outcome.update(ended)

    progress("train", total, done)
    logger.info("training %d groups on %d workers", len(formed), len(client.nthreads()))  # type: ignore[no-untyped-call]
    run_tasks(
        client,
        formed,
        functools.partial(train_task, work=work),
        finished,
        lambda group: {str(group): group},
    )
    client.run(opened.cache_clear, on_error="ignore")
    return outcome


def train_task(group: Group, work: Work) -> dict[str, str]:
    """Trains a group on a worker, which reads the stores and writes the results itself.

    Raises:
        FacetsError: the stores cannot be used, or are not those of the driver.
    """
    import torch

    if work.threads is not None:
        torch.set_num_threads(work.threads)
    asked, plan = work.config.training, work.plan
    digests = plan.labels, tuple(sorted(plan.features.items()))
    splits = tuple(plan.division(group.fold).splits.items())
    _, projection = read_by(group)
    bank = opened(work.place, asked.device, asked.bank, digests, splits, projection)
    return train_group(group, work, bank)


@functools.lru_cache(maxsize=1)  # a worker has many groups that read the same
def opened(
    place: WorkDir,
    device: str,
    placement: "Wanted",
    digests: tuple[str, tuple[tuple[str, str], ...]],
    splits: tuple[tuple[str, str], ...],
    projection: Projection | None,
) -> "Bank":
    """Returns the part of an experiment's stores that the runs of a fold and a reduction read.

    Raises:
        FacetsError: they cannot be used, or hold something else than ``digests`` says.
    """
    data = open_data(place)
    if (data.label_digest, tuple(sorted(data.feature_digests.items()))) != digests:
        msg = (
            f"the stores of {place.labels.parent} hold other clips on this worker than where the sweep was"
            " started: give all machines the same work directory"
        )
        raise StoreError(msg)
    return load_bank(place, data, dict(splits), device, placement, projection)


def require_axes(plan: Plan, data: Data | None, runs: Sequence[PlannedRun]) -> None:
    """Makes sure that the training features have as many principal axes as any run asks for.

    Args:
        plan: of the sweep.
        data: its stores; None if they are not there, so that valid frames cannot be counted.
        runs: of the sweep.

    Raises:
        ConfigError: they have fewer: their dimensions, or the training frames with a crop, are too few.
    """
    for run in runs:
        pca = int(str(run.training["pca"]))
        for name, spec in plan.provenance.streams.items():
            if pca > spec.dim:
                raise ConfigError(_too_many_axes(run, pca, f"of {spec.dim} dimensions"))
            frames = pca if data is None else valid_frames(data.streams[name], plan.division(run.fold), pca)
            if pca > frames:
                raise ConfigError(_too_many_axes(run, pca, f"with {frames} valid training frames"))


def valid_frames(features: "Store", division: Division, enough: int) -> int:
    """Returns how many training frames of a fold have a crop; counts no further than ``enough``."""
    frames = 0
    for clip, split in division.splits.items():
        if frames >= enough:
            break
        if split == TRAIN:
            frames += int(features.read(clip, "valid").sum())
    return frames


def require_reduced(plan: Plan, data: Data, place: WorkDir, runs: Sequence[PlannedRun]) -> None:
    """Makes sure that the reduced features that any run reads are there, before anything is trained.

    Raises:
        StoreError: they are missing or stale; says what to run.
    """
    asked = dict.fromkeys((run.fold, projection_of(run.training)) for run in runs)
    for fold, projection in asked:
        if projection is not None:
            splits = plan.division(fold).splits
            for store in data.streams.values():
                locate(store, data.labels, splits, place.reductions, projection).require()


def _too_many_axes(run: PlannedRun, pca: int, why: str) -> str:
    return f"training.pca: {run.name} asks for {pca} principal axes of features {why}: lower pca"


def replicas(config: Config, plan: Plan, runs: Sequence[PlannedRun]) -> int:
    """Returns how many of ``runs`` train together: as many as fit, unless the configuration says a number.

    Groups of other settings take other memory: the number is that of the largest.
    """
    asked: Literal["auto"] | int = config.training.max_replicas
    if asked != "auto" or not runs:
        return 1 if asked == "auto" else asked

    from pipeline.device import resolve_device
    from temporal.train.memory import replicas_that_fit

    device = resolve_device(config.training.device)
    largest = max(plan.folds, key=lambda division: scored_frames(plan, division))
    shapes = shapes_of(plan, largest)
    together: dict[Any, list[PlannedRun]] = {}
    for run in runs:
        together.setdefault(training_settings(run), []).append(run)
    return min(
        replicas_that_fit(
            [run_settings(run) for run in members], training, shapes, device, config.training.bank
        )
        for training, members in together.items()
    )


def scored_frames(plan: Plan, division: Division) -> int:
    """Returns the number of frames that the runs of a fold are scored on."""
    return sum(plan.frames[clip] for clip, split in division.splits.items() if split == SCORED)


def shapes_of(plan: Plan, division: Division) -> "Shapes":
    """Returns the shapes of a fold of the data, which cost and memory of a training follow from."""
    from temporal.train.memory import Shapes

    train, scored = (
        [clip for clip, name in division.splits.items() if name == split] for split in (TRAIN, SCORED)
    )
    return Shapes(
        [plan.frames[clip] for clip in train],
        [plan.frames[clip] for clip in scored],
        plan.provenance.streams,
        plan.provenance.labels,
        frozenset(i for i, clip in enumerate(train) if clip in plan.static),
        frozenset(i for i, clip in enumerate(scored) if clip in plan.static),
    )
