"""Splits of a corpus: folds, or its test split to validate on, and the check that nobody is on both."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from extract.corpora.clip import Clip, Corpus
from stores.errors import ConfigError, CorpusError

logger = logging.getLogger(__name__)

Unit = Literal["subject", "video"]


@dataclass(frozen=True, slots=True)
class Folds:
    """A k-fold split.

    Attributes:
        kfold: number of folds, at least 2.
        fold: the one that is the validation split, from 0; the others are the training split.
        by: what is never divided.
        seed: another seed, other folds.
    """

    kfold: int
    fold: int
    by: Unit = "subject"
    seed: int = 0

    def of(self, group: str) -> int:
        """Returns the fold of a subject or video: a function of its name and the seed alone.

        So clips that come or go never move others to another fold; the price is folds of unequal size.
        """
        digest = hashlib.sha256(f"{self.seed}\n{group}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.kfold


def group(clip: Clip, by: Unit) -> str:
    """Returns the subject or the video of a clip.

    Raises:
        ConfigError: its subject is asked for and not known.
    """
    if by == "video":
        return clip.video
    if not clip.subject:
        msg = (
            f"clip {clip.id}: its subject is not known, so nothing can be split by subject: set by: video, as"
            " in {kfold: 5, fold: 0, by: video}"
        )
        raise ConfigError(msg)
    return clip.subject


def kfold(corpus: Corpus, folds: Folds) -> Corpus:
    """Divides the training and validation clips anew; clips of the test split stay there.

    Raises:
        ConfigError: a clip without a subject, or a fold without any clip.
    """
    members: dict[int, set[str]] = {fold: set() for fold in range(folds.kfold)}
    clips = []
    for clip in corpus.clips:
        if clip.split == "test":
            clips.append(clip)
            continue
        name = group(clip, folds.by)
        fold = folds.of(name)
        members[fold].add(name)
        clips.append(replace(clip, split="validation" if fold == folds.fold else "train"))
    sizes = ", ".join(str(len(names)) for names in members.values())
    if not all(members.values()):
        msg = (
            f"{corpus.name}: {folds.kfold} folds by {folds.by} have {sizes} {folds.by}s, one is empty: choose"
            " fewer folds, or another corpus.split.seed"
        )
        raise ConfigError(msg)
    note = (
        f"split in {folds.kfold} folds by {folds.by} of {sizes} {folds.by}s (seed {folds.seed}); validation"
        f" is fold {folds.fold}"
    )
    logger.info("%s: %s", corpus.name, note)
    return replace(corpus, clips=tuple(clips), notes=(*corpus.notes, note))


def validate_on_test(corpus: Corpus) -> Corpus:
    """Makes the official test split the validation split, where the release has none of that name (RAF-DB).

    That is the custom of the field for such corpora, and it is optimistic: the best epoch is chosen on what
    is scored.

    Raises:
        ConfigError: there is a validation split already, or no label in the test split.
    """
    if any(clip.split == "validation" for clip in corpus.clips):
        msg = f"{corpus.name} has a validation split: leave out split: {{validation: test}}, or choose folds"
        raise ConfigError(msg)
    tested = [clip for clip in corpus.clips if clip.split == "test"]
    if not any(map(_is_labelled, tested)):
        msg = (
            f"{corpus.name} has no labelled test split ({len(tested)} test clips) to take for validation: "
            "choose folds, such as split: {kfold: 5, fold: 0}"
        )
        raise ConfigError(msg)
    note = (
        f"the official test split is the validation split here ({len(tested)} clips): scores are optimistic, "
        "for the best epoch is chosen on it"
    )
    logger.info("%s: %s", corpus.name, note)
    clips = tuple(
        replace(clip, split="validation") if clip.split == "test" else clip for clip in corpus.clips
    )
    return replace(corpus, clips=clips, notes=(*corpus.notes, note))


def divided(clips: Sequence[Clip], by: Unit = "subject") -> dict[str, dict[str, str]]:
    """Returns subject or video -> split -> one of its clips, where labelled clips are in several splits.

    A clip without a subject counts under its video. Test clips without labels are scored by nobody here.
    """
    found: dict[tuple[bool, str], dict[str, str]] = defaultdict(dict)  # a subject may be called as a video is
    for clip in clips:
        if clip.split != "test" or _is_labelled(clip):
            known = by == "subject" and bool(clip.subject)
            found[known, clip.subject if known else clip.video].setdefault(clip.split, clip.id)
    return {name: splits for (_, name), splits in sorted(found.items()) if len(splits) > 1}


def check(corpus: Corpus, by: Unit = "subject") -> None:
    """Refuses a corpus in which a subject, or a video, is in two splits.

    Raises:
        CorpusError: names some of them, their clips, and the remedy.
    """
    leaks = divided(corpus.clips, by)
    if leaks:
        some = "; ".join(
            f"{name} in {' and '.join(f'{split} ({clip})' for split, clip in splits.items())}"
            for name, splits in list(leaks.items())[:3]
        )
        msg = (
            f"{corpus.name}: {len(leaks)} {by}s are in two splits, such as {some}: scores would be of people"
            " seen in training; set corpus.split: {kfold: 5, fold: 0}, of a mixture the same split in all"
            " parts that show them, or corpus.leaks: report if it must be"
        )
        raise CorpusError(msg)


def _is_labelled(clip: Clip) -> bool:
    labels = clip.labels
    known = (np.isfinite(labels.valence), np.isfinite(labels.arousal), labels.expression >= 0, labels.au >= 0)
    return any(bool(cells.any()) for cells in known)
