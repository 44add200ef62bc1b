"""Disks that are really full."""

import fault_commands
import fault_disk
import pytest

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("small_disks")]

BACKENDS = ("hdf5", "zarr")


@pytest.mark.parametrize("preflight", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_on_a_full_disk_writing_stops_with_a_store_error_and_goes_on_when_there_is_room(
    pool, scratch, backend, preflight
):
    end = pool.submit(fault_disk.fill_disk, f"ours-{backend}", scratch, preflight=preflight).result()
    assert end["refused"], end
    assert end["signal"] is None
    assert "make room" in end["text"] if preflight else "the disk is full" in end["text"]
    assert end["committed"] == 0 if preflight else 1 <= end["committed"] < len(fault_disk.CLIPS)
    assert (end["lost"], end["wrong"], end["unreadable"], end["leftovers"]) == ([], [], [], [])
    assert end["resumed"]


@pytest.mark.parametrize("preflight", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_convert_on_a_full_disk_exits_with_one_line_and_goes_on_when_there_is_room(
    pool, scratch, backend, preflight
):
    end = pool.submit(
        fault_commands.convert_on_full_disk, backend, scratch, size=fault_disk.MIB, preflight=preflight
    ).result()
    _check(end)


@pytest.mark.parametrize(("room", "preflight"), [(2**20, True), (400_000, False), (120_000, False)])
def test_features_on_a_full_disk_exits_with_one_line_per_clip_and_goes_on_when_there_is_room(
    pool, size, scratch, corpus, room, preflight
):
    if not size.full:
        pytest.skip("only in the whole campaign: convert on a full disk is the sample")
    backend = "zarr" if room == 120_000 else "hdf5"
    end = pool.submit(
        fault_commands.features_on_full_disk, corpus, backend, scratch, size=room, preflight=preflight
    ).result()
    _check(end)


def _check(end):
    assert end.signal is None
    assert end.code in (1, 3), end
    assert "Traceback" not in end.output
    errors = [line for line in end.output.splitlines() if line.startswith("error: ")]
    assert errors, end
    if end.code == 1:
        assert len(errors) == 1
    assert any("make room" in line or "the disk is full" in line for line in errors), end
    assert end.damage == ()
    assert (end.code_with_room, end.same) == (0, True)
