"""Builds small Aff-Wild2 trees by hand, so that a test places every defect on purpose.

The crops are noise.
"""

import io

import numpy as np
from PIL import Image

VA = "valence,arousal"
EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
AU = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def make_jpeg(seed=0, size=(112, 112), mode="RGB", **options):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


class Tree:
    """Builds an Aff-Wild2 tree by hand."""

    def __init__(self, root):
        self.root = root
        (root / "cropped_aligned").mkdir(parents=True)

    def crops(self, clip, numbers, size=(112, 112)):
        folder = self.root / "cropped_aligned" / clip
        folder.mkdir(exist_ok=True)
        for number in numbers:
            seed = sum(clip.encode()) * 1000 + number
            (folder / f"{number:05d}.jpg").write_bytes(make_jpeg(seed, size))
        return folder

    def annotate(self, task, split, clip, rows, header=None, newline="\n", prefix=b""):
        path = self.root / "annotations" / f"{task}_Set" / split / f"{clip}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"VA": VA, "EXPR": EXPR, "AU": AU}[task] if header is None else header
        path.write_bytes(prefix + newline.join([header, *map(str, rows), ""]).encode())
        return path

    def whole(self, clip="video1", split="Train_Set", frames=4):
        """A clip with every frame and every label."""
        self.crops(clip, range(1, frames + 1))
        self.annotate("VA", split, clip, ["0.5,-0.25"] * frames)
        self.annotate("EXPR", split, clip, [4] * frames)
        self.annotate("AU", split, clip, ["1,0,0,1,0,0,1,0,0,0,1,0"] * frames)
        return clip
