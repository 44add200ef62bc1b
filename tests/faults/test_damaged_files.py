"""Files that changed after they were committed: an error or the exact data, never other data."""

import fault_damage
import pytest
from fault_damage import FEATURES, LABEL_STORE
from fault_subjects import OURS

pytestmark = pytest.mark.timeout(1500)


@pytest.mark.parametrize("kind", [FEATURES, LABEL_STORE])
@pytest.mark.parametrize("subject", OURS)
def test_a_damaged_store_gives_a_store_error_or_the_exact_data(pool, size, scratch, subject, kind):
    count = size.of(40, 800)
    seen = fault_damage.campaign(pool, subject, kind, range(count), scratch)
    assert seen.faults == 0, f"{seen.faults} of {count}, the first:\n" + "\n".join(seen.notes[:10])
    assert (seen.mutations, seen.refused + seen.exact) == (count, count)
    assert seen.refused > seen.exact


@pytest.mark.parametrize("subject", OURS)
def test_every_flip_of_a_bit_of_array_data_is_found_by_verify_and_refused_by_read(
    pool, size, scratch, subject
):
    share = 1.0 if size.full else 0.1
    flipped, undetected = pool.submit(fault_damage.undetected_flips, subject, share, scratch).result()
    assert flipped > 500 * share
    assert undetected == []
