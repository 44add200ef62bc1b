"""The format of a submission to a track of an edition: its files, their header and the values of a row.

ABAW-1 to 3 take one file per listed clip, a row per frame; all later tracks, and the multi-task track of
ABAW-3, one file with a row per listed image. Sources: the headers of the organisers' annotation files, lists
and samples, and public entries. The files of ABAW-10 are assumed to be those of ABAW-8.
"""

import re
from dataclasses import dataclass
from typing import Literal

from stores.editions import Track, track
from stores.errors import ConfigError

Kind = Literal["decimal", "index", "flag"]

IMAGE = re.compile(r"[^/,\s]+/(?!0+\.)[0-9]{5,6}\.jpg")
"""``<clip>/<frame>.jpg``, frames counted from 00001."""
CLIPWISE = ("abaw1", "abaw2", "abaw3")
SUFFIX = ".txt"

_PATTERNS: dict[Kind, str] = {
    "decimal": r"-?(?:0(?:\.[0-9]+)?|1(?:\.0+)?)",
    "index": "[0-{top}]",
    "flag": "[01]",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a row.

    Attributes:
        name: of the value, for messages.
        kind: a plain decimal from -1 to 1, the index of a class, or 0 and 1.
        top: greatest value.
    """

    name: str
    kind: Kind
    top: int = 1

    @property
    def pattern(self) -> str:
        """Regular expression of exactly the values that are allowed."""
        return _PATTERNS[self.kind].format(top=self.top)

    @property
    def expected(self) -> str:
        """What is allowed, in words."""
        return {
            "decimal": f"{self.name} as a plain decimal from -1 to 1, such as -0.25",
            "index": f"{self.name} as one class index from 0 to {self.top}",
            "flag": f"{self.name} as 0 or 1",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Format:
    """A submission to one track.

    Attributes:
        track: the track, with the class and AU lists.
        clipwise: a file ``<clip>.txt`` for each listed clip, with a row per frame; else one file, with a row
            per listed image that starts with its name.
        header: names on the first line. They are not the names of the columns: EXPR has one value under the
            names of all classes, MTL sixteen values under five names.
        columns: the values of a row, after the image.
    """

    track: Track
    clipwise: bool
    header: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        """Such as ``abaw6_VA``."""
        return f"{self.track.rules.name}_{self.track.name}"

    @property
    def header_line(self) -> str:
        """The first line of a file."""
        return ",".join(self.header)

    @property
    def values_pattern(self) -> str:
        """Regular expression of the values of a row, from comma to comma."""
        return ",".join(column.pattern for column in self.columns)


def format_of(edition: str, name: str) -> Format:
    """Returns the format of a submission to track ``name`` of ``edition``.

    Raises:
        ConfigError: no such edition or track, or one (LSD) whose list names single images that belong to no
            clip, so that there are no predictions by clip and frame to fill it from.
    """
    asked = track(edition, name)
    if name == "LSD":
        msg = "track LSD lists single images that belong to no clip: its file cannot be made from a run"
        raise ConfigError(msg)
    rules = asked.rules
    valence_arousal = (Column("valence", "decimal"), Column("arousal", "decimal"))
    expression = (Column("expression", "index", len(rules.expressions) - 1),)
    aus = tuple(Column(au, "flag") for au in rules.aus)
    columns = {
        "VA": valence_arousal,
        "AU": aus,
        "MTL": (*valence_arousal, *expression, *aus),
    }.get(name, expression)
    if name == "MTL":
        header: tuple[str, ...] = ("image", "valence", "arousal", "expression", "aus")
        return Format(track=asked, clipwise=False, header=header, columns=columns)
    header = {"VA": ("valence", "arousal"), "AU": rules.aus}.get(name, rules.expressions)
    clipwise = edition in CLIPWISE
    if not clipwise:
        header = ("image_location", *header)
    return Format(asked, clipwise, header, columns)
