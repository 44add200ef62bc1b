"""The real command line, killed at random times until it is done."""

from concurrent.futures import wait

import fault_commands
import pytest

pytestmark = pytest.mark.timeout(1500)


def killed(futures):
    """How often commands were killed and the least of how often each finished, and what must not happen."""
    ends = [future.result() for future in wait(futures).done]
    faults = [fault for end in ends for fault in end.faults]
    return sum(end.kills for end in ends), min(end.finished for end in ends), faults


def test_features_killed_at_random_times_ends_in_the_stores_of_an_uninterrupted_run(
    pool, size, scratch, corpus
):
    kills = size.of(2, 100)
    done, finished, faults = killed(
        pool.submit(fault_commands.kill_features, corpus, backend, kills, seed, scratch)
        for seed, backend in enumerate(("hdf5", "zarr") if size.full else ("hdf5",))
    )
    assert faults == []
    assert done >= kills
    assert finished >= 1


def test_convert_killed_at_random_times_ends_in_the_store_of_an_uninterrupted_run(pool, size, scratch):
    kills = size.of(2, 50)
    done, finished, faults = killed(
        pool.submit(fault_commands.kill_convert, backend, kills, seed, scratch)
        for seed, backend in enumerate(("hdf5", "zarr"))
    )
    assert faults == []
    assert done >= 2 * kills
    assert finished >= 1
