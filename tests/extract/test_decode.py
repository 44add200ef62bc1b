"""Decoding: the pixels are Pillow's, and what is not one whole sane picture is an error, never a picture."""

import io
import os
import time
import zlib

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


def segment(marker, content):
    return b"\xff" + bytes([marker]) + (len(content) + 2).to_bytes(2, "big") + content


def test_a_bomb_cannot_hide_behind_a_header_that_the_decoder_does_not_see():
    bomb = make_jpeg(7, (3000, 3000), "L")
    small = segment(0xC0, b"\x08\x00\x10\x00\x10\x01\x01\x11\x00")
    comment = segment(0xFE, small)
    # For the decoder ff 00 is nothing; read as a marker with a length it leads to within the comment.
    start, end = 2, bomb.index(b"\xff\xda")
    length = 2 + end - start + len(comment) - len(small)
    hidden = b"\xff\x00" + length.to_bytes(2, "big")
    data = bomb[:start] + hidden + bomb[start:end] + comment + bomb[end:]
    assert decode.header_size(data) == (3000, 3000)
    with pytest.raises(DecodeError, match="3000 x 3000 pixels"):
        decode.decode(data)


def test_a_jpeg_of_endless_scans_is_refused_and_one_of_many_is_not():
    data = make_jpeg(7, (64, 64), "L", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    scans = data.count(b"\xff\xda")
    many = data[:-2] + last * (decode.MAX_SCANS - scans) + data[-2:]
    assert decode.decode(many).shape == (64, 64, 3)
    with pytest.raises(DecodeError, match="1000 scans, more than the 100"):
        decode.decode(data[:-2] + last * (1000 - scans) + data[-2:])


def test_a_png_of_endless_texts_is_refused_and_one_of_some_is_not():
    data = make_png()
    content = b"zTXtname\0\0" + zlib.compress(b"a" * 1000)
    text = (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
    some = data[:33] + text * decode.MAX_TEXTS + data[33:]
    np.testing.assert_array_equal(decode.decode(some), pillow(data))
    with pytest.raises(DecodeError, match="200 texts, more than the 16"):
        decode.decode(data[:33] + text * 200 + data[33:])


def test_another_format_is_refused_even_when_it_is_called_jpg(tmp_path):
    path = tmp_path / "00001.jpg"
    Image.new("RGB", (8, 8)).save(path, "BMP")
    with pytest.raises(DecodeError, match=r"00001\.jpg: no JPEG and no PNG"):
        decode.decode_file(path)


def make_png(mode="RGB", size=(96, 112)):
    pixels = np.random.default_rng(8).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_a_png_has_pillows_rgb_pixels_whatever_it_is_called(tmp_path, mode):
    data = make_png(mode)
    (tmp_path / "00001.jpg").write_bytes(data)
    pixels = decode.decode_file(tmp_path / "00001.jpg")
    assert (pixels.shape, pixels.dtype) == ((96, 112, 3), np.uint8)
    np.testing.assert_array_equal(pixels, pillow(data))
    difference = np.abs(decode.decode(data, 64).astype(int) - pillow(data, 64))
    assert difference.max() <= 2


def test_a_png_and_a_jpeg_of_the_same_pixels_are_the_same_crop():
    jpeg = make_jpeg(9)
    buffer = io.BytesIO()
    Image.fromarray(pillow(jpeg)).save(buffer, "PNG")
    np.testing.assert_array_equal(decode.decode(buffer.getvalue(), 224), decode.decode(jpeg, 224))


def test_every_truncation_and_every_flipped_bit_of_png_data_is_an_error_or_the_same_picture():
    data = make_png(size=(12, 12))
    pixels = pillow(data)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode.decode(data[:length])
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 4
        try:
            found = decode.decode(bytes(flipped))
        except DecodeError:
            continue
        np.testing.assert_array_equal(found, pixels, err_msg=f"byte {position} of {len(data)}")


def test_a_png_bomb_is_refused_by_its_header():
    data = make_png()
    bomb = data[:16] + (60000).to_bytes(4, "big") * 2 + data[24:]
    with pytest.raises(DecodeError, match="60000 x 60000 pixels"):
        decode.decode(bomb)


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
