"""Checks a submission against the organisers' list: every row there, in order, and every value allowed.

Nothing is repaired. Each finding is one line: the place, what is there, what should be there and the remedy.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.submission.formats import SUFFIX, Column, Format
from pipeline.submission.lists import Listing

WIDTH = 80
"""Longest piece of a file that a finding shows."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        path: the file.
        line: counted from 1; 0 for the whole file.
        found: the content that is there.
        expected: the content that should be there.
        remedy: how to mend it.
        more: how many further lines of the file have the same fault.
        last: the last of them.
    """

    path: Path
    line: int
    found: str
    expected: str
    remedy: str
    more: int = 0
    last: int = 0

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line}" if self.line else str(self.path)
        others = f" (and {self.more} more such lines, the last is {self.last})" if self.more else ""
        return f"{where}: found {self.found}, expected {self.expected}; {self.remedy}{others}"


def check_submission(path: Path, form: Format, listing: Listing) -> list[Finding]:
    """Returns the faults of the submission at ``path``; none if it can be sent.

    Args:
        path: the file, or the folder of one file per clip.
        form: of the submission.
        listing: its rows; the length of a clip's file is checked if the list knows it.
    """
    if form.clipwise:
        return _check_folder(path, form, listing)
    if path.is_dir():
        return [Finding(path, 0, "a folder", "one file", "give the file itself")]
    findings = []
    if path.suffix != SUFFIX:
        findings.append(Finding(path, 0, f"the name {path.name!r}", f"*{SUFFIX}", "rename the file"))
    return findings + _merged(_check_file(path, form, listing, None))


def _check_folder(path: Path, form: Format, listing: Listing) -> list[Finding]:
    if not path.is_dir():
        return [Finding(path, 0, "a file", "a folder with one <clip>.txt per listed clip", "give the folder")]
    present = {entry.name: entry.is_file() for entry in path.iterdir()}
    files = {clip + SUFFIX: clip for clip in listing.names}
    findings = []
    for name, is_file in sorted(present.items()):
        if name not in files or not is_file:
            found = "a name of no listed clip" if is_file else "a folder"
            remedy = "rename it to a clip of the list, or take it away"
            findings.append(Finding(path / name, 0, found, "files <clip>.txt alone", remedy))
    for name, clip in files.items():
        if not present.get(name):
            findings.append(Finding(path / name, 0, "no such file", f"the rows of clip {clip}", "write it"))
        else:
            findings += _merged(_check_file(path / name, form, listing, clip))
    return findings


def _merged(findings: Iterator[Finding]) -> list[Finding]:
    """Puts findings that say the same of several lines into the first of them."""
    groups: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        key = finding.expected, finding.remedy
        first = groups.setdefault(key, finding)
        if first is not finding:
            groups[key] = replace(first, more=first.more + 1, last=finding.line)
    return list(groups.values())


def _check_file(path: Path, form: Format, listing: Listing, clip: str | None) -> Iterator[Finding]:
    """Yields the faults of one file; ``clip`` is None if its rows name images."""
    data = path.read_bytes()
    if not data.strip():
        yield Finding(path, 0, "an empty file", f"the header {listing.header!r} and rows", "write it again")
        return
    if data.startswith(b"\xef\xbb\xbf"):
        yield Finding(path, 1, "a byte order mark", "plain UTF-8", "save the file without BOM")
        data = data[3:]
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x}"
        yield Finding(path, line, found, "plain UTF-8 text", "save the file as UTF-8, not zipped")
        return
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        yield Finding(path, line, "a carriage return", "lines that end in LF alone", "convert CRLF to LF")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if lines[-1]:
        found = f"{_shown(lines[-1])} without a line end"
        remedy = "end the last row, if it is whole: the file may be cut short"
        yield Finding(path, len(lines), found, "a line end after the last row", remedy)
    else:
        lines.pop()
    pattern = re.compile(form.values_pattern if clip is not None else f"[^,]*,{form.values_pattern}")
    headers = (form.header_line, listing.header)
    headed = lines[0] in headers
    if not headed:
        yield _diagnose_header(path, lines[0], form, listing, pattern)
        headed = pattern.fullmatch(lines[0]) is None
    rows = lines[headed:]
    first = 1 + headed
    for line, content in enumerate(rows, first):
        if pattern.fullmatch(content) is None:
            yield _diagnose(path, line, content, form, listing, with_image=clip is None)
    if clip is None:
        images = [
            (line, row.partition(",")[0])
            for line, row in enumerate(rows, first)
            if row.strip() and row not in headers  # which are found above
        ]
        yield from _check_images(path, images, listing)
    else:
        count, expected = len(rows), listing.lengths.get(clip)
        if expected is None and count == 0:
            yield Finding(path, 0, "no row", "one row per frame", "write the rows of the clip")
        elif expected is not None and count != expected:
            remedy = "write one row per frame of the video, with and without a crop, and no other"
            yield Finding(path, len(lines), f"{count} rows", f"{expected} rows", remedy)


def _diagnose_header(path: Path, line: str, form: Format, listing: Listing, row: re.Pattern[str]) -> Finding:
    expected = f"the header {listing.header!r}"
    if row.fullmatch(line):
        return Finding(path, 1, f"the row {_shown(line)}", expected, "put the header before the rows")
    names = [name.strip() for name in line.rstrip(", ").split(",")]
    if sorted(names) == sorted(form.header):
        same = names == list(form.header)
        reason = "blanks or commas too many" if same else "the same names in another order"
        remedy = "write the header as expected" + ("" if same else ", and the values by its order")
    else:
        apart = [f"lacks {name}" for name in form.header if name not in names]
        apart += [f"has {name!r}" for name in names if name not in form.header]
        reason = ", ".join(apart[:4]) + (", ..." if len(apart) > 4 else "") or "a name twice"
        remedy = "check edition and track: the class indices and AU columns may be of other names too"
    return Finding(path, 1, f"{_shown(line)} ({reason})", expected, remedy)


def _diagnose(
    path: Path, line: int, content: str, form: Format, listing: Listing, *, with_image: bool
) -> Finding:
    """Returns why a row that does not fit does not fit."""

    def finding(expected: str, remedy: str, found: str | None = None) -> Finding:
        return Finding(path, line, _shown(content) if found is None else found, expected, remedy)

    columns: Sequence[Column] = form.columns
    count = len(columns) + with_image
    layout = f"{count} values with a comma between"
    if not content.strip():
        return finding("a row", "take the blank line out", "a blank line")
    if content in (form.header_line, listing.header):
        return finding("the header on line 1 alone", "take it out: the files were put together")
    if content.endswith(","):
        return finding("no comma at the end of a row", "take the trailing comma away")
    if any(character.isspace() for character in content):
        return finding("no blanks or tabs", "put commas alone between the values")
    if '"' in content or "'" in content:
        return finding("values without quotes", "write the file without quoting")
    values = content.split(",")
    if len(values) != count:
        if ";" in content:
            remedy = "put commas between the values, not semicolons"
        elif any(column.kind == "decimal" for column in columns) and len(values) > count:
            remedy = "write decimal points, not decimal commas, and no other values"
        elif len(columns) == 1:
            remedy = "write the index of one class, not a value per class"
        else:
            remedy = "write every value, and no other"
        return finding(layout, remedy)
    for value, column in zip(values[with_image:], columns, strict=True):
        if re.fullmatch(column.pattern, value) is None:
            return finding(column.expected, _remedy(value, column), f"{value!r} in {_shown(content)}")
    return finding(layout, "write the row again")


def _remedy(value: str, column: Column) -> str:
    """Returns the remedy for a value that ``column`` does not allow."""
    if value.casefold().lstrip("+-") in ("nan", "inf", "infinity", "none", "null", ""):
        return "fill frames without a prediction: interpolate or hold"
    if _NUMBER.fullmatch(value) is None:
        return "write a number"
    number = float(value)
    if column.kind == "decimal":
        if number == -5:
            return "-5 marks frames without a label and is no prediction: fill them"
        if abs(number) > 1:
            return "cut valence and arousal to [-1, 1]"
        return "write plain decimals, without exponent or sign +"
    if number == -1:
        return "-1 marks frames without a label and is no prediction: fill them"
    if number == int(number) and 0 <= number <= column.top:
        return "write whole numbers, without a decimal point"
    if column.kind == "flag":
        return "write decisions, not probabilities or intensities: threshold them"
    return "number the classes from 0, in the order of the edition's list"


def _check_images(path: Path, images: Sequence[tuple[int, str]], listing: Listing) -> Iterator[Finding]:
    """Yields images (lines and names) that are unlisted, too many, missing or out of order."""
    if tuple(name for _, name in images) == listing.names:
        return
    wanted, seen = Counter(listing.names), Counter[str]()
    kept: list[tuple[int, str]] = []
    for line, name in images:
        if name not in wanted:
            expected = f"an image of {listing.path}"
            yield Finding(path, line, f"image {_shown(name)}", expected, _image_remedy(name, wanted))
        elif seen[name] == wanted[name]:
            times = "once" if wanted[name] == 1 else f"{wanted[name]} times"
            yield Finding(path, line, f"image {name} again", f"it {times}", "take the repeated row out")
        else:
            seen[name] += 1
            kept.append((line, name))
    left = Counter(seen)
    order, missing = [], []
    for name in listing.names:
        if left[name]:
            left[name] -= 1
            order.append(name)
        else:
            missing.append(name)
    if missing:
        found = f"no row for {len(missing)} of {len(listing.names)} listed images, the first is {missing[0]}"
        remedy = "write a row for every listed image, also for frames without a crop"
        yield Finding(path, 0, found, "a row for each", remedy)
    moved = [(line, name, ours) for (line, name), ours in zip(kept, order, strict=True) if name != ours]
    if moved:
        line, name, ours = moved[0]
        found = f"image {name} (and {len(moved) - 1} more rows out of place)"
        yield Finding(path, line, found, f"image {ours}", f"keep the order of {listing.path}")


def _image_remedy(name: str, wanted: Counter[str]) -> str:
    clip, _, file = name.replace("\\", "/").rpartition("/")
    stem = Path(file).stem
    padded = f"{clip.rpartition('/')[2]}/{stem.zfill(5)}.jpg"
    return f"write it as listed: {padded}" if padded in wanted else "take it out"


def _shown(text: str) -> str:
    return repr(text if len(text) <= WIDTH else text[: WIDTH - 3] + "...")
