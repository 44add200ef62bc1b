"""The answers of ``facets info`` and ``facets verify``, as lines for people and as JSON for machines."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import stores
from pipeline.config import Config
from pipeline.ledger import Status, status
from pipeline.plan import read_plan
from pipeline.workdir import WorkDir
from stores import Description, Finding, Verification
from stores.documents import Json
from stores.errors import FacetsError, StoreError
from stores.progress import Progress, silent
from stores.verification import Depth

if TYPE_CHECKING:
    from stores.statistics import Moments

INFO_SCHEMA, VERIFY_SCHEMA = "facets-info-1", "facets-verify-1"
INDENT = "  "
LISTED_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The description of one store.

    Attributes:
        description: counts, and the damage that a quick verification found.
        moments: of the values of its valid frames, if they were asked for.
    """

    description: Description
    moments: "Moments | None" = None


@dataclass(frozen=True, slots=True)
class WorkInfo:
    """The description of a work directory.

    Attributes:
        name: of the experiment.
        place: its paths.
        features: stream -> its feature store, if it is there.
        labels: the label store, if it is there.
        runs: status to number of planned runs, or why there is no plan yet.
        tables: names of the tables that were written.
    """

    name: str
    place: WorkDir
    features: dict[str, StoreInfo | None]
    labels: StoreInfo | None
    runs: dict[str, int] | str
    tables: tuple[str, ...]

    @property
    def stores(self) -> list[StoreInfo]:
        """The stores that are there."""
        return [store for store in (*self.features.values(), self.labels) if store]


def describe_store(path: Path, *, statistics: bool = False) -> StoreInfo:
    """Describes the store at ``path``.

    Raises:
        StoreError: there is no store, or ``statistics`` are asked for and it holds labels, or damaged values.
    """
    description = stores.describe(path)
    if not statistics:
        return StoreInfo(description)
    if description.spec.kind != "features":
        msg = f"{path} holds {description.spec.kind}: there are statistics of feature stores only"
        raise StoreError(msg)
    from stores.statistics import moments

    store = stores.open(path)
    left_out = {finding.name for finding in (*description.damaged, *description.missing)}
    return StoreInfo(description, moments(store, [clip for clip in store.clips() if clip not in left_out]))


def describe_work(config: Config, place: WorkDir, *, statistics: bool = False) -> WorkInfo:
    """Describes a work directory: its corpus, stores, runs and table, as far as they are there.

    Raises:
        StoreError: a store is there and cannot be opened, or as ``describe_store``.
    """
    features = {name: _store_at(path, statistics=statistics) for name, path in place.streams.items()}
    labels = _store_at(place.labels)
    tables = tuple(sorted(path.name for path in place.table.glob("table*")))
    return WorkInfo(config.name, place, features, labels, count_runs(config, place), tables)


def _store_at(path: Path, *, statistics: bool = False) -> StoreInfo | None:
    return describe_store(path, statistics=statistics) if (path / "store.json").exists() else None


def count_runs(config: Config, place: WorkDir) -> dict[str, int] | str:
    """Returns how many runs are planned and how far they are, or why that is not known."""
    try:
        runs = read_plan(place.plan, config).runs
    except FacetsError as error:  # not planned yet, or with other settings: the reader wants to know
        return str(error)
    found = Counter(status(place.runs / run.run_id, run.bracket) for run in runs)
    return {"planned": found.total(), **{name: found[name] for name in get_args(Status)}}


def verify_stores(
    paths: Sequence[Path], progress: Progress = silent, *, depth: Depth = "full", repair: bool = False
) -> list[Verification]:
    """Verifies the stores at ``paths``, as ``stores.verify`` does.

    Raises:
        StoreError: there is no store, or something could not be removed.
    """
    return [stores.verify(path, depth=depth, repair=repair, progress=progress) for path in paths]


def info_text(info: StoreInfo | WorkInfo) -> str:
    """Returns a description as lines for people."""
    return "\n".join(_work_lines(info) if isinstance(info, WorkInfo) else _store_lines(info))


def info_json(info: StoreInfo | WorkInfo) -> str:
    """Returns a description as one JSON document, described in ``docs/RECIPES.md``."""
    work: Json = None
    listed = [info] if isinstance(info, StoreInfo) else info.stores
    if isinstance(info, WorkInfo):
        known = isinstance(info.runs, dict)
        work = {
            "name": info.name,
            "corpus": str(info.place.corpus),
            "features": {name: str(path) for name, path in info.place.streams.items()},
            "labels": str(info.place.labels),
            "runs": info.runs if known else None,
            "runs_unknown": None if known else str(info.runs),
            "tables": info.tables,
        }
    return _document({"schema": INFO_SCHEMA, "experiment": work, "stores": [_store_json(s) for s in listed]})


def verify_lines(result: Verification, depth: Depth) -> list[str]:
    """Returns the result of a verification and of a repair, as lines for people."""
    problems = len(problem_lines(result))
    summary = f"{result.path}: {_count(result.clips, 'clip')}, {depth}: "
    summary += _count(problems, "problem") if problems else "no problem found"
    return [summary, *(f"{result.path}: removed {name}" for name in result.removed)]


def problem_lines(result: Verification) -> list[str]:
    """Returns one line per thing that is not as it must be."""
    return [f"{result.path}: {text}" for text in _problems(result)]


def verify_json(results: Sequence[Verification], depth: Depth) -> str:
    """Returns verifications as one JSON document, described in ``docs/RECIPES.md``."""
    found: list[Json] = [
        {
            "path": str(result.path),
            "ok": result.ok,
            "clips": result.clips,
            **_problems_json(result),
            "removed": result.removed,
        }
        for result in results
    ]
    passed = all(result.ok for result in results)
    return _document({"schema": VERIFY_SCHEMA, "depth": depth, "ok": passed, "stores": found})


def plain(value: object) -> str:
    """Returns a value of a specification without brackets and quotes."""
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _work_lines(work: WorkInfo) -> list[str]:
    place = work.place
    rows = [("corpus", f"{place.corpus}" + ("" if place.corpus.is_dir() else ": not there yet"))]
    for name, path, info in (
        *(("features", path, work.features[name]) for name, path in place.streams.items()),
        ("labels", place.labels, work.labels),
    ):
        rows.append((name, f"{path}: {_summary(info.description) if info else 'not there yet'}"))
        rows += [("", text) for text in (_problems(info.description) if info else [])]
    if isinstance(work.runs, dict):
        counts = ", ".join(f"{count} {name}" for name, count in work.runs.items())
        rows.append(("runs", f"{place.runs}: {counts}"))
    else:
        rows.append(("runs", f"{place.runs}: {work.runs}"))
    rows.append(("table", ", ".join(work.tables) or "not there yet: run facets table"))
    lines = [f"experiment {work.name} in {place.table}", *_aligned(rows, width=9)]
    for info in work.stores:
        lines += _moment_lines(info)
    return lines


def _store_lines(info: StoreInfo) -> list[str]:
    found = info.description
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.known_share.items())
    rows = [
        ("holds", _summary(found)),
        ("known", shares),
        ("format", f"version {found.version}, {found.backend}"),
        ("content", found.content_sha256),
        ("sources", f"recorded for {found.sources} of {_count(found.clips, 'clip')}"),
    ]
    if found.splits:
        rows.append(("splits", ", ".join(f"{name} {clips}" for name, clips in sorted(found.splits.items()))))
    lines = [f"{found.spec.kind.removesuffix('s')} store {found.path}", *_aligned(rows)]
    lines += ["specification", *_aligned([(k, plain(v)) for k, v in found.spec.to_json().items()])]
    lines += _moment_lines(info)
    if problems := _problems(found):
        lines += ["problems (facets verify tells more, facets verify --repair removes damaged clips)"]
        lines += [INDENT + text for text in problems]
    return lines


def _moment_lines(info: StoreInfo) -> list[str]:
    moments = info.moments
    if moments is None:
        return []
    dead = moments.dead
    names = ", ".join(map(str, dead[:LISTED_DIMENSIONS])) + (", ..." if len(dead) > LISTED_DIMENSIONS else "")
    rows = [
        ("values", f"{moments.minimum.min():.4g} to {moments.maximum.max():.4g}"),
        ("means", f"{moments.mean.min():.4g} to {moments.mean.max():.4g}"),
        ("deviations", f"{moments.std.min():.4g} to {moments.std.max():.4g}"),
        ("zeros", f"{moments.zero_share:.1%} of all values"),
        (
            "dead",
            f"{len(dead)} of {_count(len(moments.mean), 'dimension')}" + (f": {names}" if names else ""),
        ),
    ]
    return [f"statistics of {_count(moments.frames, 'valid frame')}", *_aligned(rows)]


def _summary(found: Description) -> str:
    parts = [_count(found.clips, "clip"), _count(found.frames, "frame"), f"{found.bytes / 1e6:,.1f} MB"]
    wrong = (("damaged", found.damaged), ("missing", found.missing), ("foreign", found.foreign))
    return ", ".join([*parts, *(f"{len(findings)} {name}" for name, findings in wrong if findings)])


def _problems(found: Description | Verification) -> list[str]:
    kinds = (
        ("damaged clip", found.damaged),
        ("clip without data", found.missing),
        ("foreign file", found.foreign),
    )
    return [
        " ".join(f"{kind} {finding.name}: {finding.reason}".split())
        for kind, findings in kinds
        for finding in findings
    ]


def _store_json(info: StoreInfo) -> Json:
    found, moments = info.description, info.moments
    shares = found.known_share
    statistics: Json = None
    if moments is not None:
        statistics = {
            "frames": moments.frames,
            "minimum": float(moments.minimum.min()),
            "maximum": float(moments.maximum.max()),
            "mean": [float(moments.mean.min()), float(moments.mean.max())],
            "std": [float(moments.std.min()), float(moments.std.max())],
            "zero_share": moments.zero_share,
            "dead_dimensions": moments.dead.tolist(),
        }
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
        **_problems_json(found),
        "statistics": statistics,
    }


def _problems_json(found: Description | Verification) -> dict[str, Json]:
    def listed(findings: Iterable[Finding]) -> Json:
        return [{"name": finding.name, "reason": finding.reason} for finding in findings]

    return {
        "damaged": listed(found.damaged),
        "missing": listed(found.missing),
        "foreign": listed(found.foreign),
    }


def _document(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def _aligned(rows: Sequence[tuple[str, str]], width: int | None = None) -> list[str]:
    # A work directory is one table, flush left; the parts of a store are indented under their headings.
    if width is not None:
        return [f"{name:<{width}} {text}" for name, text in rows]
    longest = max(len(name) for name, _ in rows)
    return [f"{INDENT}{name:<{longest}}  {text}" for name, text in rows]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
