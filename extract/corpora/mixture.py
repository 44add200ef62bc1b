"""One corpus made of several: training clips of all of them, scored clips of those that are declared.

Its parts have been read, and have the same label names already.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from extract.corpora.clip import Clip, Corpus, Split
from stores.errors import ConfigError, CorpusError

SHARED_PEOPLE = {"disfaplus": "disfa", "affwild2_mtl": "affwild2"}
"""Corpus -> the one whose people it shows, under the same names: DISFA+ has nine of DISFA's subjects, and the
multi-task releases of Aff-Wild2 are frames of its videos."""


@dataclass(frozen=True, slots=True)
class Part:
    """One corpus of a mixture.

    Attributes:
        corpus: with the labels of the experiment.
        weight: of its labelled frames in the losses, relative to 1.
        training_splits: its splits that are trained on.
    """

    corpus: Corpus
    weight: float = 1.0
    training_splits: tuple[Split, ...] = ("train",)


def mix(parts: Mapping[str, Part], score: Collection[str], edition: str) -> Corpus:
    """Returns the corpus of all parts; the clip ``c`` of the part ``p`` is ``p.c``.

    A part trains by its ``training_splits``. The validation split of the mixture is that of the parts in
    ``score``, and so is the test split; other clips are left out, since a score over corpora that were
    labelled by different rules means nothing.

    Subjects are known by corpus and name, so that one corpus in two parts cannot train on people that it
    scores.

    Args:
        parts: by a name without a dot.
        score: the parts that are scored.
        edition: of the experiment.

    Raises:
        ConfigError: no part, or a part that is unknown, trained and scored by the same clips, or of other
            label names.
        CorpusError: nothing to train on or to score.
    """
    if not parts:
        msg = "a mixture without parts: name at least one corpus under corpus.parts"
        raise ConfigError(msg)
    for name in score:
        if name not in parts:
            msg = f"corpus.score: no part {name!r}: expected one of {', '.join(parts)}"
            raise ConfigError(msg)
    first = next(iter(parts.values())).corpus
    clips: list[Clip] = []
    notes: list[str] = []
    for name, part in parts.items():
        corpus = part.corpus
        if (corpus.expression_names, corpus.au_names) != (first.expression_names, first.au_names):
            msg = f"part {name}: its labels have other names than those of the other parts: map them first"
            raise ConfigError(msg)
        if name in score and "validation" in part.training_splits:
            msg = f"part {name} is scored on its validation split, which it would be trained on: choose one"
            raise ConfigError(msg)
        taken = [_in_mixture(name, part, clip, scored=name in score) for clip in corpus.clips]
        clips += [clip for clip in taken if clip is not None]
        counts = Counter("left out" if clip is None else clip.split for clip in taken)
        shares = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        notes.append(f"part {name} ({corpus.name}, weight {part.weight:g}): {shares} clips")
        notes += [f"part {name}: {note}" for note in corpus.notes]
    if not any(clip.split == "train" for clip in clips):
        msg = f"no clip of the mixture is trained on: set training_splits of a part; {'; '.join(notes)}"
        raise CorpusError(msg)
    names = dict.fromkeys(part.corpus.name for part in parts.values())
    return Corpus(
        "+".join(names),
        Path(),
        edition,
        first.expression_names,
        first.au_names,
        tuple(sorted(clips, key=lambda clip: clip.id)),
        tuple(notes),
    )


def _in_mixture(name: str, part: Part, clip: Clip, *, scored: bool) -> Clip | None:
    """Returns the clip as the mixture has it, or None where it is neither trained on nor scored."""
    trained = clip.split in part.training_splits
    if not trained and (clip.split == "train" or not scored):
        return None
    corpus = clip.corpus or part.corpus.name
    people = SHARED_PEOPLE.get(corpus, corpus)
    return replace(
        clip,
        id=f"{name}.{clip.id}",
        split="train" if trained else clip.split,
        subject=f"{people}.{clip.subject}" if clip.subject else "",
        video="" if clip.static else f"{people}.{clip.video}",  # a shard is no video
        scored=scored,
        weight=clip.weight * part.weight,
        corpus=corpus,
    )
