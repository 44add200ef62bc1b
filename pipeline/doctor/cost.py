"""The cost of an experiment: time of the extraction, measured with a few crops, and room on the disk.

The time is that of this machine as busy as it is now.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import stores
from pipeline.config import Config, Features
from pipeline.doctor.census import present
from pipeline.doctor.finding import Finding
from pipeline.rows import sweep_rows
from pipeline.workdir import WorkDir
from stores.errors import FacetsError
from stores.layout import ArrayLayout

if TYPE_CHECKING:
    from extract.backbones.backbone import Backbone
    from extract.corpora import Clip, Corpus

LONG = 12 * 3600.0
"""Seconds of extraction from which other ways are worth a hint."""


def check_extraction(
    settings: Features, path: Path, corpus: "Corpus", load: "Callable[[], Backbone]"
) -> Finding:
    """How long the crops that have no features in the store at ``path`` yet will take.

    Only if there are such crops, ``load`` is called for the network.
    """
    from extract.extracted import duration

    done = _kept(path)
    pending = [clip for clip in corpus.clips if clip.id not in done]
    crops = sum(int(np.count_nonzero(present(clip.frames))) for clip in pending)
    there = len(corpus.clips) - len(pending)
    found = f"{crops:,} crops of {len(pending):,} clips; {there:,} clips have features"
    if not crops:
        return Finding("extraction", "PASS", found)
    feed, model, measured, device = measure(load(), pending, settings)
    rate, stage = min((feed, "the decoder"), (model, "the model"))
    seconds = crops / rate
    found += f"; about {duration(seconds)} on {device}, at {rate:,.0f} crops/s of {stage}"
    found += f" (measured with {measured})"
    if seconds > LONG:
        remedy = "use --device cuda, or --workers and --scheduler for several machines; it can be interrupted"
        return Finding("extraction", "WARN", found, remedy)
    return Finding("extraction", "PASS", found)


def check_given_features(place: WorkDir, name: str, corpus: "Corpus") -> Finding:
    """The feature store that was given has every training and validation clip, at full length."""
    path = place.streams[name]
    store = stores.open(path)
    read = [clip for clip in corpus.clips if clip.split != "test"]
    lacking = [clip.id for clip in read if not store.has(clip.id)]
    other = [c.id for c in read if store.has(c.id) and store.record(c.id).frames != len(c.frames)]
    found = f"{len(read) - len(lacking):,} of {len(read):,} clips have features in {path}"
    if wrong := [*lacking, *other]:
        found += f", {len(other):,} of another number of frames; wrong is {wrong[0]}"
        remedy = f"run facets import SOURCE {path} --like {place.labels}"
        return Finding("extraction", "FAIL", found, remedy)
    return Finding("extraction", "PASS", found)


def measure(
    backbone: "Backbone", clips: "Sequence[Clip]", settings: Features
) -> tuple[float, float, int, str]:
    """Measures one batch of crops from all over the clips, uncompiled: reading, decoding, the network.

    Returns:
        Crops per second that are decoded, those through the network, the number measured, and the device.

    Raises:
        ConfigError: no such device or precision.
        FacetsError: not one of the crops can be decoded.
    """
    import torch

    from extract.decode import DecodeError, decode_file
    from extract.forward import Network
    from pipeline.device import resolve_device

    device = resolve_device(settings.device)
    threads = min(16, os.cpu_count() or 1) if device.type == "cuda" else 1  # as the engine does
    pixels = []
    began = time.perf_counter()
    for clip, frame in spread(clips, settings.batch_size):
        path = clip.frames[frame]
        try:
            if path is not None:
                pixels.append(decode_file(path, backbone.image_size, backbone.interpolation))
        except DecodeError as error:
            broken = str(error)
    feed = (time.perf_counter() - began) / max(1, len(pixels))
    if not pixels:
        msg = f"no crop of a sample can be decoded, the last: {broken}"
        raise FacetsError(msg)
    batch = torch.from_numpy(np.stack(pixels))
    network = Network(backbone, device, settings.precision)
    network.start(batch, len(batch)).result()  # the first time kernels are prepared
    began = time.perf_counter()
    network.start(batch, len(batch)).result()
    model = (time.perf_counter() - began) / len(batch)
    return threads / feed, 1 / model, len(pixels), network.compute["device"]


def spread(clips: "Sequence[Clip]", count: int) -> "list[tuple[Clip, int]]":
    """Returns ``count`` frames with a crop, or all if there are fewer, evenly spread over the clips."""
    ends = np.cumsum([np.count_nonzero(present(clip.frames)) for clip in clips])
    total = int(ends[-1]) if len(ends) else 0
    chosen = []
    for position in np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64)).tolist():
        k = int(np.searchsorted(ends, position, side="right"))
        before = int(ends[k - 1]) if k else 0
        chosen.append((clips[k], int(np.flatnonzero(present(clips[k].frames))[position - before])))
    return chosen


def room(config: Config, place: WorkDir, corpus: "Corpus", dims: Mapping[str, int | None]) -> dict[str, int]:
    """Returns the bytes that the experiment will write: what -> bytes, exact but for the files' own heads.

    Args:
        config: the experiment.
        place: its paths; clips that are in its stores take no more room.
        corpus: its clips.
        dims: stream -> length of its vectors; None if features are there already, or nobody knows.
    """
    classes, aus = len(corpus.expression_names), len(corpus.au_names)
    outputs = {"V": 1, "A": 1, "AU": aus, "EXPR": classes}
    rows = sweep_rows(config) if config.sweep else ()
    seeds = len(config.sweep.seeds) if config.sweep else 0
    scored = sum(len(clip.frames) for clip in corpus.clips if clip.split == "validation")
    predicted = sum(outputs[task] for row in rows for task in row.tasks)
    new = {
        "labels": _padded(
            _lengths(place.labels, corpus),
            [("float32", 1), ("float32", 1), ("int8", 1), ("int8", aus)],
        ),
        f"predictions of {len(rows) * seeds} runs": scored * predicted * seeds * 4,
    }
    features = sum(
        _padded(
            _lengths(place.streams[name], corpus),
            [(config.streams[name].dtype, dim), ("int32", 1), ("bool", 1)],
        )
        for name, dim in dims.items()
        if dim is not None
    )
    return {"features": features, **new} if any(dims.values()) else new


def _kept(path: Path) -> set[str]:
    """Returns the clips of a store; none if it is not there yet."""
    return set(stores.open(path).clips()) if (path / "store.json").exists() else set()


def _lengths(path: Path, corpus: "Corpus") -> Counter[int]:
    """Returns number of frames -> clips of that length that the store at ``path`` does not have."""
    kept = _kept(path)
    return Counter(len(clip.frames) for clip in corpus.clips if clip.id not in kept)


def _padded(lengths: Mapping[int, int], arrays: Sequence[tuple[str, int]]) -> int:
    """Returns the bytes of arrays of these types and columns, for clips of these lengths."""
    return sum(
        clips * ArrayLayout((frames, columns), dtype, ("frame", "column")).padded_bytes
        for frames, clips in lengths.items()
        for dtype, columns in arrays
        if frames and columns
    )


def sizes(room: Mapping[str, int]) -> str:
    """Returns bytes by name as text."""
    return " + ".join(f"{name} {amount(size)}" for name, size in room.items())


def amount(size: float) -> str:
    """Returns a number of bytes as people say it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
