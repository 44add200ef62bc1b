"""Folds of a sweep: which clips train and which are scored in each, from the records of the label store.

Two kinds of clips are never divided: those of the test split are in no fold, and those of the parts of a
mixture that are not scored train in all folds.
"""

import csv
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.folding import Folds, Unit
from stores import Record, Store
from stores.errors import ConfigError

ATTRIBUTES: dict[Unit, str] = {"person": "subject", "video": "video"}
"""Where the record of a label clip says which person, or which video, it is of."""


@dataclass(frozen=True, slots=True)
class Division:
    """One fold, or the official splits: every clip that its runs read.

    Attributes:
        fold: number of the fold, from 0; None for the official splits.
        name: what the file calls the fold, whom it leaves out, or its number as text.
        splits: clip -> ``train`` or ``validation``.
    """

    fold: int | None
    name: str
    splits: Mapping[str, str]


def divisions(folds: Folds, labels: Store, *, leaks: str = "refuse") -> list[Division]:
    """Returns the folds of a label store: the clips of each fold are the validation split of one division.

    Folds are dealt out by person, not by clip. ``GroupKFold`` with shuffling gives folds whose sizes differ
    by one person at most. ``StratifiedGroupKFold`` gives up equal sizes for equal classes. A stratified
    division is therefore ``StratifiedKFold`` over people, each with the expression of most of their frames.

    Args:
        folds: how to divide.
        labels: the label store.
        leaks: ``refuse`` a person in two folds, or ``report``, which lets it pass.

    Raises:
        ConfigError: too few people, an unknown person, or a file that does not fit the clips.
    """
    records = {clip: labels.record(clip) for clip in labels.clips()}
    own = official(records).splits
    divided = {clip: records[clip] for clip in own if records[clip].attrs.get("scored", True)}
    always = [clip for clip, split in own.items() if clip not in divided and split == "train"]
    if folds.file is not None:
        parts = _of_file(folds.file, divided)
    elif folds.leave_out is not None:
        parts = _members(divided, folds.leave_out)
        _require(len(parts), 2, folds.leave_out)
    else:
        parts = _of_count(folds, divided, lambda clips: _majority(labels, clips))
    if leaks == "refuse":
        _check_people(divided, parts)
    return [
        Division(
            number, name, dict.fromkeys([*always, *divided], "train") | dict.fromkeys(scored, "validation")
        )
        for number, (name, scored) in enumerate(parts.items())
    ]


def official(records: Mapping[str, Record]) -> Division:
    """Returns the division of label clips into the training and validation splits of their corpus."""
    splits = {clip: str(record.attrs["split"]) for clip, record in records.items()}
    return Division(
        None, "", {clip: split for clip, split in splits.items() if split in ("train", "validation")}
    )


def _require(found: int, count: int, by: Unit) -> None:
    if found < count:
        msg = (
            f"sweep.folds: {count} folds of {found} {by}s: choose at most {found} folds, of two or more {by}s"
        )
        raise ConfigError(msg)


def _members(records: Mapping[str, Record], by: Unit) -> dict[str, list[str]]:
    """Returns person or video -> clips, in the order of the names; refuses a clip of an unknown one."""
    found: dict[str, list[str]] = {}
    for clip, record in records.items():
        name = str(record.attrs.get(ATTRIBUTES[by], ""))
        if not name:
            msg = (
                f"sweep.folds: clip {clip}: its {by} is not known, so folds by {by} could divide one: set by:"
                " video, or give a file; after an update run facets features first"
            )
            raise ConfigError(msg)
        found.setdefault(name, []).append(clip)
    return dict(sorted(found.items()))


def _of_count(
    folds: Folds, records: Mapping[str, Record], majority: Callable[[Sequence[str]], int]
) -> dict[str, list[str]]:
    """Returns the clips of each fold, dealt by person or video."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    count = folds.count or 0
    members = _members(records, folds.by)
    _require(len(members), count, folds.by)
    names = np.array(list(members))
    if folds.stratify is None:
        dealt = [*GroupKFold(count, shuffle=True, random_state=folds.seed).split(names, groups=names)]
    else:
        classes = [majority(members[name]) for name in names]
        if max(Counter(classes).values()) < count:
            msg = (
                f"sweep.folds: {count} folds cannot be alike, for no expression is the main one of {count}"
                f" {folds.by}s: choose fewer folds, or leave out stratify"
            )
            raise ConfigError(msg)
        with warnings.catch_warnings():
            # Rarer expressions are in some folds alone, which nothing can change.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            dealt = [*StratifiedKFold(count, shuffle=True, random_state=folds.seed).split(names, classes)]
    return {
        str(number): [clip for name in names[scored] for clip in members[name]]
        for number, (_, scored) in enumerate(dealt)
    }


def _majority(labels: Store, clips: Sequence[str]) -> int:
    """Returns the expression that most labelled frames of some clips have; -1 if none is labelled."""
    values = np.concatenate([labels.read(clip, "expression") for clip in clips])
    known = values[values >= 0]
    return int(np.bincount(known).argmax()) if known.size else -1


def _of_file(path: Path, records: Mapping[str, Record]) -> dict[str, list[str]]:
    """Returns the clips of each fold of a file that names every clip once, folds sorted by name."""
    found: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"clip", "fold"} <= set(reader.fieldnames or ()):
                msg = f"{path}:1: found the columns {reader.fieldnames}, expected clip and fold"
                raise ConfigError(msg)
            for row in reader:
                clip, fold, line = (row["clip"] or "").strip(), (row["fold"] or "").strip(), reader.line_num
                if clip not in records:
                    msg = f"{path}:{line}: no training or validation clip {clip!r} in the label store"
                    raise ConfigError(msg)
                if clip in lines or not fold:
                    reason = f"is already on line {lines[clip]}" if clip in lines else "has no fold"
                    msg = f"{path}:{line}: clip {clip} {reason}: give every clip one fold"
                    raise ConfigError(msg)
                lines[clip] = line
                found.setdefault(fold, []).append(clip)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read sweep.folds.file {path}: {error}; give a CSV file with the columns clip and fold"
        raise ConfigError(msg) from error
    if missing := [clip for clip in records if clip not in lines]:
        msg = f"{path}: {len(missing)} clips have no fold, such as {missing[0]}: give every clip one"
        raise ConfigError(msg)
    if len(found) < 2:
        msg = f"{path}: {len(found)} folds: expected two or more"
        raise ConfigError(msg)

    def order(name: str) -> tuple[bool, int, str]:
        return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)

    return {name: found[name] for name in sorted(found, key=order)}


def _check_people(records: Mapping[str, Record], parts: Mapping[str, Sequence[str]]) -> None:
    """Refuses folds of which two hold the same person."""
    seen: dict[str, tuple[str, str]] = {}
    for fold, clips in parts.items():
        for clip in clips:
            person = str(records[clip].attrs.get("subject", ""))
            other, first = seen.setdefault(person, (fold, clip)) if person else (fold, clip)
            if other != fold:
                msg = (
                    f"sweep.folds: person {person} is in two folds, {other} ({first}) and {fold} ({clip}):"
                    " scores would be of people seen in training; divide by person, or set corpus.leaks:"
                    " report"
                )
                raise ConfigError(msg)
