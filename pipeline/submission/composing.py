"""Writes a submission: the rows that the organisers list, in their order, with the predictions of runs."""

import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.ledger import write_json
from pipeline.prediction.finished import is_static, predictor
from pipeline.submission.filling import Missing, fill
from pipeline.submission.formats import SUFFIX, Format
from pipeline.submission.lists import Listing
from pipeline.submission.sources import Source
from stores import Store
from stores.commit import replace_file
from stores.errors import ConfigError, StoreError
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)

Absent = Literal["refuse", "mean"]
"""Clips without any features are an error, or get in every row the mean prediction of all other rows."""

DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Written:
    """A submission that was written.

    Attributes:
        path: the file, or the folder of one file per clip.
        rows: rows of predictions.
        without_crop: rows of frames at which a run sees nothing, such as no crop, filled by the policy.
        beyond: rows after the last frame of a clip's features; they repeat its last row.
        absent: clips without features, filled by the mean.
    """

    path: Path
    rows: int
    without_crop: int
    beyond: int
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The rows of one clip: their places in the submission, and the frames they are of."""

    clip: str
    rows: NDArray[np.int64]
    frames: NDArray[np.int64]


def write_submission(
    form: Format,
    listing: Listing,
    sources: Sequence[Source],
    features: Mapping[str, Store],
    out: Path,
    *,
    missing: Missing = "interpolate",
    absent: Absent = "refuse",
    labels: Store | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Written:
    """Writes ``out/<edition>_<track>.txt``, or a folder of that name with ``<clip>.txt`` in it.

    Beside it, ``<edition>_<track>.json`` names list, runs and policies. V and A are cut to [-1, 1] and
    written with six decimals; of EXPR the most probable class; an AU is on from the threshold of its run.

    Args:
        form: of the submission.
        listing: its rows.
        sources: the runs, from ``open_runs``.
        features: the feature store of each stream that the runs read, from ``open_streams``.
        out: folder; made if absent.
        missing: policy for frames without a crop, or at which no stream of a run has anything. Images of a
            shard are independent, so no other image can stand in for one: theirs is always ``mask``.
        absent: policy for clips without features.
        labels: store that knows which clips are shards of independent images; None if none are.
        device: where models compute.
        progress: called as clips are done.

    Raises:
        ConfigError: a listed clip has no features, no length is known for it, or no frame has a crop; an
            image behind the end of its shard is listed; or the folder holds files of other clips.
        StoreError: a run's files or the features are damaged.
    """
    wanted = _wanted(form, listing, features)
    path = out / (form.name if form.clipwise else form.name + SUFFIX)
    lacking = tuple(one.clip for one in wanted if not _has(features, one.clip))
    _check_present(wanted, lacking, absent, features)
    if form.clipwise:
        _check_folder(path, listing)
    predictors = [(source, predictor(source.run, features, device, labels)) for source in sources]
    thresholds = np.array([value for source in sources for value in source.thresholds])
    total = sum(len(one.rows) for one in wanted)
    texts = [""] * total
    sums: dict[str, NDArray[np.float64]] = {}
    without_crop = beyond = 0
    for done, one in enumerate(wanted, 1):
        if one.clip in lacking:
            continue
        valid = _valid(features, one.clip)
        everywhere = np.ones(len(next(iter(valid.values()))), bool)
        policy = missing
        if is_static(one.clip, labels):
            _check_inside(one, len(everywhere), listing)
            policy = "mask"
        values: dict[str, NDArray[np.float64]] = {}
        for source, predict in predictors:
            sees = np.any([valid[stream] for stream in source.run.streams], axis=0)
            everywhere &= sees
            for task, array in source.pick(predict(one.clip)).items():
                values[task] = _filled(array, sees, one, policy)
                sums[task] = sums.get(task, 0.0) + values[task].sum(0)
        for row, text in zip(one.rows.tolist(), as_text(values, thresholds), strict=True):
            texts[row] = text
        inside = one.frames[one.frames < len(everywhere)]
        without_crop += int((~everywhere[inside]).sum())
        beyond += len(one.frames) - len(inside)
        progress("predict", len(wanted), done)
    if lacking:
        rows = np.concatenate([one.rows for one in wanted if one.clip in lacking])
        mean = {task: values[None] / (total - len(rows)) for task, values in sums.items()}
        text = as_text(mean, thresholds)[0]
        for row in rows.tolist():
            texts[row] = text
    _write(path, form, listing, wanted, texts)
    written = Written(path, total, without_crop, beyond, lacking)
    write_json(out / f"{form.name}.json", _record(form, listing, sources, missing, written))
    logger.info(
        "%s: %d rows; %d of frames without a crop (%s), %d after the last frame, %d clips without features",
        *(path, total, without_crop, missing, beyond, len(lacking)),
    )
    return written


def as_text(values: Mapping[str, NDArray[np.float64]], thresholds: NDArray[np.float64]) -> list[str]:
    """Returns the rows as they are written: valence, arousal, class, AUs, as far as there are.

    Args:
        values: (N, K) per task: V and A values, EXPR and AU probabilities.
        thresholds: (K,) probability from which an AU is on.
    """
    parts: list[list[str]] = []
    for task in ("V", "A"):
        if task in values:
            # + 0.0 turns a zero that was rounded from below into one without a sign.
            rounded = np.round(np.clip(values[task][:, 0], -1.0, 1.0), DECIMALS) + 0.0
            parts.append([f"{value:.{DECIMALS}f}" for value in rounded.tolist()])
    if "EXPR" in values:
        parts.append([str(index) for index in values["EXPR"].argmax(1).tolist()])
    if "AU" in values:
        flags = np.where(values["AU"] >= thresholds, "1", "0")
        parts.append([",".join(row) for row in flags.tolist()])
    return [",".join(row) for row in zip(*parts, strict=True)]


def _has(features: Mapping[str, Store], clip: str) -> bool:
    return all(store.has(clip) for store in features.values())


def _valid(features: Mapping[str, Store], clip: str) -> dict[str, NDArray[np.bool_]]:
    """Returns (T,) per stream: the frames of a clip at which it has something."""
    valid = {name: store.read(clip, "valid") for name, store in features.items()}
    lengths = {name: len(flags) for name, flags in valid.items()}
    if len(set(lengths.values())) > 1:
        msg = f"the streams of clip {clip} have different numbers of frames, {lengths}: extract them again"
        raise StoreError(msg)
    return valid


def _wanted(form: Format, listing: Listing, features: Mapping[str, Store]) -> list[_Wanted]:
    """Returns the rows of each clip, clips in the order in which the list first names them."""
    if not form.clipwise:
        rows: dict[str, list[int]] = {}
        frames: dict[str, list[int]] = {}
        for row, name in enumerate(listing.names):
            clip, _, file = name.partition("/")
            rows.setdefault(clip, []).append(row)
            frames.setdefault(clip, []).append(int(file.removesuffix(".jpg")) - 1)
        return [_Wanted(clip, np.array(rows[clip]), np.array(frames[clip])) for clip in rows]
    wanted, first = [], 0
    for clip in listing.names:
        length = listing.lengths.get(clip)
        if length is None:
            if not _has(features, clip):
                msg = (
                    f"{listing.path} does not say how many frames clip {clip} has, and there are no features"
                    " of it: give --lengths"
                )
                raise ConfigError(msg)
            length = next(iter(features.values())).record(clip).frames
        wanted.append(_Wanted(clip, np.arange(first, first + length), np.arange(length)))
        first += length
    return wanted


def _check_present(
    wanted: Sequence[_Wanted], lacking: Sequence[str], absent: Absent, features: Mapping[str, Store]
) -> None:
    if not lacking or (absent == "mean" and len(lacking) < len(wanted)):
        return
    some = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
    paths = " or ".join(str(store.path) for store in features.values())
    msg = (
        f"{len(lacking)} of {len(wanted)} listed clips have no features in {paths} ({some}): put"
        " their crops into the corpus and run facets features"
    )
    if len(lacking) < len(wanted):
        msg += ", or fill their rows with the mean prediction by --absent mean"
    raise ConfigError(msg)


def _check_folder(path: Path, listing: Listing) -> None:
    files = {clip + SUFFIX for clip in listing.names}
    others = (
        sorted(entry.name for entry in path.iterdir() if entry.name not in files) if path.is_dir() else []
    )
    if others:
        msg = f"{path} holds {others[0]}, which is of no listed clip: give another --out, or take it away"
        raise ConfigError(msg)


def _check_inside(one: _Wanted, images: int, listing: Listing) -> None:
    last = int(one.frames.max())
    if last >= images:
        msg = (
            f"{listing.path} asks for image {last + 1} of {one.clip}, a shard of {images} independent images:"
            " give the list of this corpus"
        )
        raise ConfigError(msg)


def _filled(
    values: NDArray[np.float64], valid: NDArray[np.bool_], one: _Wanted, missing: Missing
) -> NDArray[np.float64]:
    try:
        return fill(values, valid, int(one.frames.max()) + 1, missing)[one.frames]
    except ConfigError as error:
        error.add_note(f"in clip {one.clip}")
        raise


def _write(
    path: Path, form: Format, listing: Listing, wanted: Sequence[_Wanted], texts: Sequence[str]
) -> None:
    if form.clipwise:
        ends = ((one.clip, int(one.rows[0]), int(one.rows[-1]) + 1) for one in wanted)
        files = {path / (clip + SUFFIX): list(texts[first:end]) for clip, first, end in ends}
    else:
        files = {path: [f"{name},{text}" for name, text in zip(listing.names, texts, strict=True)]}
    for file, rows in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, ("\n".join([listing.header, *rows]) + "\n").encode())


def _record(
    form: Format, listing: Listing, sources: Sequence[Source], missing: Missing, written: Written
) -> dict[str, object]:
    return {
        "edition": form.track.rules.name,
        "track": form.track.name,
        "list": listing.path.name,
        "list_sha256": hashlib.sha256(listing.path.read_bytes()).hexdigest(),
        "runs": {source.run.run_id: list(source.columns) for source in sources},
        "au_thresholds": [value for source in sources for value in source.thresholds],
        "missing": missing,
        "facets": importlib.metadata.version("facets"),
        **asdict(written),
        "path": written.path.name,
    }
