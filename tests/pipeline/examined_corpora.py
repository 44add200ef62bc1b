"""Small corpora with crops on disk and known counts, for the tests of ``facets doctor``."""

import io
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from extract.corpora import Clip, Corpus, CropFrames, Labels
from pipeline.config import Config
from stores.editions import AU_12, EXPR_7

CONFIG = """\
name: examined
corpus: {kind: affwild2, root: ROOT, edition: abaw2}
streams: {face: {backbone: narrow_resnet50, weights: rendered, batch_size: 4, device: cpu}}
training: {device: cpu}
sweep:
  rows: [{tasks: [V]}, {tasks: [AU, EXPR], attention: true}]
  seeds: [0, 1]
table: {edition: abaw2}
"""


def configure(root, **sections):
    raw = yaml.safe_load(CONFIG.replace("ROOT", str(root)))
    for name, changes in sections.items():
        raw[name] |= changes
    if raw["corpus"]["kind"] == "mixture":
        del raw["corpus"]["root"]
    return Config.model_validate(raw)


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def clip(name, split, present, *, root=None, subject=None, classes=(), aus=None, va=None, **more):
    """A clip of ``len(present)`` frames; labels that are not given are unknown."""
    frames = len(present)
    labels = Labels.unknown(frames, len(AU_12))
    labels.expression[: len(classes)] = classes
    if aus is not None:
        labels.au[: len(aus)] = aus
    if va is not None:
        labels.valence[: len(va)] = labels.arousal[: len(va)] = va
    folder = (root or Path("/nowhere")) / name
    if root is not None:
        folder.mkdir(parents=True, exist_ok=True)
    crops = CropFrames(folder, np.array(present, bool))
    return Clip(name, split, crops, labels, 30.0, name if subject is None else subject, **more)


def whole(name, split, frames=14, **more):
    """A clip with every class and every AU, active and not."""
    return clip(
        name,
        split,
        [True] * frames,
        classes=np.arange(frames) % 7,
        aus=np.arange(frames)[:, None] % 2 * np.ones(12, int),
        va=np.linspace(-1, 1, frames),
        **more,
    )


def corpus(*clips, notes=(), name="affwild2"):
    ordered = tuple(sorted(clips, key=lambda clip: clip.id))
    return Corpus(name, Path("/nowhere"), "abaw2", EXPR_7, AU_12, ordered, tuple(notes))


def tree(root, clips, *, repeat=()):
    """Writes an Aff-Wild2 tree of abaw2: ``clips`` maps ids to (split folder, frames with a crop, rows)."""
    for number, (name, (split, present, rows)) in enumerate(clips.items()):
        folder = root / "cropped_aligned" / name
        folder.mkdir(parents=True)
        for frame in present:
            (folder / f"{frame + 1:05d}.jpg").write_bytes(jpeg(1000 * number + frame))
        lines = {
            "VA": ["valence,arousal", *(f"{k / rows:.2f},0.5" if k else "-0.1,-0.2" for k in range(rows))],
            "EXPR": [",".join(EXPR_7), *(str(k % 7) for k in range(rows))],
            "AU": [",".join(AU_12), *(",".join([str(k % 2)] * 12) for k in range(rows))],
        }
        for task, content in lines.items():
            path = root / "annotations" / f"{task}_Set" / split / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([*content, ""]))
    for (source, at), (target, to) in repeat:
        content = (root / "cropped_aligned" / source / f"{at + 1:05d}.jpg").read_bytes()
        (root / "cropped_aligned" / target / f"{to + 1:05d}.jpg").write_bytes(content)
    return root
