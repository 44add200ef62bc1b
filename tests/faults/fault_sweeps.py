"""Runs ``facets sweep`` in children of a process that has imported it, and kills it at random times.

Not a test of what a sweep computes.
"""

import hashlib
import importlib
import itertools
import json
import os
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fabricated_experiment
import fault_children
from fault_children import Child
from fault_commands import PATIENCE


@dataclass(frozen=True, slots=True)
class Kills:
    """What killing sweeps again and again came to.

    Attributes:
        kills: how often one was killed.
        finished: how many came to their end, each after some kills.
        resumed: how many groups went on from a state.
        seconds: wall time of all.
        faults: what must not happen: results that were committed and then were gone, written again or other
            than those of an uninterrupted sweep, ends otherwise than by the kill or with exit code 0, files
            left over.
    """

    kills: int
    finished: int
    resumed: int
    seconds: float
    faults: tuple[str, ...]


def kill_sweeps(kills: int, seed: int, scratch: Path, *, every_epoch: bool) -> Kills:
    """Kills ``facets sweep`` at random times, goes on until it is done, and starts over.

    Args:
        kills: how often.
        seed: of the times.
        scratch: for everything.
        every_epoch: keep a state after each epoch, whatever it costs, so that more kills fall into a write.
    """
    _import_training()
    draw = random.Random(f"sweeps {seed}")
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="sweeps-", dir=scratch))
    fault_children.run(partial(fabricated_experiment.write_stores, folder / "stores"), timeout=PATIENCE)
    reference, seconds = _uninterrupted(folder)
    faults: list[str] = []
    done = finished = resumed = 0
    while done < kills:
        work = _fresh(folder)
        log = folder / "log"
        committed: dict[str, tuple[int, int]] = {}
        for attempt in itertools.count():
            last = done >= kills
            child = Child(partial(_sweep, folder, work, every_epoch), output=log)
            child.release()
            ended = child.wait(PATIENCE if last else draw.uniform(0, 1.1 * seconds))
            killed = ended.hung and not last
            done += killed
            resumed += log.read_text().count("going on after epoch")
            where = f"seed {seed}, kill {done}, attempt {attempt}"
            now = {
                str(path.relative_to(work)): (path.stat().st_ino, path.stat().st_mtime_ns)
                for path in work.glob("runs/*/result.json")
            }
            faults += [
                f"{where}: {name} was committed and is {'written again' if name in now else 'gone'}"
                for name, version in committed.items()
                if now.get(name) != version
            ]
            committed = now
            if not killed:
                finished += 1
                if ended.code != 0:
                    faults.append(f"{where}: ended otherwise: {ended} {log.read_text()}")
                faults += [f"{where}: {text}" for text in _differences(reference, prints(work))]
                break
        shutil.rmtree(work)
    return Kills(done, finished, resumed, time.monotonic() - start, tuple(faults))


def prints(work: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file in the folder of runs; of results without the time that they took."""
    found = {}
    for path in sorted(work.glob("runs/**/*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "result.json":
                result = json.loads(content)
                del result["seconds"]
                content = json.dumps(result, sort_keys=True).encode()
            found[str(path.relative_to(work))] = hashlib.sha256(content).hexdigest()
    return found


def _differences(reference: dict[str, str], found: dict[str, str]) -> list[str]:
    names = sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))
    return [f"{name} is {'other bytes' if name in reference else 'left over'}" for name in names]


def _uninterrupted(folder: Path) -> tuple[dict[str, str], float]:
    work, log = _fresh(folder), folder / "log"
    start = time.monotonic()
    ended = fault_children.run(lambda: _sweep(folder, work, every_epoch=False), timeout=PATIENCE, output=log)
    seconds = time.monotonic() - start
    if ended.code != 0:
        msg = f"the sweep fails without any fault: {ended} {log.read_text()}"
        raise RuntimeError(msg)
    found = prints(work)
    shutil.rmtree(work)
    return found, seconds


def _fresh(folder: Path) -> Path:
    # Always the same path, which is part of the configuration.
    work = folder / "work"
    shutil.copytree(folder / "stores", work)
    return work


def _sweep(folder: Path, work: Path, every_epoch: bool, board: fault_children.Board | None = None) -> None:
    import temporal.resume
    from pipeline.cli import main

    if every_epoch:
        temporal.resume.SHARE = float("inf")
    config = fabricated_experiment.write_config(folder, work)
    main(["sweep", "-c", str(config), "--work", str(work)])


def _import_training() -> None:
    # What the command imports when it runs takes seconds, which every child would spend again.
    for name in (
        "pipeline.sweep",
        "pipeline.training",
        "pipeline.progress",
        "temporal.training",
    ):
        importlib.import_module(name)
    os.environ["OMP_NUM_THREADS"] = "1"
