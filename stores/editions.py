"""Label vocabularies of the ABAW editions: which expressions and AUs, in which order, scored how.

Not a reader of any file and not a metric: readers convert to these names, ``temporal.metrics`` scores by
them.

Sources: the label lists of the ABAW challenge releases (FG2020, ICCV2021, CVPR2022 onward).
"""

from dataclasses import dataclass
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


def edition(name: str) -> Edition:
    """Returns the edition called ``name``.

    Raises:
        ConfigError: no such edition; the message lists the known ones (ABAW-9 published no label lists).
    """
    if name not in EDITIONS:
        msg = f"unknown edition {name!r}: expected one of {', '.join(EDITIONS)}"
        raise ConfigError(msg)
    return EDITIONS[name]
