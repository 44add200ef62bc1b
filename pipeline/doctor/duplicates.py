"""Looks for images that are in a corpus more than once: by size first, by content if sizes agree.

Files are compared, not pictures: one that was encoded anew is another image here. Unless every image is asked
for, a sample of stated size is looked at.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.doctor.census import SPLITS, present
from pipeline.doctor.finding import Finding
from stores.progress import Progress, silent

if TYPE_CHECKING:
    from extract.corpora import Clip, Corpus

SAMPLE = 20_000
"""Images looked at unless all are asked for: some seconds on a local disk, a minute or two on a slow one."""
NEIGHBOURS = 2
"""Consecutive frames in each place of a sample, so that pictures that stand still are found."""
THREADS = 8
"""Reading waits for the disk or the network, not for the processor."""
STILL = 0.1
"""Share of repeated images within clips that is worth a warning."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """The repeated images of a corpus.

    Attributes:
        images: rows of the corpus with an image.
        looked: how many of them were looked at.
        stride: in every clip, frames ``i * stride`` and its neighbour were; 1 for all.
        read: how many have another's size, and were read.
        unreadable: how many are empty or could not be read.
        broken: places of the first of these.
        within: images that repeat one of the same clip alone.
        between: images that repeat one of another clip of the same split.
        across: images that repeat one of another split.
        examples: two places of one image, of the gravest kind.
    """

    images: int
    looked: int
    stride: int
    read: int
    unreadable: int
    broken: tuple[str, ...]
    within: int
    between: int
    across: int
    examples: tuple[str, ...]


def check_images(
    corpus: "Corpus", *, every_image: bool = False, progress: Progress = silent
) -> list[Finding]:
    """No image is in two clips or splits, and all that were looked at can be read."""
    seen = repeats(corpus, None if every_image else SAMPLE, progress)
    how = f"looked at all {seen.images:,} images"
    if seen.looked < seen.images:
        how = (
            f"looked at {seen.looked:,} of {seen.images:,} images, every {seen.stride:,}th with its neighbour"
        )
    found = [
        f"{how}, read {seen.read:,} that share their size",
        f"repeated within a clip {seen.within:,}",
        f"in another clip {seen.between:,}",
        f"in another split {seen.across:,}",
    ]
    said = "; ".join([", ".join(found), *seen.examples])
    remedy = ""
    if seen.across:
        remedy = "scored images were seen in training: take one of the two out, or divide anew"
    elif seen.between:
        remedy = "clips that hold the same images count twice: take one of them out"
    elif seen.within > STILL * max(1, seen.looked):
        remedy = "pictures stand still, or crops were repeated to fill gaps: look at these clips"
    findings = [Finding("images", "WARN" if remedy else "PASS", said, remedy)]
    if seen.unreadable:
        listed = f"{seen.unreadable:,} of them are empty or cannot be read, such as {', '.join(seen.broken)}"
        findings.append(Finding("images", "WARN", listed, "restore them; else they count as missing"))
    return findings


def repeats(corpus: "Corpus", limit: int | None = SAMPLE, progress: Progress = silent) -> Repeats:
    """Looks for repeated images; takes 30 bytes of memory an image that is looked at.

    Args:
        corpus: its clips.
        limit: images to look at, at most; None for all. A sample takes the same frames of every clip, so that
            a clip that is there twice is found as surely as among all its images.
        progress: called with the clips done.
    """
    clips = corpus.clips
    chosen, stride = choose(clips, limit)
    total = 2 * len(clips)
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = []
        for done, found in enumerate(pool.map(_sizes, clips, chosen)):
            sizes.append(found)
            progress("images", total, done)
        size = np.concatenate([np.zeros(0, np.int64), *sizes])
        values, counts = np.unique(size, return_counts=True)
        shared = values[(counts > 1) & (values > 0)]
        wanted = [frames[np.isin(found, shared)] for frames, found in zip(chosen, sizes, strict=True)]
        digests = []
        for done, read in enumerate(pool.map(_digests, clips, wanted), len(clips)):
            digests.append(read)
            progress("images", total, done)
    progress("images", total, total)
    owner = np.repeat(np.arange(len(clips)), [len(frames) for frames in wanted])
    frame = np.concatenate([np.zeros(0, np.int64), *wanted])
    digest = np.concatenate([np.zeros(0, np.uint64), *digests])
    good = digest != 0
    empty = [frames[found <= 0] for frames, found in zip(chosen, sizes, strict=True)]
    broken = [(clip, bad[0]) for clip, bad in enumerate(empty) if len(bad)]
    broken += list(zip(owner[~good].tolist(), frame[~good].tolist(), strict=True))
    kinds, examples = _groups(clips, owner[good], frame[good], digest[good])
    return Repeats(
        images=sum(int(np.count_nonzero(present(clip.frames))) for clip in clips),
        looked=len(size),
        stride=stride,
        read=len(frame),
        unreadable=sum(map(len, empty)) + int(np.count_nonzero(~good)),
        broken=tuple(_place(clips, clip, at) for clip, at in broken[:2]),
        within=kinds[0],
        between=kinds[1],
        across=kinds[2],
        examples=tuple(examples),
    )


def choose(clips: "Sequence[Clip]", limit: int | None) -> tuple[list[NDArray[np.int64]], int]:
    """Returns the frames of each clip to look at, ``limit`` at most in all, and the stride between them."""
    there = [np.flatnonzero(present(clip.frames)) for clip in clips]
    total, stride = sum(map(len, there)), 1
    if limit is not None and total > limit:
        stride = -(-NEIGHBOURS * total // limit)
        there = [frames[frames % stride < NEIGHBOURS] for frames in there]
        if (left := sum(map(len, there))) > limit:  # many clips shorter than the stride
            step = -(-left // limit)
            there = [frames if k % step == 0 else frames[:0] for k, frames in enumerate(there)]
            ends = np.cumsum([len(frames) for frames in there])
            there = [frames if end <= limit else frames[:0] for frames, end in zip(there, ends, strict=True)]
    return there, stride


def _sizes(clip: "Clip", frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) bytes of each image; -1 if it is no file that can be read."""
    sizes = np.full(len(frames), -1, np.int64)
    for k, frame in enumerate(frames.tolist()):
        try:
            sizes[k] = os.stat(clip.frames[frame]).st_size  # noqa: PTH116
        except OSError:
            continue  # stays -1, which is reported
    return sizes


def _digests(clip: "Clip", frames: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) 64 bits of the BLAKE2 digest of each image, never 0; 0 if it cannot be read."""
    from extract.decode import DecodeError, read_file

    digests = np.zeros(len(frames), np.uint64)
    for k, frame in enumerate(frames.tolist()):
        try:
            content = read_file(clip.frames[frame])
        except DecodeError:
            continue  # stays 0, which is reported
        digest = hashlib.blake2b(content, digest_size=8).digest()
        digests[k] = max(1, int.from_bytes(digest, "little"))
    return digests


def _groups(
    clips: "Sequence[Clip]",
    owner: NDArray[np.int64],
    frame: NDArray[np.int64],
    digest: NDArray[np.uint64],
) -> tuple[list[int], list[str]]:
    """Counts repeated images by where their others are: same clip, other clip, other split."""
    order = np.argsort(digest, kind="stable")
    owner, frame, digest = owner[order], frame[order], digest[order]
    starts = np.flatnonzero(np.r_[True, digest[1:] != digest[:-1]]) if len(digest) else np.zeros(0, np.int64)
    if not len(starts):
        return [0, 0, 0], []
    split = np.array([SPLITS.index(clip.split) for clip in clips])[owner]
    several_clips, several_splits = (
        np.minimum.reduceat(values, starts) != np.maximum.reduceat(values, starts)
        for values in (owner, split)
    )
    copies = np.diff(np.r_[starts, len(digest)]) - 1
    kind = np.where(several_splits, 2, np.where(several_clips, 1, 0))
    kinds = [int(copies[kind == k].sum()) for k in range(3)]
    gravest = max((k for k in range(3) if kinds[k]), default=0)
    examples = []
    for group in np.flatnonzero((kind == gravest) & (copies > 0))[:2]:
        first, end = starts[group], starts[group] + copies[group] + 1
        by = (frame, owner, split)[gravest]
        other = first + int(np.argmax(by[first:end] != by[first]))
        examples.append(
            f"{_place(clips, owner[first], frame[first])} is {_place(clips, owner[other], frame[other])}"
        )
    return kinds, examples


def _place(clips: "Sequence[Clip]", clip: int, frame: int) -> str:
    place = f"{clips[clip].split} {clips[clip].id}"
    path = clips[clip].frames[frame]
    if clips[clip].static and path is not None:  # the row of a shard says nothing to anybody
        return f"{place} image {path.name}"
    return f"{place} frame {frame}"
