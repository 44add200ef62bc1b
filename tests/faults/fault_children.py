"""Forked children that wait for a start signal, run one function and leave their answer in shared memory.

Not a process pool: a child runs once, and may be killed or failed at any instruction.
"""

import contextlib
import ctypes
import logging
import mmap
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

MARKS = 256
BOARD_BYTES = 2**20
UNCAUGHT = 70


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that ended a child.

    Attributes:
        types: qualified names of its class and of all bases.
        text: the traceback.
    """

    types: tuple[str, ...]
    text: str

    def is_a(self, *types: type[BaseException]) -> bool:
        return any(f"{kind.__module__}.{kind.__qualname__}" in self.types for kind in types)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit status; None if a signal ended it.
        signal: that signal.
        hung: it was killed because its time was up.
        answer: what its function returned, or ``Raised``.
        marks: numbers that it marked while it ran.
    """

    code: int | None
    signal: int | None
    hung: bool
    answer: Any
    marks: frozenset[int]


class Board:
    """Memory that a child shares with its parent: writing to it takes no system call, and survives a kill."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BOARD_BYTES)

    def mark(self, number: int) -> None:
        self._memory[number] = 1

    def marks(self) -> frozenset[int]:
        return frozenset(number for number in range(MARKS) if self._memory[number])

    def put(self, answer: object) -> None:
        # Without the terminating STOP a killed child's answer does not load: the length comes last.
        data = pickle.dumps(answer)
        self._memory[MARKS + 8 : MARKS + 8 + len(data)] = data
        self._memory[MARKS : MARKS + 8] = len(data).to_bytes(8, "little")

    def get(self) -> Any:
        length = int.from_bytes(self._memory[MARKS : MARKS + 8], "little")
        return pickle.loads(self._memory[MARKS + 8 : MARKS + 8 + length]) if length else None


class Child:
    """A fork of this process that calls ``work(board)`` once it is released.

    Only for processes without threads: a fork takes none along, but may take their locks.

    Args:
        work: what to do.
        memory: bytes of address space that the child may have beyond what it starts with.
        output: file for what it prints.
    """

    def __init__(
        self, work: Callable[[Board], object], *, memory: int | None = None, output: Path | None = None
    ) -> None:
        _require_no_threads()
        self.board = Board()
        gate, self._release = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, self.board, gate, memory, output)
        os.close(gate)

    def release(self) -> None:
        os.write(self._release, b"x")

    def wait(self, timeout: float) -> Ended:
        """Waits for the end; after ``timeout`` seconds the child is killed."""
        watched = os.pidfd_open(self.pid)
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        hung = not poll.poll(timeout * 1000)
        if hung:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(watched)
        os.close(self._release)
        code = os.waitstatus_to_exitcode(status)
        return Ended(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            hung=hung,
            answer=self.board.get(),
            marks=self.board.marks(),
        )


def workers(count: int) -> ProcessPoolExecutor:
    """Returns processes without threads, for work that forks children."""
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    use_one_thread()
    # What could not be removed on a failing disk is told in a warning: hundreds of them in a campaign.
    logging.getLogger("stores").setLevel(logging.ERROR)


def use_one_thread() -> None:
    """Keeps numeric libraries from starting threads, where they are not imported yet."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"


def run(
    work: Callable[[], object],
    *,
    timeout: float = 20,
    memory: int | None = None,
    output: Path | None = None,
) -> Ended:
    """Runs ``work`` in a child and waits for its end."""
    child = Child(lambda board: work(), memory=memory, output=output)
    child.release()
    return child.wait(timeout)


def _require_no_threads() -> None:
    # A thread that was joined may take a moment to be gone.
    patience = time.monotonic() + 2
    while _threads() > 1:
        if time.monotonic() > patience:
            msg = "this process has threads, so that its forks may hang: fork from `workers(...)`"
            raise RuntimeError(msg)
        time.sleep(0.001)


def _threads() -> int:
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            names.append((task / "comm").read_text().strip())
    # That of the allocator in Arrow is there from its import on, and prepares itself for forks.
    return len(names) - names.count("jemalloc_bg_thd")


def die_at(*names: str, number: int = 1) -> None:
    """Lets this process kill itself at the ``number``-th call (from 1) of any of the named functions of os.

    That call is not made. ``Path`` and ``shutil`` use the same functions.
    """
    left = [number]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return call

    for name in names:
        setattr(os, name, wrap(getattr(os, name)))


def _live(
    work: Callable[[Board], object], board: Board, gate: int, memory: int | None, output: Path | None
) -> NoReturn:
    code = UNCAUGHT
    try:
        if output is not None:
            opened = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for descriptor in (1, 2):
                os.dup2(opened, descriptor)
        if memory is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.read(gate, 1)
        answer = work(board)
        code = 0
    except SystemExit as error:
        answer, code = None, error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        types = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
        answer = Raised(types, "".join(traceback.format_exception(error))[-20_000:])
    board.put(answer)
    sys.stdout.flush()
    sys.stderr.flush()
    # The handlers of C libraries run, as at any exit: HDF5 is known to crash in its own. Python's do not:
    # they belong to the parent.
    ctypes.PyDLL(None).exit(code)
    os._exit(code)
