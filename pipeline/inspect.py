"""What ``facets info`` and ``facets verify`` say of stores and work directories.

Not a check of its own: counts come from ``stores.describe``, damage from ``stores.verify``.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import stores
from pipeline.config import Config
from pipeline.data import open_data
from pipeline.plan import plan
from pipeline.runs import status
from pipeline.workdir import WorkDir
from stores.errors import StoreError
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)


def describe_store(path: Path) -> str:
    """Returns a few lines on the store at ``path``: kind, clips, frames, size, specification.

    Raises:
        StoreError: there is no store, or a clip is damaged.
    """
    found = stores.describe(path)
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.known_share.items())
    lines = [
        f"{found.spec.kind} store {found.path} ({found.backend}, format version {found.version})",
        f"{found.clips} clips, {found.frames:,} frames, {found.bytes / 1e6:.1f} MB; known: {shares}",
    ]
    if found.splits:
        lines.append("splits: " + ", ".join(f"{name} {clips} clips" for name, clips in found.splits.items()))
    width = max(map(len, found.spec.to_json()))
    lines += [f"  {key:<{width}}  {plain(value)}" for key, value in found.spec.to_json().items()]
    return "\n".join(lines)


def plain(value: object) -> str:
    """Returns a value of a specification without brackets and quotes."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def describe_work(config: Config, place: WorkDir) -> str:
    """Returns a few lines on a work directory: what is there of corpus, stores, runs and table."""
    lines = [f"experiment {config.name} in {place.table}"]
    lines.append(f"corpus    {place.corpus}" + ("" if place.corpus.is_dir() else ": not there yet"))
    for name, path in (("features", place.features), ("labels", place.labels)):
        if (path / "store.json").exists():
            found = stores.describe(path)
            text = f"{found.clips} clips, {found.frames:,} frames, {found.bytes / 1e6:.1f} MB"
        else:
            text = "not there yet: run facets features"
        lines.append(f"{name:<9} {path}: {text}")
    if (place.features / "store.json").exists() and (place.labels / "store.json").exists():
        lines.append(f"runs      {place.runs}: {count_runs(config, place)}")
    tables = sorted(path.name for path in place.table.glob("table*"))
    lines.append(f"table     {', '.join(tables) or 'not there yet: run facets table'}")
    return "\n".join(lines)


def count_runs(config: Config, place: WorkDir) -> str:
    """Returns how many runs are planned and how many of them are done, or why that is not known yet."""
    try:
        digests = open_data(place).digests
    except StoreError as error:  # such as features that were interrupted: just what a reader wants to be told
        return f"cannot be planned yet: {error}"
    runs = plan(config, digests)
    found = [status(place.runs / run.run_id) for run in runs]
    counts = ", ".join(f"{found.count(name)} {name}" for name in ("finished", "failed", "missing"))
    return f"{len(runs)} planned, {counts}"


def verify_stores(
    paths: Sequence[Path], progress: Progress = silent, *, repair: bool = False
) -> tuple[list[str], list[str]]:
    """Recomputes every digest of the stores at ``paths``.

    Returns:
        One line per problem, and one per thing that a repair removed.

    Raises:
        StoreError: there is no store, or something could not be removed.
    """
    problems, removed = [], []
    for path in paths:
        result = stores.verify(path, repair=repair, progress=progress)
        logger.info("%s: %d clips verified", path, result.clips)
        for kind, findings in (
            ("damaged clip", result.damaged),
            ("clip without data", result.missing),
            ("foreign file", result.foreign),
        ):
            problems += [f"{path}: {kind} {finding.name}: {finding.reason}" for finding in findings]
        removed += [f"{path}: removed {name}" for name in result.removed]
    return problems, removed
