"""Reads AFEW-VA: valence and arousal, -10 to 10 in every frame, of 600 short clips from films.

Not AFEW, whose clips have one expression each, and no crop is cut: its pictures are whole frames.

Layout (unverified, but for the division by 10; that a file names the actor is known from one description)::

    001/001.json            {"actor": "...", "frames": {"00000": {"valence": 3.0, "arousal": -1.0, ...}, ...}}
    001/00000.png ...       or .jpg: pictures, named by the frame
    cropped_aligned/001/00001.jpg ...    instead of these; 00001 is frame 00000; or cropped/

The release comes in several archives: ``001/`` may lie in the root or in any one folder of it, each clip
once. Landmarks are not read. Where a file names its actor, that is the subject of the clip; else the clip is
its own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from extract.corpora import notes as noting
from extract.corpora.clip import Corpus, Labels
from extract.corpora.imagery import footage
from extract.corpora.imagery.footage import CROPPED, Reading
from extract.parsing import codes, faults, text
from extract.parsing.codes import Codes

FPS = 25.0
"""Assumed: neither files nor pictures say."""
CLIPS = 600

_FRAME = re.compile(r"[0-9]{1,6}")
_KEY = re.compile(r'"([0-9]{1,6})"\s*:')
_CLIP = "[0-9][0-9][0-9]"
_LIMIT = 10


def load(root: Path, edition: str) -> Corpus:
    """Reads the tree under ``root``; all clips are of the training split, since there is no official one.

    Args:
        root: folder with the folders of the clips, or of the archives.
        edition: without meaning here.

    Raises:
        CorpusError: a folder or file is missing, or does not follow the format; names file and line.
    """
    root = Path(root)
    paths = _files(root)
    reading = Reading(footage.find(root, (".",), 0))
    anonymous = 0
    for clip, path in paths.items():
        actor, ratings = _read(path)
        anonymous += not actor
        pictures = footage.read(reading.place, clip, path.parent.relative_to(root), 0)
        if not reading.place.cropped:  # the annotation lies among the pictures
            pictures = replace(pictures, stray=pictures.stray - 1)
        labels = Labels.unknown(footage.length(pictures, ratings, codes.ROW_TOLERANCE), 0)
        labels.valence[ratings.frames], labels.arousal[ratings.frames] = ratings.values.T / np.float32(_LIMIT)
        reading.add(clip, pictures, labels, actor or clip, FPS)
    notes = noting.count(len(paths), CLIPS, "clips")
    if anonymous:
        notes.append(f"{anonymous} clips do not name their actor: each is its own subject, whoever it shows")
    return reading.corpus("afew_va", root, (), (), notes)


def _files(root: Path) -> dict[str, Path]:
    """Clip -> its annotation."""
    found: dict[str, Path] = {}
    for path in sorted(faults.visible(root, f"{_CLIP}/*.json") + faults.visible(root, f"*/{_CLIP}/*.json")):
        if path.relative_to(root).parts[0] in CROPPED:
            continue
        clip = path.parent.name
        if path.stem != clip:
            raise faults.stranger(path, "file of AFEW-VA", f"{clip}.json here")
        if clip in found:
            raise faults.rival(path, found[clip], f"the clip {clip}")
        found[clip] = path
    if not found:
        raise faults.lacking(root, "clip", "001/001.json and so on, in it or in the folders of the archives")
    return found


def _read(path: Path) -> tuple[str, Codes]:
    """The actor, "" if not named, and the codes (N, 2): valence and arousal as they are in the file."""
    content = text.decode(path, text.read(path))
    try:
        document = json.loads(content, parse_int=float)
    except RecursionError:
        raise faults.fault(path, 1, content[:80], "JSON of a few levels") from None
    except json.JSONDecodeError as error:
        found = content.split("\n")[error.lineno - 1].strip()
        raise faults.fault(path, error.lineno, found, f"JSON ({error.msg})") from None
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, dict) or not frames:
        raise faults.fault(path, 1, content.split("\n")[0], 'an object with "frames": {"00000": {...}, ...}')
    lines = _lines(path, content, frames)
    numbers: dict[int, str] = {}
    for name in frames:
        if _FRAME.fullmatch(name) is None or int(name) in numbers:
            line = content[: content.find(json.dumps(name))].count("\n") + 1
            raise faults.fault(path, line, name, "the number of a frame, such as 00000, each once")
        numbers[int(name)] = name
    ordered = sorted(numbers)
    values = np.empty((len(ordered), 2), np.int8)
    for row, number in enumerate(ordered):
        name = numbers[number]
        ratings = frames[name] if isinstance(frames[name], dict) else {}
        for column, what in enumerate(("valence", "arousal")):
            if (value := _rating(ratings.get(what))) is None:
                found = f"frame {name}, {what} {ratings.get(what)!r}"
                raise faults.fault(path, lines[name], found, f"a whole number from -{_LIMIT} to {_LIMIT}")
            values[row, column] = value
    actor = document.get("actor")
    where = np.array([lines[numbers[number]] for number in ordered], np.int32)
    return actor if isinstance(actor, str) else "", Codes(path, where, np.array(ordered, np.int32), values, 0)


def _lines(path: Path, content: str, frames: Mapping[str, object]) -> dict[str, int]:
    """Frame, as it is written -> its line; ``json`` keeps the last of two with one name and says nothing."""
    lines: dict[str, int] = {}
    line, seen = 1, 0
    for match in _KEY.finditer(content):
        if match[1] not in frames:
            continue
        line, seen = line + content.count("\n", seen, match.start()), match.start()
        if match[1] in lines:
            raise faults.fault(
                path, line, match[1], f"each frame once; line {lines[match[1]]} has it as well"
            )
        lines[match[1]] = line
    return lines


def _rating(value: object) -> int | None:
    # Every number of the document was read as a float, so that no number is too long to be read.
    if not isinstance(value, float) or not value.is_integer() or abs(value) > _LIMIT:
        return None
    return int(value)
