"""What is interrupted: writing, resuming, rewriting, converting and repairing a few small clips.

Not how it is interrupted, which is ``fault_injection``: a workload is a state on disk and work to do on it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import fault_children
import numpy as np
from fault_subjects import Done, Ours, Subject, arrays_of, make_clips

import stores

FRAMES = {"c0": 20, "c1": 25, "c2": 30, "c3": 35, "c4": 40, "c5": 45}
NEW = make_clips(FRAMES, dim=32, seed=1)
OLD = make_clips({**FRAMES, "c0": 21, "c4": 7}, dim=32, seed=2)
STORE = "store"


@dataclass(frozen=True, slots=True)
class Workload:
    """Work on ``<folder>/store`` that may be interrupted and started again.

    Attributes:
        prepare: makes the state that it starts from.
        run: the work, after which every clip is as in ``NEW``.
        before: clip to the states it may have until its work is done: ``new``, ``old``, ``absent``,
            ``unreadable``.
    """

    prepare: Callable[[Subject, Path], None]
    run: Callable[[Subject, Path, Done], None]
    before: Mapping[str, frozenset[str]]


def state(subject: Subject, store: Path, clip: str) -> str:
    """Returns ``new``, ``old``, ``absent``, ``unreadable: <why>`` or ``wrong``; other errors pass."""
    try:
        features = subject.read(store, clip)
    except subject.refusals as error:
        return f"unreadable: {type(error).__name__}: {error}"
    if features is None:
        return "absent"
    for name, clips in (("new", NEW), ("old", OLD)):
        if same(features, clips[clip]):
            return name
    return "wrong"


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def fingerprint(store: Path) -> dict[str, str] | None:
    """Returns clip -> digest of its record's promises and of the bytes of its files; None for a peer's."""
    if not (store / "store.json").exists():
        return None
    opened = stores.open(store)
    prints = {}
    for clip in opened.clips():
        record = opened.record(clip)
        promises = (record.frames, record.arrays, record.attrs, record.source_digest, record.data_bytes)
        digest = hashlib.sha256(repr(promises).encode())
        data = opened.data_path(clip)
        for file in sorted(data.rglob("*")) if data.is_dir() else [data]:
            digest.update(f"{file.relative_to(data)}\n".encode())
            digest.update(b"" if file.is_dir() else file.read_bytes())
        prints[clip] = digest.hexdigest()
    return prints


def silent(clip: str) -> None:
    """Is told of finished clips, and does not care."""


def _nothing(subject: Subject, folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def _write(subject: Subject, folder: Path, done: Done) -> None:
    subject.write(folder / STORE, NEW, done)


def _half(subject: Subject, folder: Path) -> None:
    subject.write(folder / STORE, {clip: NEW[clip] for clip in ("c0", "c1", "c2")}, silent)
    if isinstance(subject, Ours):
        _leave_temporaries(folder / STORE, "c3")


def _leave_temporaries(store: Path, clip: str) -> None:
    """Has a writer killed when its data and its record are complete under their temporary names."""

    def write_and_die() -> None:
        opened = stores.open(store)
        fault_children.die_at("replace", "rename")
        opened.write(clip, arrays_of(NEW[clip]))

    ended = fault_children.run(write_and_die)
    if ended.signal is None:
        msg = f"a writer that was to be killed ended otherwise: {ended}"
        raise RuntimeError(msg)


def _old(subject: Subject, folder: Path) -> None:
    subject.write(folder / STORE, OLD, silent)


def _rewrite(subject: Subject, folder: Path, done: Done) -> None:
    subject.write(folder / STORE, NEW, done, replace=True)


def _source(subject: Ours, folder: Path) -> None:
    # The other backend is the source, so that the subject is what is written.
    other = Ours("zarr" if subject.backend == "hdf5" else "hdf5")
    other.write(folder / "source", NEW, silent)


def _convert(subject: Ours, folder: Path, done: Done) -> None:
    def progress(step: str, total: int, completed: int) -> None:
        if step == "convert" and completed:
            done(sorted(NEW)[completed - 1])

    stores.convert(folder / "source", folder / STORE, subject.backend, progress=progress)


def _damaged(subject: Ours, folder: Path) -> None:
    subject.write(folder / STORE, NEW, silent)
    store = stores.open(folder / STORE)
    for path in _files(store.data_path("c1")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    store.record_path("c2").unlink()
    store.record_path("c3").write_bytes(store.record_path("c3").read_bytes()[:-9])
    _files(store.data_path("c4"))[0].unlink()
    _leave_temporaries(folder / STORE, "c5")


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _repair(subject: Ours, folder: Path, done: Done) -> None:
    stores.verify(folder / STORE, repair=True)
    subject.write(folder / STORE, NEW, done)


def _all(*states: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(NEW, frozenset(states))


WORKLOADS: dict[str, Workload] = {
    "new": Workload(_nothing, _write, _all("absent", "new")),
    "resume": Workload(
        _half, _write, _all("absent", "new") | dict.fromkeys(("c0", "c1", "c2"), frozenset({"new"}))
    ),
    "rewrite": Workload(_old, _rewrite, _all("old", "new")),
    "convert": Workload(_source, _convert, _all("absent", "new")),
    "repair": Workload(
        _damaged,
        _repair,
        _all("absent", "unreadable", "new") | dict.fromkeys(("c0", "c5"), frozenset({"new"})),
    ),
}
PEER_WORKLOADS = ("new", "resume", "rewrite")
