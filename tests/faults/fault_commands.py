"""Runs the real command line in children of a process that has imported it, and kills it at random times.

Not a test of what the commands do.
"""

import importlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import fault_children
import fault_kills
from fault_disk import MIB, claim_space, enlarge_disk, enter_small_disk
from fault_kills import PATIENCE, Kills, Version, Victim, version
from fault_subjects import arrays_of, make_clips, spec_of
from fault_workloads import fingerprint

import stores

Command = Callable[[Path], list[str]]  # work directory -> arguments

RENDER = {
    "train_people": 1,
    "validation_people": 1,
    "test_people": 1,
    "clips_per_person": 1,
    "min_frames": 30,
    "max_frames": 30,
}


@dataclass(frozen=True, slots=True)
class FullDisk:
    """How a command ended on a disk without room, and after room was made.

    Attributes:
        code: its exit code.
        signal: the signal that ended it, if one did.
        output: all that it printed.
        damage: what verification found then.
        code_with_room: exit code of the same command after room was made.
        same: whether the stores are then those of an uninterrupted run.
    """

    code: int | None
    signal: int | None
    output: str
    damage: tuple[str, ...]
    code_with_room: int | None
    same: bool


def draw_corpus(folder: Path) -> Path:
    """Draws an embedded corpus of three clips and some eighty crops."""
    from extract.corpora.rendered import RenderSettings, render

    render(folder, RenderSettings(**RENDER), workers=1)
    return folder


def features_command(corpus: Path, backend: str, work: Path) -> list[str]:
    settings = {
        "corpus.root": str(corpus),
        "streams.face.backend": backend,
        "streams.face.device": "cpu",
        "streams.face.batch_size": "8",
        "streams.face.image_size": "64",
    }
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return ["features", "-c", "smoke", "--work", str(work), *chosen]


def kill_features(corpus: Path, backend: str, kills: int, seed: int, scratch: Path) -> Kills:
    """Kills ``facets features`` at random times, goes on until it is done, and starts over."""
    _import_extraction()
    return _kill(lambda work: features_command(corpus, backend, work), kills, seed, scratch)


def kill_convert(backend: str, kills: int, seed: int, scratch: Path) -> Kills:
    """Kills ``facets convert`` into ``backend`` at random times until it is done, and starts over."""
    source = str(_convertible(backend, scratch))
    return _kill(
        lambda work: ["convert", source, str(work / "copy"), "--backend", backend], kills, seed, scratch
    )


def features_on_full_disk(
    corpus: Path, backend: str, scratch: Path, *, size: int, preflight: bool
) -> FullDisk:
    """Runs ``facets features`` with a disk of ``size`` bytes for its work directory."""
    _import_extraction()
    return _on_full_disk(lambda work: features_command(corpus, backend, work), scratch, size, preflight)


def convert_on_full_disk(backend: str, scratch: Path, *, size: int, preflight: bool) -> FullDisk:
    """Runs ``facets convert`` onto a disk of ``size`` bytes."""
    source = str(_convertible(backend, scratch))
    return _on_full_disk(
        lambda work: ["convert", source, str(work / "copy"), "--backend", backend], scratch, size, preflight
    )


def _kill(command: Command, kills: int, seed: int, scratch: Path) -> Kills:
    return fault_kills.kill(_victim(command, scratch), _reference(command, scratch), kills, seed, scratch)


def _victim(command: Command, scratch: Path) -> Victim:
    return Victim(
        name=command(Path("work"))[0],
        fresh=lambda: Path(tempfile.mkdtemp(prefix="work-", dir=scratch)),
        run=lambda work: _main(command(work)),
        look=_look,
        prints=_prints,
    )


def _on_full_disk(command: Command, scratch: Path, size: int, preflight: bool) -> FullDisk:
    reference, _ = _reference(command, scratch)
    work = Path(tempfile.mkdtemp(prefix="disk-", dir=scratch))
    log = scratch / f"log-{os.getpid()}"

    def fill() -> tuple[object, ...]:
        enter_small_disk(work, size)

        def full() -> None:
            if not preflight:
                claim_space()
            _main(command(work))

        first = fault_children.run(full, timeout=PATIENCE, output=log)
        output = log.read_text()
        looked = fault_children.run(partial(_look, work))
        damage = looked.answer[0] if isinstance(looked.answer, tuple) else (str(looked),)
        enlarge_disk(work, 64 * MIB)
        second = fault_children.run(partial(_main, command(work)), timeout=PATIENCE, output=log)
        return first.code, first.signal, output, tuple(damage), second.code, _prints(work) == reference

    ended = fault_children.run(fill, timeout=3 * PATIENCE)
    if not isinstance(ended.answer, tuple):
        msg = f"on a small disk: {ended}"
        raise RuntimeError(msg)
    return FullDisk(*ended.answer)


def _reference(command: Command, scratch: Path) -> tuple[Mapping[str, object], float]:
    key = tuple(command(Path("work")))
    if key not in _references:
        _references[key] = fault_kills.uninterrupted(_victim(command, scratch), scratch)
    return _references[key]


_references: dict[tuple[str, ...], tuple[Mapping[str, object], float]] = {}


def _main(arguments: Sequence[str]) -> None:
    from pipeline.cli import main

    main(arguments)


def _stores(work: Path) -> list[Path]:
    return sorted(path.parent for path in work.rglob("store.json"))


def _prints(work: Path) -> dict[str, object]:
    ended = fault_children.run(
        lambda: {str(path.relative_to(work)): fingerprint(path) for path in _stores(work)}, timeout=PATIENCE
    )
    return ended.answer


def _look(work: Path) -> tuple[list[str], dict[tuple[str, str], Version]]:
    """Returns what verification says is damaged, and the version of every commit record."""
    damage, committed = [], {}
    for path in _stores(work):
        report = stores.verify(path)
        damage += [f"{path.name}: {finding}" for finding in (*report.damaged, *report.missing)]
        store = stores.open(path)
        for clip in store.clips():
            committed[path.name, clip] = version(store.record_path(clip))
    return damage, committed


@cache
def _convertible(backend: str, scratch: Path) -> Path:
    clips = make_clips({f"clip{number:02}": 12 + number for number in range(30)}, dim=1024, seed=8)
    path = Path(tempfile.mkdtemp(prefix="source-", dir=scratch)) / "store"

    def write() -> None:
        store = stores.create(path, spec_of(clips), "zarr" if backend == "hdf5" else "hdf5")
        for clip, features in clips.items():
            store.write(clip, arrays_of(features))

    fault_children.run(write, timeout=PATIENCE)
    return path


@cache
def _import_extraction() -> None:
    # What the command imports when it runs takes seconds, which every child would spend again.
    for name in (
        "extract.corpora",
        "extract.engine",
        "h5py",
        "extract.labels",
        "pipeline.stage1.make",
        "pipeline.bars",
    ):
        importlib.import_module(name)
    registry = importlib.import_module("extract.backbones.registry")
    registry.load("narrow_resnet50", "rendered", 64)
