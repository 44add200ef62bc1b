"""The groups of a sweep, written down before they train: a sweep that was killed goes on with the same ones.

Not a trainer, and not a reader of how far a group is, which is ``temporal.train.resume``'s.

A run learns nothing from the runs beside it, but float32 sums round differently in another group. So a run
that is committed stays a member of its group until the group is done, and what is left of a killed sweep is
not grouped anew. In a folder of ``runs/.groups``, one for all that were formed together, a group has two
files: ``<digest>.json``, its run ids in order and under which conditions they were grouped, and
``<digest>.safetensors``, the state of its training.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import ledger
from pipeline.plan import PlannedRun, shared_settings
from stores import documents
from stores.commit import exclusive, remove, remove_abandoned, sync_folder, temporary, write_document
from stores.documents import Json
from stores.errors import ConfigError, StoreError
from temporal.registries import counting

logger = logging.getLogger(__name__)

FOLDER, DIGITS = ".groups", 12
FORMAT, VERSION = "facets-group", 1


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that train together.

    Attributes:
        runs: in the order of their replicas.
        conditions: what else the group rests on: its largest size, workers, device, threads, versions. Under
            other conditions its state would not fit, so that what is left of it is grouped anew.
        folder: of its two files.
    """

    runs: tuple[PlannedRun, ...]
    conditions: Mapping[str, Json]
    folder: Path

    @property
    def content(self) -> dict[str, Json]:
        """What the record says."""
        ids: list[Json] = [run.run_id for run in self.runs]
        return {"format": FORMAT, "version": VERSION, "runs": ids, "conditions": self.conditions}

    @property
    def fold(self) -> int | None:
        """The fold of all its runs; None for the official splits."""
        return self.runs[0].fold

    @property
    def record(self) -> Path:
        """The file that says which runs these are; also what a process locks that trains them."""
        return self.folder / f"{documents.digest(self.content)[:DIGITS]}.json"

    @property
    def state(self) -> Path:
        """The file of the state."""
        return self.record.with_suffix(".safetensors")

    def __str__(self) -> str:
        first = self.runs[0]
        return f"the group of {len(self.runs)} runs from {first}"


def form(
    wanted: Sequence[PlannedRun],
    skip: Collection[str],
    runs_folder: Path,
    conditions: Mapping[str, Json],
    *,
    most: int,
    workers: int,
) -> list[Group]:
    """Returns groups that hold every run without a result, and records them.

    Groups that an earlier sweep under the same conditions left unfinished come first, whole, committed runs
    included. Groups of runs that are not all wanted now belong to another sweep and are left alone.

    Args:
        wanted: the runs of this sweep.
        skip: ids of runs that need not be trained though they have no result.
        runs_folder: folder of all runs.
        conditions: see ``Group``.
        most: runs in a group.
        workers: so many groups at least, while there are as many runs.
    """
    folder = runs_folder / FOLDER
    known = {run.run_id: run for run in wanted}
    kept: list[Group] = []
    for path, (ids, recorded_under) in _recorded(folder).items():
        if not set(ids) <= known.keys():
            logger.info("%s is a group of another sweep and left alone", path)
        elif recorded_under != conditions:
            logger.info("%s was grouped under other conditions: what is left of it is grouped anew", path)
            _drop(path)
        else:
            kept.append(Group(tuple(known[run_id] for run_id in ids), conditions, path.parent))
    place = {run.run_id: number for number, run in enumerate(wanted)}
    kept.sort(key=lambda group: place[group.runs[0].run_id])
    waiting = {run.run_id for run in ledger.unfinished(wanted, runs_folder)} - set(skip)
    formed: list[Group] = []
    for group in kept:
        members = {run.run_id for run in group.runs}
        if not waiting.isdisjoint(members):
            logger.info("%s goes on as it was", group)
            formed.append(group)
            waiting -= members
    rest = split([run for run in wanted if run.run_id in waiting], most, workers)
    return formed + (_record(rest, conditions, folder) if rest else [])


def clean(wanted: Sequence[PlannedRun], runs_folder: Path) -> None:
    """Removes what is kept of groups of which nothing is left to do: a kill came between."""
    settled = {run.run_id for run in wanted if ledger.settled(run, runs_folder)}
    for path, (ids, _) in _recorded(runs_folder / FOLDER).items():
        if settled.issuperset(ids):
            _drop(path)


def split(runs: Sequence[PlannedRun], most: int, workers: int) -> list[list[PlannedRun]]:
    """Returns groups of at most ``most`` runs, of like size, as many for each worker as for any other.

    A bracket of successive halving is not divided, so with large ones some workers may have no group.
    """
    if not runs:
        return []
    brackets = Counter(run.bracket for run in runs if run.bracket)
    least = min(max([1, *brackets.values()]), most)
    rounds = -(-len(runs) // (most * workers))
    size = max(-(-len(runs) // (rounds * workers)), least)
    groups = alike(runs, size)
    # Such as 5 runs on 4 workers, where 2, 2, 1 would leave one idle.
    while size > least and len(groups) < min(workers, len(runs)):
        size -= 1
        groups = alike(runs, size)
    return groups


def alike(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Splits ``runs`` into stacks: few, of like size, at most ``size``, the order kept within each.

    Runs of a stack have their fold and their shared settings in common, and their streams if a loss counts
    the labels that a run may use. A bracket of successive halving is in one stack. A run learns nothing from
    the runs beside it, but sums of float32 round differently in another group, and training amplifies that
    as it would any change in the last digit.

    Raises:
        ConfigError: a bracket has more than ``size`` runs.
    """
    members: dict[bytes, list[PlannedRun]] = {}
    for run in runs:
        training: Mapping[str, Any] = run.training
        streams: list[Json] = [*run.streams] if counting(training["losses"]) else []
        members.setdefault(documents.canonical([run.fold, shared_settings(run), streams]), []).append(run)
    return [group for together in members.values() for group in evenly(together, size)]


def evenly(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Splits runs that could all train together; see ``alike``."""
    units: dict[str, list[PlannedRun]] = {}
    for run in runs:
        units.setdefault(run.bracket or run.run_id, []).append(run)
    for unit in units.values():
        if len(unit) > size:
            msg = (
                f"{len(unit)} runs of {unit[0].name} and the rows beside it are halved together, but only"
                f" {size} may train together: raise training.max_replicas, or plan fewer settings or seeds"
            )
            raise ConfigError(msg)
    count = -(-len(runs) // size)
    while True:
        made: list[list[PlannedRun]] = [[] for _ in range(count)]
        before = 0
        for unit in units.values():
            # The group is that of the unit's middle, so that all groups end near their share of the runs.
            made[(2 * before + len(unit)) * count // (2 * len(runs))] += unit
            before += len(unit)
        if all(len(group) <= size for group in made):
            return [group for group in made if group]
        count += 1


@contextmanager
def held(group: Group) -> Iterator[bool]:
    """Lets one process at a time train a group; yields whether it is still to be trained.

    A worker that lost its connection may still train what another was given: that one then waits, and finds
    the group closed.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(group.record, partial(_tell_of_waiting, group.record)))
        except FileNotFoundError:
            yield False
        else:
            yield group.record.exists()


def close(group: Group) -> None:
    """Removes the files of a group whose runs have all ended; for who holds it."""
    _remove(group.record)


def _record(
    rest: Sequence[Sequence[PlannedRun]], conditions: Mapping[str, Json], folder: Path
) -> list[Group]:
    """Records new groups, all or none: what is left after some of them would not be grouped the same."""
    name = documents.digest([[run.run_id for run in runs] for runs in rest])[:DIGITS]
    formed = [Group(tuple(runs), conditions, folder / name) for runs in rest]
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    with temporary(folder, name, tree=True) as new:
        for group in formed:
            write_document(new / group.record.name, documents.render(group.content))
        if not formed[0].folder.exists():  # else another sweep like this one began at the same time
            new.rename(formed[0].folder)
        else:
            remove(new)
    sync_folder(folder)
    return formed


def _recorded(folder: Path) -> dict[Path, tuple[list[str], Json]]:
    """Returns run ids and conditions of every record; one that is damaged is removed."""
    found: dict[Path, tuple[list[str], Json]] = {}
    for path in sorted(folder.glob(f"{'[0-9a-f]' * DIGITS}/*.json")):
        try:
            content = documents.read(path)
            ids = content["runs"]
            if (content["format"], content["version"]) != (FORMAT, VERSION) or not isinstance(ids, list):
                msg = f"{path} is not of this version"
                raise StoreError(msg)
            found[path] = [str(run_id) for run_id in ids], content["conditions"]
        except FileNotFoundError:
            logger.debug("%s was closed by another process", path)
        except (StoreError, KeyError) as error:
            logger.warning("a group is forgotten, and its runs are grouped anew: %s", error)
            _drop(path)
    return found


def _drop(record: Path) -> None:
    """Removes a group once no process trains it."""
    with contextlib.suppress(FileNotFoundError), exclusive(record, partial(_tell_of_waiting, record)):
        _remove(record)


def _remove(record: Path) -> None:
    remove(record.with_suffix(".safetensors"))
    remove(record)
    with contextlib.suppress(OSError):  # other groups are in them
        record.parent.rmdir()
        record.parent.parent.rmdir()


def _tell_of_waiting(record: Path) -> None:
    logger.info("another process trains the group %s: waiting for it", record)
