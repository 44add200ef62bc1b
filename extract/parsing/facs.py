"""Action units of an image as the RAF corpora write them, ``1+2+L12+25``, and the table that they make.

Not a reader of a file (``lists``), and not of intensities: these corpora say what is seen, not how strongly.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from extract.parsing.text import Line

Units = Mapping[int, str]
"""Action unit -> the sides of the face that show it: ``LR``, or ``L`` or ``R`` alone."""

_TOKEN = re.compile(r"(?:AU)?([LR]?)0?([1-9][0-9]?)")


def parse(line: Line, text: str) -> Units | None:
    """Returns the action units of one image; None where they are ``null``.

    Units are joined by ``+``; commas and blanks are taken as well, for how RAF-CE joins them was not seen.
    ``L`` or ``R`` before a unit says that one side of the face shows it.

    Args:
        line: that the text is of, for the error.
        text: what follows the name of the image.

    Raises:
        CorpusError: anything else; names file and line.
    """
    tokens = [token for token in re.split(r"[+,\s]+", text) if token]
    if tokens == ["null"]:
        return None
    matches = [_TOKEN.fullmatch(token) for token in tokens]
    sides: dict[int, set[str]] = {}
    for match in matches:
        if match is None:
            break
        sides.setdefault(int(match[2]), set()).update(match[1] or "LR")
    else:
        if sides:
            return {unit: "".join(sorted(of)) for unit, of in sides.items()}
    msg = "an image and action units such as 1+2+L12+25, or null"
    raise line.error(msg)


def table(images: Sequence[Units | None]) -> tuple[tuple[str, ...], NDArray[np.int8], int]:
    """Returns which action units each image shows; what one side of the face shows is present.

    The lists name what is seen and not what was looked for in vain: the vocabulary is every unit that any
    image shows, in order of its number, and what an image does not show of it is absent there.

    Args:
        images: N of them; None is unknown in every cell.

    Returns:
        K names such as ``AU12``; (N, K) int8 of 1, 0 or -1; and how many cells are of one side alone.
    """
    units = sorted({unit for shown in images if shown is not None for unit in shown})
    column = {unit: index for index, unit in enumerate(units)}
    cells = np.full((len(images), len(units)), -1, np.int8)
    one_sided = 0
    for row, shown in zip(cells, images, strict=True):
        if shown is not None:
            row[:] = 0
            row[[column[unit] for unit in shown]] = 1
            one_sided += sum(len(sides) == 1 for sides in shown.values())
    return tuple(f"AU{unit}" for unit in units), cells, one_sided


def notes(name: str, null: int, one_sided: int) -> list[str]:
    """Notes what a list left open.

    Args:
        name: of the list.
        null: images whose action units it does not tell.
        one_sided: as ``table`` counts them.
    """
    found = [f"{null} images are null in {name}: their action units are unknown"] if null else []
    if one_sided:
        found.append(
            f"{one_sided} action units are seen on one side of the face alone: they count as present"
        )
    return found
