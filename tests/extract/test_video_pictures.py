"""Decoding videos: every picture, in order, upright, or an error; and the timeline that they are put on."""

import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import write_video

from extract.crops.numbering import MAX_FRAMES, Timeline
from extract.crops.pictures import Picture, Video
from stores.errors import ConfigError, CorpusError

av = pytest.importorskip("av")

FRAMES = 30


def marked(number, width=128, height=96):
    """A picture that says its number: six large squares, black or white."""
    picture = np.full((height, width, 3), 90, np.uint8)
    for bit in range(6):
        picture[8:40, 4 + bit * 20 : 20 + bit * 20] = 255 if number >> bit & 1 else 0
    return picture


def number_of(pixels):
    scale = pixels.shape[1] / 128
    return sum(int(pixels[24, int((12 + bit * 20) * scale)].mean() > 128) << bit for bit in range(6))


PICTURES = [marked(number) for number in range(FRAMES)]


def read(path, fps=None):
    with Video(path) as video:
        timeline = Timeline(video.rate, fps)
        numbers = [(frame, number_of(picture.pixels)) for frame, picture in timeline.number(video.pictures())]
    return timeline, numbers


KINDS = {
    "x.mp4": {"bf": "2"},
    "x.mkv": {},
    "x.avi": {"codec": "mpeg4"},
    "y.avi": {"codec": "mjpeg"},
    "x.ts": {},
    "x.webm": {"codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("name", KINDS)
def test_frame_i_is_the_ith_picture_in_every_container(tmp_path, name):
    timeline, numbers = read(write_video(tmp_path / name, PICTURES, **KINDS[name]))
    assert numbers == [(frame, frame) for frame in range(FRAMES)]
    assert (timeline.frames, timeline.frames_per_second, timeline.is_variable) == (FRAMES, 30, False)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi", "y.avi", "x.webm"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.85])
def test_a_truncated_video_is_an_error_that_names_it(tmp_path, name, share):
    path = write_video(tmp_path / name, PICTURES, **KINDS[name])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CorpusError, match=name):
        read(path)


def test_a_video_with_its_index_in_front_is_an_error_wherever_it_is_cut(tmp_path):
    path = write_video(tmp_path / "x.mp4", PICTURES, container={"movflags": "faststart"})
    whole = path.read_bytes()
    for share in np.linspace(0.02, 0.99, 25):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CorpusError, match=r"x\.mp4"):
            read(path)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["x.mp4", "x.avi"])
def test_damage_is_an_error_or_leaves_every_picture_in_its_place(tmp_path, name, seed):
    path = write_video(tmp_path / name, PICTURES, **KINDS[name])
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(data) // 4, len(data) * 3 // 4, 4):
        data[place] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    try:
        timeline, _ = read(path)
    except CorpusError:
        return
    # What the decoder conceals stays in its place; the end may lack two pictures before that is an error.
    assert FRAMES - 2 <= timeline.frames <= FRAMES


def test_a_packet_that_shows_no_picture_is_an_error(tmp_path):
    path = tmp_path / "x.avi"
    not_coded = b"\x00\x00\x01\xb6\x50\xdf"  # a P-VOP whose vop_coded is 0 (ISO/IEC 14496-2, 6.2.5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in PICTURES]
        for number, frame in enumerate([*frames, None]):
            for packet in stream.encode(frame):
                kept = packet
                if number == 10:
                    kept = av.Packet(not_coded)
                    kept.stream, kept.time_base = stream, packet.time_base
                    kept.pts, kept.dts = packet.pts, packet.dts
                container.mux(kept)
    with pytest.raises(CorpusError, match="1 of 30 pictures were lost"):
        read(path)


def test_a_picture_that_was_filmed_on_its_side_comes_upright(tmp_path):
    lying = [np.ascontiguousarray(np.rot90(picture)) for picture in PICTURES[:5]]
    path = write_video(tmp_path / "x.mp4", lying, rotation=-90)  # players turn it clockwise
    with Video(path) as video:
        pixels = [picture.pixels for picture in video.pictures()]
    assert [number_of(each) for each in pixels] == [0, 1, 2, 3, 4]
    assert pixels[0].shape == PICTURES[0].shape


def test_pixels_that_are_not_square_become_so(tmp_path):
    path = write_video(tmp_path / "x.mp4", PICTURES[:5], aspect=Fraction(3, 2))
    with Video(path) as video:
        pixels = [picture.pixels for picture in video.pictures()]
    assert pixels[0].shape == (96, 192, 3)
    assert [number_of(each) for each in pixels] == [0, 1, 2, 3, 4]


def test_sound_alone_is_an_error_that_says_what_was_found(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(CorpusError, match=r"no moving pictures .*\(found audio\)"):
        read(path)


def test_a_video_without_pictures_is_an_error(tmp_path):
    path = write_video(tmp_path / "x.mkv", PICTURES[:1])
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CorpusError, match=r"x\.mkv"):
        read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video at all",
        b"#EXTM3U\n#EXTINF:1\nother.mp4\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(200),
        bytes(range(256)) * 20,
    ],
    ids=["empty", "text", "playlist", "script", "header", "noise"],
)
def test_what_is_no_video_is_an_error_and_never_leads_to_another_file(tmp_path, content):
    write_video(tmp_path / "other.mp4", PICTURES[:3])
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"x\.mp4"):
        read(path)


def test_a_pipe_or_a_missing_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(CorpusError, match="no regular file"):
        Video(tmp_path / "x.mp4")
    with pytest.raises(CorpusError, match="cannot be read"):
        Video(tmp_path / "y.mp4")


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", PICTURES[:3]).rename("concat:a|b.mp4")
    assert len(read(tmp_path / "concat:a|b.mp4")[1]) == 3


def test_a_picture_larger_than_8k_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mp4", PICTURES[:3])
    monkeypatch.setattr("extract.crops.pictures.MAX_PIXELS", 128 * 96 - 1)
    with pytest.raises(CorpusError, match="128 x 96"):
        Video(path)


def test_without_the_extra_the_error_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match="uv sync --extra video"):
        Video(tmp_path / "x.mp4")


def test_pictures_of_a_variable_rate_are_frames_one_by_one_unless_a_rate_is_asked_for(tmp_path):
    pts = [*range(10), *range(12, 72, 3)]  # 30 per second, then 10
    path = write_video(tmp_path / "x.mp4", PICTURES, pts=pts)
    timeline, numbers = read(path)
    assert numbers == [(frame, frame) for frame in range(FRAMES)]
    assert timeline.is_variable
    assert timeline.frames_per_second == pytest.approx(29 / (69 / 30), abs=1e-3)
    timeline, numbers = read(path, Fraction(30))
    # Every picture stays until the next one is shown.
    shown = [max(n for n, stamp in enumerate(pts) if stamp <= frame) for frame in range(pts[-1] + 1)]
    assert numbers == list(enumerate(shown))
    assert timeline.frames_per_second == 30


def pictures_at(*times):
    return [
        Picture(np.full((2, 2, 3), i, np.uint8), t if t is None else Fraction(t), False)
        for i, t in enumerate(times)
    ]


def shown(timeline, pictures):
    return [(frame, int(picture.pixels[0, 0, 0])) for frame, picture in timeline.number(pictures)]


def test_missing_and_falling_time_stamps_count_as_the_stated_rate():
    timeline = Timeline(Fraction(10), Fraction(10))
    assert shown(timeline, pictures_at(None, None, None, None)) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    timeline = Timeline(Fraction(10), Fraction(10))
    assert shown(timeline, pictures_at("5", "5.1", "5.1", "2", "5.4")) == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
    ]
    assert timeline.untimed == 2


def test_a_jump_of_the_time_stamps_is_an_error_only_where_they_are_used():
    jump = pictures_at("0", "0.1", "1000000000")
    assert len(shown(Timeline(Fraction(10)), jump)) == 3
    with pytest.raises(CorpusError, match="time stamps jump"):
        shown(Timeline(Fraction(10), Fraction(10)), jump)


def test_more_frames_than_a_crop_has_numbers_are_an_error():
    picture = pictures_at("0")[0]
    timeline = Timeline(Fraction(30))
    timeline.pictures = MAX_FRAMES
    with pytest.raises(CorpusError, match=str(MAX_FRAMES)):
        list(timeline.number([picture] * 2))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.fractions(min_value="1/200", max_value=2, max_denominator=1000), min_size=1, max_size=30),
    st.fractions(min_value=1, max_value=60, max_denominator=1001),
)
def test_a_constant_timeline_is_dense_and_never_half_a_frame_off(intervals, fps):
    times = [sum(intervals[:n], Fraction(0)) for n in range(len(intervals) + 1)]
    frames = shown(Timeline(Fraction(30), fps), pictures_at(*times))
    assert [frame for frame, _ in frames] == list(range(len(frames)))
    for frame, picture in frames:
        assert times[picture] <= (frame + Fraction(1, 2)) / fps
        later = times[picture + 1 : picture + 2]
        assert all(time > (frame - Fraction(1, 2)) / fps for time in later)
