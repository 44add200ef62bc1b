"""The real command line, killed at random times until it is done."""

from concurrent.futures import wait

import fault_commands
import pytest

pytestmark = pytest.mark.timeout(1500)


def _check(futures, kills):
    ends = [future.result() for future in wait(futures).done]
    faults = [fault for end in ends for fault in end.faults]
    assert not faults, f"{len(faults)} faults, the first:\n" + "\n".join(faults[:5])
    assert sum(end.kills for end in ends) >= kills
    assert all(end.finished for end in ends)


def test_features_killed_at_random_times_ends_in_the_stores_of_an_uninterrupted_run(
    pool, size, scratch, corpus
):
    kills = size.of(2, 100)
    _check(
        [
            pool.submit(fault_commands.kill_features, corpus, backend, kills, seed, scratch)
            for seed, backend in enumerate(("hdf5", "zarr") if size.full else ("hdf5",))
        ],
        kills,
    )


def test_convert_killed_at_random_times_ends_in_the_store_of_an_uninterrupted_run(pool, size, scratch):
    kills = size.of(2, 50)
    _check(
        [
            pool.submit(fault_commands.kill_convert, backend, kills, seed, scratch)
            for seed, backend in enumerate(("hdf5", "zarr"))
        ],
        2 * kills,
    )
