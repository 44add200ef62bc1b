"""What the fault campaigns share: their size, processes to fork from, and a folder that is quick to sync.

``FACETS_FAULTS=full`` runs whole campaigns, and fails where their tools are missing; otherwise a sample runs.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fault_children
import fault_commands
import fault_disk
import fault_injection
import pytest

# For the experiment that these campaigns share with the tests of the pipeline.
sys.path.append(str(Path(__file__).parents[1] / "pipeline"))


@dataclass(frozen=True, slots=True)
class Size:
    """Sample or whole.

    Attributes:
        full: run everything.
    """

    full: bool

    def of(self, sample: int, full: int) -> int:
        return full if self.full else sample

    def lack(self, reason: str | None) -> None:
        """Skips a sample for ``reason``; a whole campaign fails, so that nobody takes it for passed."""
        if reason is not None and self.full:
            pytest.fail(reason)
        if reason is not None:
            pytest.skip(reason)


@pytest.fixture(scope="session")
def size():
    chosen = os.environ.get("FACETS_FAULTS", "sample")
    if chosen not in ("sample", "full"):
        msg = f"FACETS_FAULTS is {chosen!r}, expected sample or full"
        raise pytest.UsageError(msg)
    return Size(chosen == "full")


@pytest.fixture(scope="session")
def pool(size):
    with fault_children.workers(2) as workers:
        yield workers


@pytest.fixture(scope="session")
def strace(pool, size):
    size.lack(pool.submit(fault_injection.refusal_of_strace).result())


@pytest.fixture(scope="session")
def small_disks(pool, size):
    size.lack(pool.submit(fault_disk.refusal_of_small_disks).result())


@pytest.fixture(scope="session")
def corpus(pool, tmp_path_factory):
    return pool.submit(fault_commands.draw_corpus, tmp_path_factory.mktemp("corpus") / "corpus").result()


@pytest.fixture(scope="session")
def scratch():
    """A folder, in memory where possible: a campaign syncs thousands of files, and no disk is pulled."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="facets-faults-", dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder)
