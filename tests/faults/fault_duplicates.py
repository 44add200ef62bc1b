"""Several processes that write the same clips of one store at the same time.

Not a test of who wins: any one of them may, whole.
"""

import random
import shutil
import tempfile
from functools import partial
from pathlib import Path

import fault_children
import numpy as np
from fault_children import Board, Child, Raised
from fault_subjects import arrays_of
from store_specs import feature_spec

import stores

SPEC = feature_spec(64)
CLIPS = ("a", "b", "c")


def race(backend: str, writers: int, seed: int, scratch: Path, *, equal: bool) -> list[str]:
    """Lets ``writers`` processes create one store and write its clips at once, twice over.

    Args:
        backend: of the store.
        writers: number of processes.
        seed: decides lengths and the order in which each writer takes the clips.
        scratch: folder to work in.
        equal: whether all write the same content.

    Returns:
        What must not happen: writers that fail, clips that are not whole or of nobody, a store that does not
        verify, temporaries that are left.
    """
    where = f"{backend}, {writers} writers, seed {seed}, {'equal' if equal else 'different'} content"
    folder = Path(tempfile.mkdtemp(prefix="race-", dir=scratch))
    path = folder / "store"
    children = [
        Child(partial(_write, path, backend, 0 if equal else number, seed, number))
        for number in range(writers)
    ]
    for child in children:
        child.release()
    faults = []
    for child in children:
        ended = child.wait(60)
        if ended.code != 0 or isinstance(ended.answer, Raised):
            faults.append(f"{where}: a writer ended by {ended}")
    looked = fault_children.run(partial(_look, path, 1 if equal else writers, seed))
    answer = looked.answer if isinstance(looked.answer, list) else [str(looked)]
    shutil.rmtree(folder)
    return faults + [f"{where}: {text}" for text in answer]


def content(clip: str, author: int, seed: int) -> np.ndarray:
    """Returns the features that ``author`` writes: neither length nor values are another's."""
    draw = np.random.default_rng([seed, author, CLIPS.index(clip)])
    return draw.standard_normal((200 + 7 * author + seed % 5, 64)).astype(np.float16)


def _write(path: Path, backend: str, author: int, seed: int, number: int, board: Board) -> None:
    draw = random.Random(f"{seed} {number}")
    store = stores.create(path, SPEC, backend)
    for _ in range(2):
        for clip in draw.sample(CLIPS, len(CLIPS)):
            store.write(clip, arrays_of(content(clip, author, seed)), {"author": author})
            # What is there now is somebody's, whole, though another writer may be replacing it.
            found = store.read(clip)
            if not any(
                np.array_equal(found, content(clip, other, seed)) for other in range(max(author + 1, 8))
            ):
                msg = f"{clip} reads as nobody wrote it while it is being replaced"
                raise RuntimeError(msg)


def _look(path: Path, authors: int, seed: int) -> list[str]:
    faults = []
    report = stores.verify(path)
    faults += [str(finding) for finding in (*report.damaged, *report.missing, *report.foreign)]
    store = stores.open(path)
    if store.clips() != sorted(CLIPS):
        faults.append(f"the clips are {store.clips()}")
    for clip in store.clips():
        author = store.record(clip).attrs["author"]
        if not isinstance(author, int) or author >= authors:
            faults.append(f"{clip} is by {author!r}")
        elif not np.array_equal(store.read(clip), content(clip, author, seed)):
            faults.append(f"{clip} has the record of author {author}, and other data")
    faults += [f"{left.name} is left" for left in path.rglob(".tmp-*")]
    return faults
