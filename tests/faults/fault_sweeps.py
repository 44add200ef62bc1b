"""Runs ``facets sweep`` in children of a process that has imported it, and kills it at random times.

Not a test of what a sweep computes.
"""

import hashlib
import importlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import fabricated_experiment
import fault_children
import fault_kills
from fault_kills import PATIENCE, Kills, Version, Victim, version


def kill_sweeps(kills: int, seed: int, scratch: Path, *, every_epoch: bool) -> Kills:
    """Kills ``facets sweep`` at random times, goes on until it is done, and starts over.

    Args:
        kills: how often.
        seed: of the times.
        scratch: for everything.
        every_epoch: keep a state after each epoch, whatever it costs, so that more kills fall into a write.
    """
    _import_training()
    folder = Path(tempfile.mkdtemp(prefix="sweeps-", dir=scratch))
    fault_children.run(partial(fabricated_experiment.write_stores, folder / "stores"), timeout=PATIENCE)
    plain = Victim("sweep", partial(_fresh, folder), partial(_sweep, folder), _look, prints)
    reference = fault_kills.uninterrupted(plain, scratch)
    victim = replace(plain, run=partial(_sweep, folder, every_epoch=every_epoch))
    return fault_kills.kill(victim, reference, kills, seed, scratch)


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


def _look(work: Path) -> tuple[list[str], dict[str, Version]]:
    return [], {str(path.relative_to(work)): version(path) for path in work.glob("runs/*/result.json")}


def _fresh(folder: Path) -> Path:
    # Always the same path, which is part of the configuration.
    work = folder / "work"
    shutil.copytree(folder / "stores", work)
    return work


def _sweep(folder: Path, work: Path, *, every_epoch: bool = False) -> None:
    import temporal.train.resume
    from pipeline.cli import main

    if every_epoch:
        temporal.train.resume.SHARE = float("inf")
    config = fabricated_experiment.write_config(folder, work)
    main(["sweep", "-c", str(config), "--work", str(work)])


def _import_training() -> None:
    # What the command imports when it runs takes seconds, which every child would spend again.
    for name in (
        "pipeline.stage2.driver",
        "pipeline.stage2.trainer",
        "pipeline.bars",
        "temporal.train.fit",
    ):
        importlib.import_module(name)
    os.environ["OMP_NUM_THREADS"] = "1"
