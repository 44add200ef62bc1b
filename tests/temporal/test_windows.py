import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.errors import ConfigError
from temporal.data.windows import batches, clip_starts, cut, epoch_order


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_windows_cover_every_frame_and_never_leave_the_clip(frames, length, data):
    hop = data.draw(st.integers(1, length))
    starts = clip_starts(frames, length, hop)
    size = min(length, frames)
    covered = np.concatenate([np.arange(s, s + size) for s in starts])
    assert set(covered) == set(range(frames))
    assert starts == sorted(set(starts))
    assert starts[-1] + size == frames
    assert all(s % hop == 0 for s in starts[:-1])


def test_a_clip_of_exactly_one_window_has_one_window():
    assert clip_starts(300, 300, 200) == [0]
    assert clip_starts(301, 300, 200) == [0, 1]
    assert clip_starts(500, 300, 200) == [0, 200]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_windows_never_mix_clips(frames):
    offsets = [0, *np.cumsum(frames).tolist()]
    windows = cut(offsets, 12, 7)
    clip = np.repeat(np.arange(len(frames)), frames)
    for start, count in zip(windows.start, windows.frames, strict=True):
        assert len(set(clip[start : start + count])) == 1


def test_a_hop_that_leaves_frames_out_is_refused():
    with pytest.raises(ConfigError, match="hop 11"):
        clip_starts(100, 10, 11)


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    first = epoch_order(50, 3, 7)
    epoch_order(50, 3, 8)
    assert np.array_equal(first, epoch_order(50, 3, 7))
    assert not np.array_equal(first, epoch_order(50, 3, 8))
    assert not np.array_equal(first, epoch_order(50, 4, 7))
    assert np.array_equal(np.concatenate(list(batches(first, 8))), first)
    assert set(first) == set(range(50))
