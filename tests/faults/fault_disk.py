"""A file system of a few MiB that only one child sees: a disk that is really full.

Not for errors at a chosen call, which ``fault_injection`` makes.
"""

import ctypes
import errno
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import fault_children
from fault_children import Ended, Raised
from fault_subjects import SUBJECTS, make_clips
from fault_workloads import fingerprint, same, silent

MIB = 2**20
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REMOUNT, MS_REC, MS_PRIVATE = 32, 16384, 1 << 18

# 2.3 MB, so that about a third of them fits on one MiB.
CLIPS = make_clips({f"clip{number:02}": 24 for number in range(24)}, dim=2048, seed=6)


def enter_small_disk(folder: Path, size: int) -> None:
    """Mounts an empty file system of ``size`` bytes on ``folder``, for this process and its children alone.

    Raises:
        OSError: not permitted here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount of / as private")
    _check(libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=%d" % size), f"mount on {folder}")


def enlarge_disk(folder: Path, size: int) -> None:
    """Gives the file system that ``enter_small_disk`` has mounted another size.

    Raises:
        OSError: not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(
        libc.mount(b"tmpfs", bytes(folder), b"tmpfs", MS_REMOUNT, b"size=%d" % size), f"remount of {folder}"
    )


def claim_space() -> None:
    """Lets every look at the free space find plenty, as where somebody else fills the disk meanwhile."""
    usage = shutil.disk_usage
    shutil.disk_usage = lambda path: usage(path)._replace(free=2**40)


def refusal_of_small_disks() -> str | None:
    """Says why there are no small disks here; None if there are. Forks: for ``fault_children.workers``."""
    with tempfile.TemporaryDirectory() as folder:
        ended = fault_children.run(partial(enter_small_disk, Path(folder), MIB))
    return ended.answer.text.strip().splitlines()[-1] if isinstance(ended.answer, Raised) else None


def fill_disk(subject: str, scratch: Path, *, preflight: bool) -> dict[str, object]:
    """Writes clips on a disk of one MiB until it is full, makes room, and writes again.

    Args:
        subject: what writes.
        scratch: folder to work in.
        preflight: whether the free space is told as it is; otherwise plenty is.

    Returns:
        ``code``, ``signal``, ``refused`` and ``text`` of the first run's end, ``committed``, the number of
        clips that were then committed, ``lost``, those of them that do not read as written, ``wrong``, other
        clips that read as nobody wrote them, ``resumed``, whether the second run made every clip.
    """
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir=scratch))
    ended = fault_children.run(partial(_fill, subject, folder, preflight), timeout=60)
    if not isinstance(ended.answer, dict):
        msg = f"{subject} on a small disk: {ended}"
        raise RuntimeError(msg)
    return ended.answer


def _fill(subject: str, folder: Path, preflight: bool) -> dict[str, object]:
    enter_small_disk(folder, MIB)
    names = list(CLIPS)

    def work(board: fault_children.Board) -> None:
        if not preflight:
            claim_space()
        SUBJECTS[subject].write(folder / "store", CLIPS, lambda clip: board.mark(names.index(clip)))

    child = fault_children.Child(work)
    child.release()
    first = child.wait(30)
    committed = [names[number] for number in sorted(first.marks)]
    read = fault_children.run(partial(_read, subject, folder / "store"))
    found = read.answer if isinstance(read.answer, dict) else dict.fromkeys(names, "unreadable")
    enlarge_disk(folder, 16 * MIB)
    second = fault_children.run(partial(SUBJECTS[subject].write, folder / "store", CLIPS, silent))
    after = fault_children.run(partial(_read, subject, folder / "store"))
    reference = fault_children.run(partial(_reference, subject, folder / "reference"))
    prints = fault_children.run(partial(fingerprint, folder / "store"))
    exact = isinstance(after.answer, dict) and set(after.answer.values()) == {"exact"}
    return {
        **_end(first, subject),
        "committed": len(committed),
        "lost": [clip for clip in committed if found[clip] != "exact"],
        "wrong": [clip for clip in names if clip not in committed and found[clip] == "wrong"],
        "unreadable": [clip for clip in names if found[clip] == "unreadable"],
        "leftovers": sorted(path.name for path in folder.rglob(".tmp-*")),
        "resumed": second.code == 0 and exact and prints.answer == reference.answer,
    }


def _end(ended: Ended, subject: str) -> dict[str, object]:
    raised = isinstance(ended.answer, Raised)
    return {
        "code": ended.code,
        "signal": ended.signal,
        "refused": raised and ended.answer.is_a(*SUBJECTS[subject].refusals),
        "text": ended.answer.text.strip().splitlines()[-1] if raised else "",
    }


def _read(subject: str, store: Path) -> dict[str, str]:
    states = {}
    for clip, features in CLIPS.items():
        try:
            found = SUBJECTS[subject].read(store, clip)
        except SUBJECTS[subject].refusals:
            states[clip] = "unreadable"
        else:
            states[clip] = "absent" if found is None else "exact" if same(found, features) else "wrong"
    return states


def _reference(subject: str, store: Path) -> dict[str, str] | None:
    SUBJECTS[subject].write(store, CLIPS, silent)
    return fingerprint(store)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno() or errno.EPERM
        msg = f"{what}: {os.strerror(code)}"
        raise OSError(code, msg)
