"""The answers of ``facets info`` and ``facets verify``: JSON documents, and lines for people made of them.

``docs/RECIPES.md`` describes the documents.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

import stores
from pipeline.config import Config
from pipeline.ledger import Status, status
from pipeline.plan import read_plan
from pipeline.workdir import WorkDir
from stores import Description, Verification
from stores.errors import FacetsError, StoreError
from stores.progress import Progress, silent
from stores.verification import Depth

Document: TypeAlias = dict[str, Any]

INFO_SCHEMA, VERIFY_SCHEMA = "facets-info-1", "facets-verify-1"
PROBLEMS = {"damaged": "damaged clip", "missing": "clip without data", "foreign": "foreign file"}
"""Kind of problem in a document -> what a line for people calls it."""
INDENT = "  "
LISTED_DIMENSIONS = 8


def describe(
    paths: Sequence[Path], experiment: Document | None = None, *, statistics: bool = False
) -> Document:
    """Returns the description of the stores at ``paths``.

    Args:
        paths: of the stores.
        experiment: the description of their experiment, if they are of one.
        statistics: whether to read all values of feature stores.

    Raises:
        StoreError: there is no store, or ``statistics`` are asked for and it holds labels, or damaged values.
    """
    found = [describe_store(path, statistics=statistics) for path in paths]
    return {"schema": INFO_SCHEMA, "experiment": experiment, "stores": found}


def describe_store(path: Path, *, statistics: bool = False) -> Document:
    """Returns the description of one store, as ``describe``."""
    found = stores.describe(path)
    shares = found.known_share
    return {
        "path": str(found.path),
        "kind": found.spec.kind,
        "backend": found.backend,
        "format_version": found.version,
        "clips": found.clips,
        "frames": found.frames,
        "bytes": found.bytes,
        "known": {name: {"frames": count, "share": shares[name]} for name, count in found.known.items()},
        "splits": found.splits,
        "sources": found.sources,
        "content_sha256": found.content_sha256,
        "spec": found.spec.to_json(),
        "spec_sha256": found.spec.digest(),
        **_problems(found),
        "statistics": _statistics(found) if statistics else None,
    }


def _statistics(found: Description) -> Document:
    if found.spec.kind != "features":
        msg = f"{found.path} holds {found.spec.kind}: there are statistics of feature stores only"
        raise StoreError(msg)
    from stores.statistics import moments

    store = stores.open(found.path)
    left_out = {finding.name for finding in (*found.damaged, *found.missing)}
    values = moments(store, [clip for clip in store.clips() if clip not in left_out])
    return {
        "frames": values.frames,
        "minimum": float(values.minimum.min()),
        "maximum": float(values.maximum.max()),
        "mean": [float(values.mean.min()), float(values.mean.max())],
        "std": [float(values.std.min()), float(values.std.max())],
        "zero_share": values.zero_share,
        "dead_dimensions": values.dead.tolist(),
    }


def describe_work(config: Config, place: WorkDir, *, statistics: bool = False) -> Document:
    """Returns the description of a work directory: corpus, stores, runs and table, as far as they are there.

    Raises:
        StoreError: a store is there and cannot be opened, or as ``describe``.
    """
    runs = count_runs(config, place)
    known = isinstance(runs, dict)
    experiment = {
        "name": config.name,
        "corpus": str(place.corpus),
        "features": {name: str(path) for name, path in place.streams.items()},
        "labels": str(place.labels),
        "runs": runs if known else None,
        "runs_unknown": None if known else runs,
        "tables": sorted(path.name for path in place.table.glob("table*")),
    }
    there = [path for path in place.streams.values() if (path / "store.json").exists()]
    found = describe(there, experiment, statistics=statistics)
    if (place.labels / "store.json").exists():
        found["stores"].append(describe_store(place.labels))
    return found


def count_runs(config: Config, place: WorkDir) -> dict[str, int] | str:
    """Returns how many runs are planned and how far they are, or why that is not known."""
    try:
        runs = read_plan(place.plan, config).runs
    except FacetsError as error:  # not planned yet, or with other settings: the reader wants to know
        return str(error)
    found = Counter(status(place.runs / run.run_id, run.bracket) for run in runs)
    return {"planned": found.total(), **{name: found[name] for name in get_args(Status)}}


def verification(
    paths: Sequence[Path], depth: Depth, *, repair: bool = False, progress: Progress = silent
) -> Document:
    """Verifies the stores at ``paths``, as ``stores.verify`` does, and returns the results.

    Raises:
        StoreError: there is no store, or something could not be removed.
    """
    results = [stores.verify(path, depth=depth, repair=repair, progress=progress) for path in paths]
    found = [
        {
            "path": str(result.path),
            "ok": result.ok,
            "clips": result.clips,
            **_problems(result),
            "removed": result.removed,
        }
        for result in results
    ]
    passed = all(result.ok for result in results)
    return {"schema": VERIFY_SCHEMA, "depth": depth, "ok": passed, "stores": found}


def as_text(document: Document) -> str:
    """Returns a document as JSON text."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def verify_lines(store: Document, depth: Depth) -> list[str]:
    """Returns the result of a verification and of a repair, as lines for people."""
    found = len(problems(store))
    summary = f"{store['path']}: {_count(store['clips'], 'clip')}, {depth}: "
    summary += _count(found, "problem") if found else "no problem found"
    return [summary, *(f"{store['path']}: removed {name}" for name in store["removed"])]


def problems(store: Document) -> list[str]:
    """Returns one line per thing in a described or verified store that is not as it must be."""
    return [
        " ".join(f"{called} {one['name']}: {one['reason']}".split())
        for kind, called in PROBLEMS.items()
        for one in store[kind]
    ]


def plain(value: object) -> str:
    """Returns a value of a specification without brackets and quotes."""
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def work_lines(found: Document, place: WorkDir) -> list[str]:
    """Returns the description of a work directory as lines for people."""
    work, there = found["experiment"], {store["path"]: store for store in found["stores"]}
    rows = [("corpus", f"{place.corpus}" + ("" if place.corpus.is_dir() else ": not there yet"))]
    for name, path in (
        *(("features", path) for path in work["features"].values()),
        ("labels", work["labels"]),
    ):
        store = there.get(path)
        rows.append((name, f"{path}: {_summary(store) if store else 'not there yet'}"))
        rows += [("", text) for text in (problems(store) if store else [])]
    counts = ", ".join(f"{count} {name}" for name, count in (work["runs"] or {}).items())
    rows.append(("runs", f"{place.runs}: {counts or work['runs_unknown']}"))
    rows.append(("table", ", ".join(work["tables"]) or "not there yet: run facets table"))
    lines = [f"experiment {work['name']} in {place.table}", *(f"{name:<9} {text}" for name, text in rows)]
    for store in found["stores"]:
        lines += _statistics_lines(store)
    return lines


def store_lines(store: Document) -> list[str]:
    """Returns the description of a store as lines for people."""
    rows = {
        "holds": _summary(store),
        "known": ", ".join(f"{name} {known['share']:.1%}" for name, known in store["known"].items()),
        "format": f"version {store['format_version']}, {store['backend']}",
        "content": store["content_sha256"],
        "sources": f"recorded for {store['sources']} of {_count(store['clips'], 'clip')}",
    }
    if store["splits"]:
        rows["splits"] = ", ".join(f"{name} {clips}" for name, clips in sorted(store["splits"].items()))
    lines = [f"{store['kind'].removesuffix('s')} store {store['path']}", *_aligned(rows)]
    lines += ["specification", *_aligned({key: plain(value) for key, value in store["spec"].items()})]
    lines += _statistics_lines(store)
    if wrong := problems(store):
        lines += ["problems (facets verify tells more, facets verify --repair removes damaged clips)"]
        lines += [INDENT + text for text in wrong]
    return lines


def _statistics_lines(store: Document) -> list[str]:
    values = store["statistics"]
    if values is None:
        return []
    dead = values["dead_dimensions"]
    names = ", ".join(map(str, dead[:LISTED_DIMENSIONS])) + (", ..." if len(dead) > LISTED_DIMENSIONS else "")
    rows = {
        "values": f"{values['minimum']:.4g} to {values['maximum']:.4g}",
        "means": "{:.4g} to {:.4g}".format(*values["mean"]),
        "deviations": "{:.4g} to {:.4g}".format(*values["std"]),
        "zeros": f"{values['zero_share']:.1%} of all values",
        "dead": f"{len(dead)} of {_count(store['spec']['dim'], 'dimension')}"
        + (f": {names}" if names else ""),
    }
    return [f"statistics of {_count(values['frames'], 'valid frame')}", *_aligned(rows)]


def _summary(store: Document) -> str:
    parts = [
        _count(store["clips"], "clip"),
        _count(store["frames"], "frame"),
        f"{store['bytes'] / 1e6:,.1f} MB",
    ]
    return ", ".join([*parts, *(f"{len(store[kind])} {kind}" for kind in PROBLEMS if store[kind])])


def _problems(found: Description | Verification) -> Document:
    return {
        kind: [{"name": one.name, "reason": one.reason} for one in getattr(found, kind)] for kind in PROBLEMS
    }


def _aligned(rows: Mapping[str, str]) -> list[str]:
    longest = max(map(len, rows))
    return [f"{INDENT}{name:<{longest}}  {text}" for name, text in rows.items()]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
