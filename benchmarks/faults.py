"""What is left of features after kills, disk errors and damage: our stores beside the two usual ways.

Not a benchmark of speed.

    python benchmarks/faults.py [--size sample|full]

The same campaigns, from ``tests/faults``, run unchanged on four subjects:

- ``ours-hdf5``, ``ours-zarr``: a store of either backend. Resuming skips committed clips.
- ``h5py append loop``: one HDF5 file, one resizable dataset per clip, appended in batches of 16 frames,
  flushed after every clip, closed at the end, also when an exception passes. Resuming opens the file with
  mode "a", skips a clip whose dataset has all its rows, and deletes and rewrites any other.
- ``zarr-python default``: one group, one array per clip with default chunks and codecs, written in batches
  of 16 frames. Resuming skips a clip whose array exists. One thread, so that call n is always the same one.

A clip of a peer counts as committed once its last batch is written and, for h5py, flushed. Any Python
exception counts as a clean error of a peer; of ours only ``StoreError`` does. The work is to make a store, to
resume one, and, counted apart (``rewrite``), to give clips that are there new content: peers delete and write
again, which is what their libraries offer.

What is counted:

- ``crashes``: the writer, or a reader or writer after it, died by a signal such as SIGSEGV, or hung;
- ``unreadable_stores``: after the fault something raises that was not damaged before;
- ``wrong_clips``: a reader sees a clip with values that nobody wrote, without an error;
- ``lost_commits``: committed clips that are gone, unreadable or wrong;
- ``failed_resumes``: the same program, started again, fails or leaves clips that are not exact;
- ``silent wrong data``: of seeded mutations of the files, those after which a reader sees other values.

Needs strace; the full disk needs the right to mount a tmpfs. Both are required: nothing is left out silently.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

# In place of this folder, whose stores.py would pass for the package.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "faults")

import fault_children  # noqa: E402
import fault_damage  # noqa: E402
import fault_disk  # noqa: E402
import fault_injection  # noqa: E402
import h5py  # noqa: E402
import zarr  # noqa: E402
from fault_subjects import SUBJECTS  # noqa: E402

SIZES: dict[str, tuple[int | None, int]] = {"sample": (60, 500), "full": (None, 2000)}
CAMPAIGNS = {
    "kills": ("new", "resume"),
    "kills rewrite": ("rewrite",),
    "disk errors": ("new", "resume"),
    "disk errors rewrite": ("rewrite",),
}


def counts(outcome: Any) -> dict[str, int]:
    """Returns the figures of an outcome, without its notes."""
    return {name: value for name, value in asdict(outcome).items() if name != "notes"}


def main() -> None:
    """Runs the campaigns and prints the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="sample")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    limit, mutations = SIZES[chosen.size]
    memory = Path("/dev/shm")
    report: dict[str, Any] = {
        "size": chosen.size,
        "platform": platform.platform(),
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "zarr": zarr.__version__,
        "subjects": {name: {} for name in SUBJECTS},
    }
    # The workers import this script, and with it numpy, before anything can be said to them.
    fault_children.use_one_thread()
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory(
            prefix="facets-faults-", dir=memory if os.access(memory, os.W_OK) else None
        ) as folder,
        fault_children.workers(chosen.processes) as pool,
    ):
        scratch = Path(folder)
        for refusal in (fault_injection.refusal_of_strace, fault_disk.refusal_of_small_disks):
            if (reason := pool.submit(refusal).result()) is not None:
                sys.exit(f"cannot inject faults here: {reason}")
        for subject, results in report["subjects"].items():
            for name, workloads in CAMPAIGNS.items():
                actions = (
                    [fault_injection.KILL] if name.startswith("kills") else ["error=ENOSPC", "error=EIO"]
                )
                pairs = [(subject, workload) for workload in workloads]
                totals = fault_injection.campaign(pool, pairs, actions, scratch, limit=limit)
                results[name] = counts(sum(totals.values(), fault_injection.Outcome()))
            results["full disk"] = pool.submit(
                fault_disk.fill_disk, subject, scratch, preflight=False
            ).result()
            seen = fault_damage.campaign(pool, subject, fault_damage.FEATURES, range(mutations), scratch)
            results["damage"] = counts(seen)
    report["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
