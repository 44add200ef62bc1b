"""Kills a command at random times, again and again until it is done, and starts over.

Not which command, nor what it leaves: see ``fault_commands`` and ``fault_sweeps``.
"""

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fault_children
from fault_children import Raised

PATIENCE = 120

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Victim:
    """A command.

    Attributes:
        name: as faults call it.
        fresh: makes the work directory that it starts from.
        run: runs it there; in a child.
        look: returns what is damaged there, and the version of all that is committed; in a child.
        prints: returns a print of everything that it has left there.
    """

    name: str
    fresh: Callable[[], Path]
    run: Callable[[Path], None]
    look: Callable[[Path], tuple[list[str], Mapping[Hashable, Version]]]
    prints: Callable[[Path], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Kills:
    """What killing a command again and again came to.

    Attributes:
        kills: how often it was killed.
        finished: how often it was run to its end, each time after some kills.
        resumed: how many groups of a sweep went on from a state.
        seconds: wall time of all.
        faults: what must not happen: what was committed and then was gone or made again, damage, ends
            otherwise than by the kill or with exit code 0, other files than an uninterrupted run leaves.
    """

    kills: int
    finished: int
    resumed: int
    seconds: float
    faults: tuple[str, ...]


def version(path: Path) -> Version:
    """Returns what no file shares with the one that it replaces."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def uninterrupted(victim: Victim, scratch: Path) -> tuple[Mapping[str, object], float]:
    """Returns the prints of a run that nothing kills, and its seconds."""
    work, log = victim.fresh(), _log(scratch)
    start = time.monotonic()
    ended = fault_children.run(partial(victim.run, work), timeout=PATIENCE, output=log)
    seconds = time.monotonic() - start
    if ended.code != 0:
        msg = f"{victim.name} fails without any fault: {ended} {log.read_text()}"
        raise RuntimeError(msg)
    prints = victim.prints(work)
    shutil.rmtree(work)
    return prints, seconds


def kill(
    victim: Victim, reference: tuple[Mapping[str, object], float], kills: int, seed: int, scratch: Path
) -> Kills:
    """Kills ``victim`` within the time that ``reference``, an uninterrupted run, took and a tenth more."""
    draw, log, start = random.Random(f"{victim.name} {seed}"), _log(scratch), time.monotonic()
    prints, seconds = reference
    faults: list[str] = []
    done = finished = resumed = 0
    while done < kills:
        work = victim.fresh()
        committed: Mapping[Hashable, Version] = {}
        for attempt in itertools.count():
            last = done >= kills
            patience = PATIENCE if last else draw.uniform(0, 1.1 * seconds)
            log.write_text("")  # a child may be killed before it has opened it
            ended = fault_children.run(partial(victim.run, work), timeout=patience, output=log)
            killed = ended.hung and not last
            done += killed
            resumed += log.read_text().count("going on after epoch")
            where = f"{victim.name}, seed {seed}, kill {done}, attempt {attempt}"
            looked = fault_children.run(partial(victim.look, work), timeout=PATIENCE)
            if looked.code != 0 or isinstance(looked.answer, Raised):
                faults.append(f"{where}: what is there cannot be read: {looked}")
                break
            damage, now = looked.answer
            faults += [f"{where}: {text}" for text in damage]
            faults += [
                f"{where}: {name} was committed and is {'made again' if name in now else 'gone'}"
                for name, before in committed.items()
                if now.get(name) != before
            ]
            committed = now
            if not killed:
                finished += 1
                if ended.code != 0:
                    faults.append(f"{where}: ended otherwise: {ended} {log.read_text()}")
                faults += [f"{where}: {text}" for text in _differences(prints, victim.prints(work))]
                break
        shutil.rmtree(work)
    return Kills(done, finished, resumed, time.monotonic() - start, tuple(faults))


def _log(scratch: Path) -> Path:
    return scratch / f"log-{os.getpid()}"


def _differences(expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return [f"{name} differs from that of an uninterrupted run" for name in names]
