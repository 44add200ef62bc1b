"""Ten thousand broken pictures: none crashes, hangs or floods the memory, and none that is cut off passes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import fault_pictures
import pytest
from fault_pictures import SLOW_SECONDS, Decoded

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def decoders():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


def _clean(found: Decoded) -> None:
    assert found.wrong == []
    assert found.slowest < SLOW_SECONDS
    assert found.grown_mb < 256


def test_mutated_pictures_are_errors_or_pictures(size, decoders):
    count = size.of(400, 10_000)
    parts = [range(start, min(start + 500, count)) for start in range(0, count, 500)]
    found = [decoders.submit(fault_pictures.decode_mutations, part) for part in parts]
    outcomes = Decoded()
    for future in found:
        part = future.result(timeout=300)  # a crash of the decoder is a BrokenProcessPool
        _clean(part)
        outcomes.outcomes += part.outcomes
    assert outcomes.outcomes.total() == count
    # A campaign that only ever sees one outcome tests nothing.
    assert min(outcomes.outcomes["error"], outcomes.outcomes["picture"]) > count // 10


@pytest.mark.parametrize("name", ["baseline", "progressive", "restarts", "cmyk", "png", "palette"])
def test_a_picture_that_is_cut_off_anywhere_is_an_error(decoders, name):
    found = decoders.submit(fault_pictures.decode_truncations, name).result(timeout=300)
    _clean(found)
    assert found.outcomes["error"] == len(fault_pictures.originals()[name])
