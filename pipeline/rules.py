"""The rules of an ABAW edition: labels of another track, Aff-Wild2 itself, weights that saw it are forbidden.

This proves nothing: it reads the statements of stores and weights about themselves. Sources: the rules of
the challenges (CVPR2022 to ECCV2024, ECCV2026) as the public entries quote them. That ABAW-8 and 10 keep the
rule of ABAW-6 is assumed. Of ABAW-1 and 2 no such rule is known, so none is applied.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.plan import Plan
from stores.errors import ConfigError

UNI_TASK = ("abaw3", "abaw5", "abaw6", "abaw8", "abaw10")
"""Editions with a track for each of VA, EXPR and AU: of Aff-Wild2's labels, an entry may use its track's."""
MULTI_TASK = ("abaw3", "abaw4", "abaw7", "abaw11")
"""Editions with a multi-task track, on static frames: without the videos, A/V Aff-Wild2, or what saw them."""
TRACKS = {"V": "VA", "A": "VA", "AU": "AU", "EXPR": "EXPR"}

VIDEOS, FRAMES = "affwild2", "affwild2_mtl"
"""Names of the corpora: A/V Aff-Wild2, and the static frames of it that multi-task tracks release."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that the rules of an edition have against a combination of tasks.

    Attributes:
        tasks: the combination.
        forbidden: whether the rules forbid it; if not, nothing here can tell that they do not.
        reason: a phrase.
    """

    tasks: tuple[str, ...]
    forbidden: bool
    reason: str


def breaches(
    edition: str,
    combinations: Iterable[tuple[str, ...]],
    trained: Mapping[str, Mapping[str, int]],
    weights_trained_on: Iterable[str],
) -> list[Breach]:
    """Returns the objections of the rules of ``edition`` to each combination of tasks.

    In an edition with both kinds of tracks, a combination of several is an entry to the multi-task one.

    Args:
        edition: whose rules.
        combinations: tasks that are trained together.
        trained: corpus -> task -> frames of the training split with a label of it.
        weights_trained_on: corpora that the weights of the backbone have seen.
    """
    found: list[Breach] = []
    seen = tuple(weights_trained_on)
    for tasks in dict.fromkeys(combinations):
        tracks = dict.fromkeys(TRACKS[task] for task in tasks if task in TRACKS)
        if edition in MULTI_TASK and (edition not in UNI_TASK or len(tracks) > 1):
            found += _multi_task(tasks, trained, seen)
        elif edition in UNI_TASK:
            found += _uni_task(tasks, trained, seen)
    return found


def found_breaches(config: Config, plan: Plan) -> list[Breach]:
    """Returns the objections of the rules of the table's edition to the rows of a plan."""
    if config.table.rules == "ignore":
        return []
    facts = plan.provenance
    combinations = [run.tasks for run in plan.runs]
    found = [
        breach
        for spec in facts.streams.values()
        for breach in breaches(config.table.edition, combinations, facts.trained, spec.weights_trained_on)
    ]
    return list(dict.fromkeys(found))


def refuse(edition: str, found: Iterable[Breach]) -> None:
    """Refuses combinations that the rules forbid; doubts are left to the table.

    Raises:
        ConfigError: names every combination and the objection to it.
    """
    forbidden = [breach for breach in found if breach.forbidden]
    if forbidden:
        told = "; ".join(f"{'+'.join(breach.tasks)}: {breach.reason}" for breach in forbidden)
        msg = f"the rules of {edition} forbid {told}; take these rows out, or set table.rules: flag"
        raise ConfigError(msg)


def sentences(edition: str, found: Iterable[Breach]) -> list[str]:
    """Returns the breaches as sentences, one for each reason, naming the combinations."""
    members: dict[tuple[bool, str], list[str]] = {}
    for breach in found:
        members.setdefault((breach.forbidden, breach.reason), []).append("+".join(breach.tasks))
    verdicts = {True: "not admitted", False: "not known to be admitted"}
    return [
        f"{', '.join(names)}: {verdicts[forbidden]} to {edition}, {reason}."
        for (forbidden, reason), names in members.items()
    ]


def _uni_task(
    tasks: tuple[str, ...], trained: Mapping[str, Mapping[str, int]], seen: tuple[str, ...]
) -> list[Breach]:
    labelled = {
        TRACKS[task] for corpus in (VIDEOS, FRAMES) for task in tasks if trained.get(corpus, {}).get(task, 0)
    }
    found = []
    for track in dict.fromkeys(TRACKS[task] for task in tasks):
        if others := sorted(labelled - {track}):
            reason = f"whose {track} track admits no Aff-Wild2 labels of {' and '.join(others)}"
            found.append(Breach(tasks, forbidden=True, reason=reason))
    saw = _saw(seen)
    if saw is None:
        found.append(
            Breach(tasks, forbidden=False, reason="as nobody tells what the weights were trained on")
        )
    elif saw:
        reason = "as the weights saw Aff-Wild2, by labels of nobody knows which track"
        found.append(Breach(tasks, forbidden=False, reason=reason))
    return found


def _multi_task(
    tasks: tuple[str, ...], trained: Mapping[str, Mapping[str, int]], seen: tuple[str, ...]
) -> list[Breach]:
    found = []
    if any(trained.get(VIDEOS, {}).get(task, 0) for task in tasks):
        reason = "whose multi-task track admits no A/V Aff-Wild2 in training"
        found.append(Breach(tasks, forbidden=True, reason=reason))
    # The static frames are what the track gives out, so weights may have seen them.
    saw = _saw(name for name in seen if not _is_static(name))
    if saw:
        reason = "whose multi-task track admits no weights that saw Aff-Wild2"
        found.append(Breach(tasks, forbidden=True, reason=reason))
    elif saw is None and not (seen and all(map(_is_static, seen))):
        found.append(
            Breach(tasks, forbidden=False, reason="as nobody tells what the weights were trained on")
        )
    return found


def _saw(names: Iterable[str]) -> bool | None:
    from extract.backbones.training_data import saw

    return saw(names)


def _is_static(name: str) -> bool:
    """Whether this is a name of the static frames, such as ``s-Aff-Wild2`` or ``affwild2_mtl``."""
    plain = "".join(character for character in name.casefold() if character.isalnum())
    return plain in ("saffwild2", "affwild2mtl")
