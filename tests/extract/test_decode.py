"""Decoding: the pixels are Pillow's, and whatever is not one whole sane JPEG is an error, never a picture."""

import io
import os
import time

import numpy as np
import pytest
from affwild2_tree import make_jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extract import decode
from extract.decode import DecodeError


def pillow(data, size=None):
    with Image.open(io.BytesIO(data)) as image:
        image = image.convert("RGB")
        return np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_colour_gray_and_cmyk_crops_have_pillows_rgb_pixels(mode, progressive):
    data = make_jpeg(1, (112, 96), mode, progressive=progressive)
    pixels = decode.decode(data)
    assert (pixels.shape, pixels.dtype) == ((96, 112, 3), np.uint8)
    np.testing.assert_array_equal(pixels, pillow(data))


def test_a_crop_of_112_pixels_is_resized_to_224_as_pillow_does_it():
    data = make_jpeg(2)
    np.testing.assert_array_equal(decode.decode(data, 224), pillow(data, 224))


@pytest.mark.parametrize("size", [(130, 97), (300, 280), (64, 64)])
def test_crops_of_any_size_are_resized_to_within_two_levels_of_pillow(size):
    data = make_jpeg(3, size)
    difference = np.abs(decode.decode(data, 112).astype(int) - pillow(data, 112))
    assert difference.max() <= 2
    assert difference.mean() < 0.25


def test_bicubic_resizing_is_pillows_to_within_two_levels():
    data = make_jpeg(3, (130, 97))
    for size in (64, 224):
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
        found = decode.decode(data, size, "bicubic-antialias").astype(int)
        assert np.abs(found - expected).max() <= 2
        assert np.abs(found - decode.decode(data, size)).max() > 2


def test_a_crop_of_the_right_size_keeps_its_pixels():
    data = make_jpeg(4)
    np.testing.assert_array_equal(decode.decode(data, 112), pillow(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncation_is_an_error(progressive):
    data = make_jpeg(5, (48, 48), progressive=progressive)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode.decode(data[:length])


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_gives_an_error_or_a_picture_of_bounded_size(position, bit):
    data = bytearray(make_jpeg(6, (32, 32)))
    data[position % len(data)] ^= 1 << bit
    try:
        pixels = decode.decode(bytes(data), 32)
    except DecodeError:
        return
    assert pixels.shape == (32, 32, 3)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_error(data):
    with pytest.raises(DecodeError):
        decode.decode(data)
    with pytest.raises(DecodeError):
        decode.decode(b"\xff\xd8" + data)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded():
    data = make_jpeg(7)
    start = data.index(b"\xff\xc0")
    bomb = data[: start + 5] + (60000).to_bytes(2, "big") * 2 + data[start + 9 :]
    assert decode.header_size(bomb) == (60000, 60000)
    began = time.perf_counter()
    with pytest.raises(DecodeError, match="60000 x 60000 pixels"):
        decode.decode(bomb)
    assert time.perf_counter() - began < 0.5


def test_another_format_is_refused_even_when_it_is_called_jpg(tmp_path):
    path = tmp_path / "00001.jpg"
    Image.new("RGB", (8, 8)).save(path, "PNG")
    with pytest.raises(DecodeError, match=r"00001\.jpg: no JPEG"):
        decode.decode_file(path)


def test_absent_empty_and_irregular_files_are_errors_that_name_the_path(tmp_path):
    empty, fifo, folder = tmp_path / "empty.jpg", tmp_path / "fifo.jpg", tmp_path / "folder.jpg"
    empty.touch()
    os.mkfifo(fifo)
    folder.mkdir()
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    reasons = {
        empty: "empty file",
        fifo: "not a regular file",
        folder: "not a regular file",
        loop: "cannot be read",
        tmp_path / "absent.jpg": "cannot be read: No such file",
    }
    for path, reason in reasons.items():
        with pytest.raises(DecodeError) as caught:
            decode.decode_file(path)
        assert f"{path}: {reason}" in str(caught.value)
