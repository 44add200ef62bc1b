"""How the doctor finds images that are there twice, and what a sample of stated size can and cannot miss."""

import numpy as np
import pytest
from examined_corpora import clip, corpus, jpeg

from pipeline.doctor.duplicates import NEIGHBOURS, SAMPLE, check_images, choose, repeats


def write(clip, contents):
    for frame, content in contents.items():
        clip.frames[frame].write_bytes(content)
    return clip


def test_repeated_images_are_told_apart_by_where_the_other_one_is(tmp_path):
    same = jpeg(0)
    still = write(clip("still", "train", [True] * 3, root=tmp_path), {0: same, 1: same, 2: jpeg(1)})
    seen = repeats(corpus(still))
    assert (seen.within, seen.between, seen.across) == (1, 0, 0)
    twin = write(clip("twin", "train", [True] * 2, root=tmp_path), {0: jpeg(2), 1: same})
    seen = repeats(corpus(still, twin))
    assert (seen.within, seen.between, seen.across) == (0, 2, 0)
    leak = write(clip("leak", "validation", [False, True], root=tmp_path), {1: same})
    seen = repeats(corpus(still, twin, leak))
    assert (seen.within, seen.between, seen.across, seen.unreadable) == (0, 0, 3, 0)
    assert seen.examples == ("validation leak frame 1 is train still frame 0",)
    (found,) = check_images(corpus(still, twin, leak))
    assert (found.status, "divide anew" in found.remedy) == ("WARN", True)


def test_a_repeated_image_of_a_shard_is_told_by_its_file(tmp_path):
    shards = [
        write(clip(name, split, [True], root=tmp_path, static=True), {0: jpeg(0)})
        for name, split in (("train-00000", "train"), ("validation-00000", "validation"))
    ]
    seen = repeats(corpus(*shards))
    assert seen.examples == (
        "train train-00000 image 00001.jpg is validation validation-00000 image 00001.jpg",
    )


def test_an_image_whose_size_nobody_shares_is_not_read(tmp_path):
    contents = {k: b"x" * (10 + k) for k in range(6)}
    seen = repeats(corpus(write(clip("a", "train", [True] * 6, root=tmp_path), contents)))
    assert (seen.looked, seen.read, seen.within) == (6, 0, 0)
    contents[5] = b"y" * 10
    seen = repeats(corpus(write(clip("a", "train", [True] * 6, root=tmp_path), contents)))
    assert (seen.read, seen.within) == (2, 0)


def test_empty_and_vanished_images_are_a_warning_that_names_them(tmp_path):
    one = write(clip("a", "train", [True] * 3, root=tmp_path), {0: b"", 1: b"x"})
    found = check_images(corpus(one))
    assert [f.status for f in found] == ["PASS", "WARN"]
    assert "2 of them are empty or cannot be read, such as train a frame 0" in found[1].found


@pytest.mark.parametrize("lengths", [[300] * 20, [1] * 5000, [1, 5000, 3], [2, 3] * 400])
@pytest.mark.parametrize("limit", [40, 1000, SAMPLE])
def test_a_sample_is_never_larger_than_it_says(lengths, limit):
    clips = [clip(f"c{k}", "train", np.arange(n) % 3 != 1) for k, n in enumerate(lengths)]
    total = sum(int(c.frames.present.sum()) for c in clips)
    chosen, stride = choose(clips, limit)
    looked = sum(map(len, chosen))
    assert 0 < looked <= limit
    assert looked == total or stride > 1
    assert all(c.frames.present[frames].all() for c, frames in zip(clips, chosen, strict=True))
    assert sum(map(len, choose(clips, None)[0])) == total


def test_a_sample_takes_the_same_places_of_every_clip_so_that_a_copied_clip_is_found(tmp_path):
    frames = 100
    contents = {k: k.to_bytes(2, "big") * 8 for k in range(frames)}
    first = write(clip("first", "train", [True] * frames, root=tmp_path), contents)
    copy = write(clip("copy", "validation", [True] * frames, root=tmp_path), contents)
    seen = repeats(corpus(first, copy), limit=20)
    assert (seen.looked <= 20, seen.stride, seen.across) == (True, NEIGHBOURS * 2 * frames // 20, 10)
    assert repeats(corpus(first, copy), limit=None).across == frames
    (found,) = check_images(corpus(first, copy), every_image=True)
    assert found.found.startswith("looked at all 200 images, read 200 that share their size")


def test_a_corpus_without_any_crop_has_nothing_to_look_at():
    seen = repeats(corpus(clip("a", "train", [False] * 3)))
    assert (seen.images, seen.looked, seen.read, seen.within) == (0, 0, 0, 0)
