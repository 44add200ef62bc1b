"""Maps the classes and action units of a corpus to those of an experiment: by name, never by position.

Not a guess: a label that neither its name nor a rule takes to the experiment's list becomes unknown, and the
report says so; an action unit that a corpus does not annotate is unknown there, never absent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.corpora.clip import Clip, Corpus, Labels
from stores.documents import Json
from stores.editions import AU_8, AU_12, EXPR_8
from stores.errors import ConfigError, nearest

COMPOUNDS = (
    "Happily Surprised",
    "Happily Disgusted",
    "Happily Fearful",
    "Happily Sad",
    "Sadly Fearful",
    "Sadly Angry",
    "Sadly Surprised",
    "Sadly Disgusted",
    "Fearfully Angry",
    "Fearfully Surprised",
    "Fearfully Disgusted",
    "Angrily Surprised",
    "Angrily Disgusted",
    "Disgustedly Surprised",
)
"""Compound expressions of C-EXPR-DB, RAF-DB and RAF-CE."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "Neutral": ("neutral", "NEUTRAL"),
    "Anger": ("anger", "ANGER", "Angry", "angry", "ANGRER"),  # the last is a folder of ABAW-4
    "Disgust": ("disgust", "DISGUST", "Disgusted", "disgusted"),
    "Fear": ("fear", "FEAR", "Fearful", "fearful"),
    "Happiness": ("happiness", "HAPPINESS", "Happy", "happy"),
    "Sadness": ("sadness", "SADNESS", "Sad", "sad"),
    "Surprise": ("surprise", "SURPRISE", "Surprised", "surprised"),
    "Other": ("other", "OTHER", "Others"),
    "Contempt": ("contempt", "CONTEMPT"),
    **{name: (name.replace(" ", "_"), name.capitalize(), name.lower()) for name in COMPOUNDS},
    **{f"AU{unit}": (f"AU0{unit}",) for unit in range(1, 10)},
}
"""Every spelling that stands for a name, exactly as written in some corpus; all others are other names."""

SYNONYMS = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}

Rules = Mapping[str, str | None]
"""Name in a corpus -> name in the experiment's list, or None for unknown. A rule outranks an equal name."""

Reason = Literal["same name", "synonym", "rule", "not in the list"]


@dataclass(frozen=True, slots=True)
class NameMapping:
    """What became of one class or action unit of a corpus.

    Attributes:
        source: its name in the corpus.
        target: its name in the experiment; None where its labels became unknown.
        reason: why.
        labels: frames of the class, or known cells of the action unit.
    """

    source: str
    target: str | None
    reason: Reason
    labels: int


@dataclass(frozen=True, slots=True)
class MappingReport:
    """How the labels of one corpus were mapped.

    Attributes:
        corpus: name of the corpus.
        expressions: one entry per class of the corpus.
        aus: one entry per action unit of the corpus.
        absent_expressions: classes of the experiment that no class of the corpus is mapped to.
        absent_aus: action units of the experiment that the corpus leaves unknown.
    """

    corpus: str
    expressions: tuple[NameMapping, ...]
    aus: tuple[NameMapping, ...]
    absent_expressions: tuple[str, ...]
    absent_aus: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """Returns the report as a JSON object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns what a person should know, one sentence each; names that were simply kept are counted.

        Nothing of classes or action units of which all were kept and none is absent; of a corpus that has
        none at all, that it has none.
        """
        lines = []
        for noun, mappings, absent in (
            ("expressions", self.expressions, self.absent_expressions),
            ("action units", self.aus, self.absent_aus),
        ):
            if not mappings:
                lines += [f"no {noun}"] if absent else []
                continue
            same = [m.source for m in mappings if m.reason == "same name"]
            renamed = [f"{m.source} -> {m.target}" for m in mappings if m.target and m.source not in same]
            dropped = [f"{m.source} ({m.labels:,} labels, {m.reason})" for m in mappings if m.target is None]
            parts = [f"{len(same)} of {len(mappings)} {noun} by the same name"]
            parts += [f"mapped {', '.join(renamed)}"] if renamed else []
            parts += [f"made unknown {', '.join(dropped)}"] if dropped else []
            parts += [f"not annotated {', '.join(absent)}"] if absent else []
            if len(parts) > 1:
                lines.append("; ".join(parts))
        return lines


def canonical(name: str) -> str:
    """Returns the one name that stands for all spellings of ``name``; an unlisted name stands for itself."""
    return SYNONYMS.get(name, name)


def check_names(corpora: Iterable[Corpus], expressions: Sequence[str], aus: Sequence[str]) -> None:
    """Checks the lists of an experiment.

    Raises:
        ConfigError: a name that neither the editions, the table of spellings nor any of the corpora knows, or
            one that is listed twice; names the nearest.
    """
    own_expressions, own_aus = _vocabularies(corpora)
    units = {name for name in SPELLINGS if name.startswith("AU")} | {*AU_8, *AU_12} | own_aus
    classes = (SPELLINGS.keys() | own_expressions | {*EXPR_8}) - units
    for key, names, known in (("expressions", expressions, classes), ("aus", aus, units)):
        plain = [canonical(name) for name in names]
        for name, written in zip(plain, names, strict=True):
            if name not in known:
                msg = f"corpus.{key}: unknown name {written!r}, {nearest(written, sorted(known))}"
                raise ConfigError(msg)
            if plain.count(name) > 1:
                msg = f"corpus.{key}: {written!r} is listed twice, in this or another spelling: keep one"
                raise ConfigError(msg)


def check_rules(
    corpora: Iterable[Corpus], expressions: Sequence[str], aus: Sequence[str], rules: Rules
) -> None:
    """Checks the rules of an experiment against the corpora that they are for.

    Raises:
        ConfigError: a rule for a name that none of the corpora annotates, or to one that is not in the list;
            names the nearest.
    """
    own_expressions, own_aus = _vocabularies(corpora)
    for source, target in _plain(rules).items():
        if source not in own_expressions | own_aus:
            known = own_expressions | own_aus
            msg = f"corpus.mapping: no corpus annotates {source!r}, {nearest(source, sorted(known))}"
            raise ConfigError(msg)
        if source in own_expressions:
            _check_target(source, target, expressions)
        if source in own_aus:
            _check_target(source, target, aus)


def to_space(
    corpus: Corpus, expressions: Sequence[str], aus: Sequence[str], rules: Rules
) -> tuple[Corpus, MappingReport]:
    """Returns the corpus with the labels of an experiment, and what was done to them.

    A class goes where a rule says, else to the class of the same name, else to unknown. Where several action
    units of the corpus go to one, it is present if one of them is, absent if all are, and else unknown.

    Args:
        corpus: with its native vocabulary.
        expressions: class names of the experiment; index = value in the result.
        aus: action unit names of the experiment; index = column of the result.
        rules: for names of any corpus; those that this one does not annotate have no effect here.

    Raises:
        ConfigError: a rule goes to a name that is not in the list; names the nearest.
    """
    plain = _plain(rules)
    classes = _connect(corpus.expression_names, expressions, plain)
    units = _connect(corpus.au_names, aus, plain)
    frames = np.zeros(len(classes), np.int64)
    cells = np.zeros(len(units), np.int64)
    # Index -1, unknown, is the last entry and stays -1.
    lookup = np.array([*(-1 if t is None else t for t, _ in classes), -1], np.int8)
    columns: list[list[int]] = [[] for _ in aus]
    for column, (target, _) in enumerate(units):
        if target is not None:
            columns[target].append(column)
    clips: list[Clip] = []
    for clip in corpus.clips:
        known = clip.labels.expression[clip.labels.expression >= 0]
        frames += np.bincount(known, minlength=len(classes))
        cells += np.count_nonzero(clip.labels.au >= 0, axis=0)
        labels = Labels(
            clip.labels.valence,
            clip.labels.arousal,
            lookup[clip.labels.expression],
            _merge(clip.labels.au, columns),
        )
        clips.append(replace(clip, labels=labels))
    report = MappingReport(
        corpus.name,
        _report(corpus.expression_names, classes, expressions, frames),
        _report(corpus.au_names, units, aus, cells),
        _absent(classes, expressions),
        _absent(units, aus),
    )
    mapped = replace(corpus, expression_names=tuple(expressions), au_names=tuple(aus), clips=tuple(clips))
    return mapped, report


def overruled(rules: Rules, by: Rules) -> dict[str, str | None]:
    """Returns ``rules``, and ``by`` where both speak of one name, in whatever spelling."""
    return {**_plain(rules), **_plain(by)}


def _vocabularies(corpora: Iterable[Corpus]) -> tuple[set[str], set[str]]:
    expressions: set[str] = set()
    aus: set[str] = set()
    for corpus in corpora:
        expressions |= set(map(canonical, corpus.expression_names))
        aus |= set(map(canonical, corpus.au_names))
    return expressions, aus


Connection = tuple[int | None, Reason]


def _connect(sources: Sequence[str], targets: Sequence[str], rules: Rules) -> list[Connection]:
    """Returns for each source the index of its target, None for unknown, and why."""
    index = {canonical(name): position for position, name in enumerate(targets)}
    found: list[Connection] = []
    for source in sources:
        name = canonical(source)
        if name in rules:
            target = rules[name]
            _check_target(source, target, targets)
            found.append((None if target is None else index[target], "rule"))
        elif name in index:
            found.append((index[name], "same name" if source == targets[index[name]] else "synonym"))
        else:
            found.append((None, "not in the list"))
    return found


def _merge(au: NDArray[np.int8], columns: Sequence[Sequence[int]]) -> NDArray[np.int8]:
    merged = np.full((len(au), len(columns)), -1, np.int8)
    for target, sources in enumerate(columns):
        if len(sources) == 1:
            merged[:, target] = au[:, sources[0]]
        elif sources:
            cells = au[:, list(sources)]
            least = cells.min(axis=1)
            merged[:, target] = np.where((cells == 1).any(axis=1), 1, least)
    return merged


def _report(
    sources: Sequence[str],
    connections: Sequence[Connection],
    targets: Sequence[str],
    labels: NDArray[np.int64],
) -> tuple[NameMapping, ...]:
    return tuple(
        NameMapping(source, None if target is None else targets[target], reason, int(count))
        for source, (target, reason), count in zip(sources, connections, labels, strict=True)
    )


def _absent(connections: Sequence[Connection], targets: Sequence[str]) -> tuple[str, ...]:
    reached = {target for target, _ in connections}
    return tuple(name for position, name in enumerate(targets) if position not in reached)


def _plain(rules: Rules) -> dict[str, str | None]:
    plain: dict[str, str | None] = {}
    for source, target in rules.items():
        name = canonical(source)
        if name in plain:
            msg = f"corpus.mapping: two rules for {name!r}, in different spellings: keep one"
            raise ConfigError(msg)
        plain[name] = None if target is None else canonical(target)
    return plain


def _check_target(source: str, target: str | None, targets: Sequence[str]) -> None:
    if target is not None and target not in map(canonical, targets):
        hint = nearest(target, sorted(targets))
        msg = f"corpus.mapping: {source!r} goes to {target!r}, which is not in the list, {hint}"
        raise ConfigError(msg)
