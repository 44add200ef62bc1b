"""Label vocabularies and tracks of the ABAW editions: which expressions and AUs, in which order, scored how.

Readers convert to these names, ``temporal.metrics`` scores by them.

Sources: the label lists of the ABAW challenge releases (FG2020, ICCV2021, CVPR2022 onward).
"""

from dataclasses import dataclass, replace
from typing import Literal

from stores.errors import ConfigError

EXPR_7 = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
EXPR_8 = (*EXPR_7, "Other")
CE_7 = (
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Surprised",
    "Disgustedly_Surprised",
    "Angrily_Surprised",
    "Sadly_Fearful",
    "Sadly_Angry",
)
"""Compound expressions of C-EXPR-DB (ABAW-6 to 8), spelt as in the test lists."""
AU_8 = ("AU1", "AU2", "AU4", "AU6", "AU12", "AU15", "AU20", "AU25")
AU_12 = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU15", "AU23", "AU24", "AU25", "AU26")

LSD_6 = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")

Scoring = Literal["total", "f1"]


@dataclass(frozen=True, slots=True)
class Edition:
    """The label lists of one ABAW edition and how its AU and EXPR tracks are scored.

    Attributes:
        name: ``abaw1`` ... ``abaw11``.
        expressions: class names, index 0 first.
        aus: action unit names in file order.
        scoring: ``total`` = weighted F1 and accuracy (ABAW-1 and 2), ``f1`` = F1 alone (ABAW-3 onward).
    """

    name: str
    expressions: tuple[str, ...]
    aus: tuple[str, ...]
    scoring: Scoring


EDITIONS: dict[str, Edition] = {
    "abaw1": Edition("abaw1", EXPR_7, AU_8, "total"),
    "abaw2": Edition("abaw2", EXPR_7, AU_12, "total"),
    **{name: Edition(name, EXPR_8, AU_12, "f1") for name in (f"abaw{i}" for i in (3, 4, 5, 6, 7, 8, 10, 11))},
}


@dataclass(frozen=True, slots=True)
class Track:
    """One challenge of an edition, as far as per-frame V, A, AU and EXPR answer it.

    Attributes:
        name: ``VA``, ``EXPR``, ``AU``, ``MTL``, ``CE`` (compound expressions) or ``LSD`` (synthetic faces).
        tasks: what it asks for, in the order V, A, AU, EXPR.
        rules: the edition, with the class list of this track.
    """

    name: str
    tasks: tuple[str, ...]
    rules: Edition


_TASKS = {
    "VA": ("V", "A"),
    "EXPR": ("EXPR",),
    "AU": ("AU",),
    "MTL": ("V", "A", "AU", "EXPR"),
    "CE": ("EXPR",),
    "LSD": ("EXPR",),
}
_CLASSES = {"CE": CE_7, "LSD": LSD_6}
_TRACKS: dict[str, tuple[str, ...]] = {
    "abaw1": ("VA", "EXPR", "AU"),
    "abaw2": ("VA", "EXPR", "AU"),
    "abaw3": ("VA", "EXPR", "AU", "MTL"),
    "abaw4": ("MTL", "LSD"),
    "abaw5": ("VA", "EXPR", "AU"),
    "abaw6": ("VA", "EXPR", "AU", "CE"),
    "abaw7": ("MTL", "CE"),
    "abaw8": ("VA", "EXPR", "AU", "CE"),
    "abaw10": ("VA", "EXPR", "AU"),
    "abaw11": ("MTL",),
}


def edition(name: str) -> Edition:
    """Returns the edition called ``name``.

    Raises:
        ConfigError: no such edition; the message lists the known ones (ABAW-9 published no label lists).
    """
    if name not in EDITIONS:
        reason = " (abaw9 published no label lists)" if name == "abaw9" else ""
        msg = f"unknown edition {name!r}{reason}: expected one of {', '.join(EDITIONS)}"
        raise ConfigError(msg)
    return EDITIONS[name]


def tracks(name: str) -> dict[str, Track]:
    """Returns the tracks of the edition called ``name`` that per-frame V, A, AU and EXPR can answer.

    Left out are tracks whose target is no label of a frame: emotional mimicry and reaction intensity (EMI,
    ERI: six or seven regressions per clip), ambivalence and hesitancy (A/H: two classes per video), and
    fine-grained violence (no public definition).

    Raises:
        ConfigError: no such edition.
    """
    rules = edition(name)
    return {
        track: Track(track, _TASKS[track], replace(rules, expressions=_CLASSES.get(track, rules.expressions)))
        for track in _TRACKS[name]
    }


def track(edition_name: str, name: str) -> Track:
    """Returns one track of an edition.

    Raises:
        ConfigError: no such edition, or it has no such track; the message lists those that it has.
    """
    known = tracks(edition_name)
    if name not in known:
        msg = f"{edition_name} has no track {name!r}: expected one of {', '.join(known)}"
        raise ConfigError(msg)
    return known[name]
