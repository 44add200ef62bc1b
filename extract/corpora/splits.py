"""Splits of a corpus: its test split to validate on, and the check that nobody is in two of them."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from extract.corpora.clip import Clip, Corpus
from stores.errors import ConfigError, CorpusError

logger = logging.getLogger(__name__)

Unit = Literal["subject", "video"]


def validate_on_test(corpus: Corpus) -> Corpus:
    """Makes the official test split the validation split, where the release has none of that name (RAF-DB).

    That is the custom of the field for such corpora, and it is optimistic: the best epoch is chosen on what
    is scored.

    Raises:
        ConfigError: there is a validation split already, or no label in the test split.
    """
    if any(clip.split == "validation" for clip in corpus.clips):
        msg = f"{corpus.name} has a validation split: leave out split: {{validation: test}}"
        raise ConfigError(msg)
    tested = [clip for clip in corpus.clips if clip.split == "test"]
    if not any(map(_is_labelled, tested)):
        msg = (
            f"{corpus.name} has no labelled test split ({len(tested)} test clips) to take for validation: "
            "choose folds: sweep.folds: {count: 5}"
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
            " seen in training; set sweep.folds: {count: 5}, or corpus.leaks: report if it must be"
        )
        raise CorpusError(msg)


def _is_labelled(clip: Clip) -> bool:
    labels = clip.labels
    known = (np.isfinite(labels.valence), np.isfinite(labels.arousal), labels.expression >= 0, labels.au >= 0)
    return any(bool(cells.any()) for cells in known)
