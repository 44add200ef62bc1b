"""Any number of processes that write the same clips at once."""

import fault_duplicates
import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_writers_of_the_same_clips_end_in_one_valid_commit_per_clip(pool, size, scratch, backend, equal):
    rounds = size.of(2, 50)
    futures = [
        pool.submit(fault_duplicates.race, backend, 2 + seed % 7, seed, scratch, equal=equal)
        for seed in range(rounds)
    ]
    faults = [fault for future in futures for fault in future.result()]
    assert not faults, f"{len(faults)} faults, the first:\n" + "\n".join(faults[:5])
