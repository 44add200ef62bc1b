"""Kills, errors and lies at every system call that changes a disk."""

import fault_injection
import pytest
from fault_injection import ERRORS, KILL, pairs_of_ours

pytestmark = [pytest.mark.timeout(1500), pytest.mark.usefixtures("strace")]


def total_of(totals):
    """What all pairs of subject and workload came to; a pair of which no point was hit proves nothing."""
    assert all(outcome.points for outcome in totals.values())
    return sum(totals.values(), fault_injection.Outcome())


def test_killed_at_any_call_every_clip_is_whole_and_a_resumed_store_has_the_same_bytes(pool, size, scratch):
    limit = None if size.full else 4
    total = total_of(fault_injection.campaign(pool, pairs_of_ours(), [KILL], scratch, limit=limit))
    assert (total.faults, total.notes[:10]) == (0, ())
    assert total.points >= size.of(32, 500)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_of_the_disk_at_any_call_is_a_store_error_and_loses_nothing_committed(
    pool, size, scratch, error
):
    limit = None if size.full else 2
    total = total_of(fault_injection.campaign(pool, pairs_of_ours(), [error], scratch, limit=limit))
    assert (total.faults, total.notes[:10]) == (0, ())
    assert total.points >= size.of(10, 500)
    assert total.errors > 0


def test_a_disk_that_lies_about_a_write_is_noticed_before_the_commit(pool, size, scratch):
    limit = None if size.full else 2
    total = total_of(fault_injection.campaign(pool, pairs_of_ours(), ["retval"], scratch, limit=limit))
    assert (total.faults, total.notes[:10]) == (0, ())
    assert total.points >= size.of(12, 200)
    assert total.errors == total.points
