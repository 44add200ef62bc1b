"""Makes small corpora in memory, so that a test says only what differs."""

from pathlib import Path

from extract.corpora import Clip, Corpus, Labels


def make_clip(clip_id, split="train", frames=4, expression=None, au=None, aus=0, **changes):
    labels = Labels.unknown(frames, aus)
    if expression is not None:
        labels.expression[:] = expression
    if au is not None:
        labels.au[:] = au
    paths = tuple(Path(f"/nowhere/{clip_id}/{i:05d}.jpg") for i in range(frames))
    facts = {"fps": 30.0, "subject": clip_id} | changes
    return Clip(clip_id, split, paths, labels, **facts)


def make_corpus(clips, expressions=(), aus=(), name="made"):
    return Corpus(name, Path("/nowhere"), "", tuple(expressions), tuple(aus), tuple(clips))
