"""Runs a workload once per system call that changes a disk, and kills or fails it there, by strace.

Not a judge of why: it says what a reader finds after each fault, and again after the work was run once more.
"""

import functools
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import fault_children
from fault_children import Board, Child, Ended, Raised
from fault_subjects import OURS, SUBJECTS
from fault_workloads import NEW, STORE, WORKLOADS, fingerprint, silent, state

import stores

SYSCALLS = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "truncate", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir"),
)
# Unknown to some architectures, which the question mark allows.
TRACE = "trace=" + ",".join(f"?{name}" for name in SYSCALLS)
TIMEOUT = 30
CLIPS = sorted(NEW)

KILL = "signal=SIGKILL"
ERRORS = ("error=ENOSPC", "error=EIO", "error=EINTR")


@dataclass(frozen=True, slots=True)
class Point:
    """One fault: ``action`` at the ``number``-th (from 1) call of ``syscall`` while a workload runs."""

    subject: str
    workload: str
    syscall: str
    number: int
    action: str

    def __str__(self) -> str:
        return f"{self.subject}, {self.workload}: {self.action} at {self.syscall} number {self.number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one point did; every number but ``points`` and ``errors`` counts what must never happen.

    Attributes:
        points: 1 if the fault was hit.
        errors: 1 if the work ended in an error that its subject may raise.
        crashes: 1 if the work, or the reading or resuming after it, ended by a signal or did not end.
        unclean: 1 if the work, or the resuming after it, ended in an error that its subject may not raise.
        unreadable_stores: 1 if something that was not damaged before cannot be read.
        wrong_clips: clips that a reader sees with other values than were ever written.
        lost_commits: clips that were committed and are no longer there, or not as they were.
        failed_resumes: 1 if the work, run again, does not end with every clip exact, and the files of our
            stores equal to those of an uninterrupted run.
        notes: what happened, one line each.
    """

    points: int = 0
    errors: int = 0
    crashes: int = 0
    unclean: int = 0
    unreadable_stores: int = 0
    wrong_clips: int = 0
    lost_commits: int = 0
    failed_resumes: int = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def faults(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self)[2:-1])


def refusal_of_strace() -> str | None:
    """Says why faults cannot be injected here; None if they can. Forks: for ``fault_children.workers``."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            ended = traced(lambda board: Path(folder, "x").mkdir(), Path(folder, "log"), f"?mkdir:{KILL}")
        except OSError as error:
            return f"strace cannot trace: {error}"
    return None if ended.signal else "strace does not inject signals"


def traced(work: Callable[[Board], object], log: Path, injection: str | None = None) -> Ended:
    """Runs ``work`` in a child under strace, which logs to ``log`` and injects ``injection``.

    Raises:
        OSError: strace could not attach.
    """
    child = Child(work)
    command = ["strace", "-f", "-o", str(log), "-p", str(child.pid), "-e", TRACE, "-e", "signal=none"]
    if injection is not None:
        command += ["-e", f"inject={injection}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        said = ""
        while "attached" not in said:
            line = strace.stderr.readline()
            if not line:
                child.release()
                child.wait(TIMEOUT)
                msg = f"strace could not attach: {said.strip()}"
                raise OSError(msg)
            said += line
        child.release()
        ended = child.wait(TIMEOUT)
        strace.stderr.read()
    return ended


def points(subject: str, workload: str, actions: Sequence[str], scratch: Path) -> list[Point]:
    """Returns a point per action and system call of an uninterrupted run.

    The action ``retval`` stands for a disk that says it has written all or half of a write, and has not.
    """
    found = []
    for syscall, number, size in _calls(subject, workload, scratch):
        for action in actions:
            if action != "retval":
                found.append(Point(subject, workload, syscall, number, action))
            elif "write" in syscall:
                lies = sorted({size, size // 2} - {0})
                found += [Point(subject, workload, syscall, number, f"retval={lie}") for lie in lies]
    return found


def try_point(point: Point, scratch: Path) -> Outcome:
    """Runs the workload with the fault, reads what is there, runs it again, and reads again."""
    subject, workload = SUBJECTS[point.subject], WORKLOADS[point.workload]
    folder = _copy(_base(point.subject, point.workload, scratch), scratch)
    log = scratch / f"log-{os.getpid()}"
    injection = f"{point.syscall}:{point.action}:when={point.number}"
    ended = traced(partial(_work, point.subject, point.workload, folder), log, injection)
    if not (ended.signal if point.action == KILL else "INJECTED" in log.read_text()):
        shutil.rmtree(folder)
        return Outcome()
    count: Counter[str] = Counter(points=1)
    notes = []

    def note(what: str, text: str, number: int = 1) -> None:
        count[what] += number
        notes.append(f"{point}: {what}: {text}")

    refused = isinstance(ended.answer, Raised) and ended.answer.is_a(*subject.refusals)
    if ended.hung or (ended.signal and point.action != KILL):
        note("crashes", f"the work ended by signal {ended.signal}, hung: {ended.hung}")
    elif refused:
        count["errors"] += 1
    elif isinstance(ended.answer, Raised) or ended.code:
        note("unclean", f"exit code {ended.code}, {_text(ended.answer)}")

    done = {CLIPS[number] for number in ended.marks}
    if ended.code == 0 and ended.answer is None:
        done = set(CLIPS)
    read = fault_children.run(partial(_states, point.subject, folder / STORE), timeout=TIMEOUT)
    if not isinstance(read.answer, dict):
        note("crashes", f"reading after the fault: signal {read.signal}, {_text(read.answer)}")
    else:
        for clip, found in read.answer.items():
            kind = found.split(":")[0]
            allowed = frozenset({"new"}) if clip in done else workload.before[clip]
            if kind in allowed:
                continue
            if kind == "unreadable":
                count["unreadable_stores"] = 0  # once per store
                note("unreadable_stores", f"{clip} {found}")
            if kind == "wrong":
                note("wrong_clips", f"{clip} has values that nobody wrote")
            if "absent" not in allowed:
                note("lost_commits", f"{clip} is {found}, expected {' or '.join(sorted(allowed))}")

    again = fault_children.run(partial(_resume, point.subject, point.workload, folder), timeout=TIMEOUT)
    if again.signal or again.hung:
        note("crashes", f"running again: signal {again.signal}")
        note("failed_resumes", "crashed")
    elif isinstance(again.answer, Raised):
        if not again.answer.is_a(*subject.refusals):
            note("unclean", f"running again: {_text(again.answer)}")
        note("failed_resumes", _text(again.answer))
    else:
        final, prints, problems = again.answer
        if bad := {clip: found for clip, found in final.items() if found != "new"}:
            note("failed_resumes", f"after running again: {bad}")
        elif prints != _reference(point.subject, point.workload, scratch):
            note("failed_resumes", "the files differ from those of an uninterrupted run")
        elif problems:
            note("failed_resumes", f"verify after running again: {problems}")
    shutil.rmtree(folder)
    return Outcome(**count, notes=tuple(notes))


def campaign(
    pool: Executor,
    chosen: Sequence[tuple[str, str]],
    actions: Sequence[str],
    scratch: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> dict[tuple[str, str], Outcome]:
    """Tries the points of pairs of subject and workload; of each at most ``limit``, drawn by ``seed``.

    Returns:
        What each pair came to.
    """
    lists = pool.map(_points_of, [(subject, workload, actions, scratch) for subject, workload in chosen])
    draw = random.Random(seed)
    every = [
        point
        for found in lists
        for point in (found if limit is None else draw.sample(found, min(limit, len(found))))
    ]
    totals = dict.fromkeys(chosen, Outcome())
    # A sample stays together by pair, as what a pair needs is prepared once per process.
    outcomes = pool.map(partial(try_point, scratch=scratch), every, chunksize=limit or 1)
    for point, outcome in zip(every, outcomes, strict=True):
        totals[point.subject, point.workload] += outcome
    return totals


def pairs_of_ours() -> list[tuple[str, str]]:
    return [(subject, workload) for subject in OURS for workload in WORKLOADS]


def _points_of(arguments: tuple[str, str, Sequence[str], Path]) -> list[Point]:
    return points(*arguments)


def _work(subject: str, workload: str, folder: Path, board: Board) -> None:
    WORKLOADS[workload].run(SUBJECTS[subject], folder, lambda clip: board.mark(CLIPS.index(clip)))


def _states(subject: str, store: Path) -> dict[str, str]:
    return {clip: state(SUBJECTS[subject], store, clip) for clip in CLIPS}


def _resume(subject: str, workload: str, folder: Path) -> tuple[Any, Any, Any]:
    WORKLOADS[workload].run(SUBJECTS[subject], folder, silent)
    prints = fingerprint(folder / STORE)
    problems: tuple[object, ...] = ()
    if prints is not None:
        report = stores.verify(folder / STORE)
        problems = (*report.damaged, *report.missing, *report.foreign)
    return _states(subject, folder / STORE), prints, tuple(map(str, problems))


@functools.cache
def _calls(subject: str, workload: str, scratch: Path) -> list[tuple[str, int, int]]:
    """Returns the traced calls of an uninterrupted run: name, number of that name, what it returned."""
    folder = _copy(_base(subject, workload, scratch), scratch)
    log = scratch / f"log-{os.getpid()}"
    ended = traced(partial(_work, subject, workload, folder), log)
    if ended.code != 0 or ended.answer is not None:
        msg = f"{subject}, {workload}: fails without any fault: {ended}"
        raise RuntimeError(msg)
    counts: Counter[tuple[str, str]] = Counter()
    calls: dict[tuple[str, int], int] = {}
    for line in log.read_text().splitlines():
        match = re.match(r"(\d+) +(\w+)\(.*?(?:= (\d+))?$", line)
        if match is not None:
            thread, syscall, returned = match.groups()
            counts[thread, syscall] += 1  # strace counts by thread as well
            calls.setdefault((syscall, counts[thread, syscall]), int(returned or 0))
    shutil.rmtree(folder)
    return [(syscall, number, returned) for (syscall, number), returned in calls.items()]


@functools.cache
def _base(subject: str, workload: str, scratch: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="base-", dir=scratch))
    # In a child: zarr starts threads, and this process has to stay without.
    ended = fault_children.run(partial(WORKLOADS[workload].prepare, SUBJECTS[subject], folder))
    if ended.code != 0 or ended.answer is not None:
        msg = f"{subject}, {workload}: could not be prepared: {ended}"
        raise RuntimeError(msg)
    return folder


@functools.cache
def _reference(subject: str, workload: str, scratch: Path) -> Any:
    folder = _copy(_base(subject, workload, scratch), scratch)
    ended = fault_children.run(partial(_resume, subject, workload, folder))
    shutil.rmtree(folder)
    if isinstance(ended.answer, Raised) or ended.code != 0:
        msg = f"{subject}, {workload}: fails without any fault: {ended}"
        raise RuntimeError(msg)
    return ended.answer[1]


def _copy(base: Path, scratch: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=scratch))
    shutil.copytree(base, folder, symlinks=True, dirs_exist_ok=True)
    return folder


def _text(answer: object) -> str:
    return answer.text.strip().splitlines()[-1] if isinstance(answer, Raised) else repr(answer)
