"""The checker: each kind of corruption of a good submission is found, with its line and what to do."""

import re
import shutil
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submission_runs import CLIPS, make_features, prepare, write_one

from pipeline.submission.checking import check_submission
from pipeline.submission.composing import write_submission
from pipeline.submission.formats import IMAGE, format_of
from pipeline.submission.lists import Listing, read_list
from stores.editions import AU_8, EXPR_7


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good submission of each track: path, format and list by ``edition_track``."""
    folder = tmp_path_factory.mktemp("good")
    features = make_features(folder / "features")
    return {
        f"{edition}_{name}": write_one(folder / f"{edition}_{name}", features, edition, name)
        for edition, name in [
            ("abaw6", "VA"),
            ("abaw6", "EXPR"),
            ("abaw5", "AU"),
            ("abaw7", "MTL"),
            ("abaw7", "CE"),
            ("abaw2", "VA"),
        ]
    }


@pytest.fixture
def spoil(good, tmp_path):
    """Copies a good submission, lets a function change the text of one file, and checks it."""

    def spoil(which, change, file="video59_right.txt"):
        written, form, listing = good[which]
        path = tmp_path / written.path.name
        if form.clipwise:
            shutil.copytree(written.path, path)
            target = path / file
        else:
            target = path
            shutil.copy(written.path, path)
        target.write_bytes(change(target.read_bytes().decode()).encode("utf-8", "surrogateescape"))
        return check_submission(path, form, listing)

    return spoil


def at(line, change):
    """Changes one line, counted from 1, or with ``None`` takes it out."""

    def apply(text):
        lines = text.split("\n")
        changed = change(lines[line - 1]) if callable(change) else change
        lines[line - 1 : line] = [] if changed is None else changed.split("\n")
        return "\n".join(lines)

    return apply


def value(line, place, new):
    """Replaces the value at ``place`` of a row."""

    def change(row):
        values = row.split(",")
        values[place] = new
        return ",".join(values)

    return at(line, change)


def swap(text):
    lines = text.split("\n")
    lines[3], lines[9] = lines[9], lines[3]
    return "\n".join(lines)


def every(pattern, new):
    return lambda text: re.sub(pattern, new, text)


VA_HEADER = "image_location,valence,arousal"
LISTED = "write it as listed: video45_1/00001.jpg"
NAMES_7 = "image_location," + ",".join(EXPR_7)

# name -> submission, change, line of the finding, what it says
CORRUPTIONS = {
    "byte order mark": ("abaw6_VA", lambda t: "\ufeff" + t, 1, "byte order mark"),
    "CRLF line ends": ("abaw6_VA", every("\n", "\r\n"), 1, "convert CRLF to LF"),
    "old Mac line ends": ("abaw6_EXPR", every("\n", "\r"), 1, "carriage return"),
    "UTF-16": ("abaw6_VA", lambda t: t.encode("utf-16").decode("utf-8", "surrogateescape"), 1, "UTF-8"),
    "zipped": ("abaw6_VA", lambda t: "PK\x03\x04\udcff\udcd8" + t, 1, "not zipped"),
    "empty file": ("abaw6_VA", lambda t: "\n", 0, "an empty file"),
    "header missing": ("abaw6_VA", at(1, None), 1, "put the header before the rows"),
    "header of another class set": ("abaw6_EXPR", at(1, NAMES_7), 1, "lacks Other"),
    "header in another order": (
        "abaw6_EXPR",
        at(1, NAMES_7.replace("Neutral,Anger", "Anger,Neutral") + ",Other"),
        1,
        "the same names in another order",
    ),
    "header of other AUs": ("abaw5_AU", at(1, "image_location," + ",".join(AU_8)), 1, "lacks AU7"),
    "header of the annotation files": ("abaw6_VA", at(1, "valence,arousal"), 1, "lacks image_location"),
    "header of another track": ("abaw7_MTL", at(1, VA_HEADER), 1, "lacks image,"),
    "header with blanks": ("abaw6_VA", at(1, "image_location, valence, arousal"), 1, "blanks or commas"),
    "header with a name twice": ("abaw6_VA", at(1, "image_location,valence,valence"), 1, "lacks arousal"),
    "second header inside": ("abaw6_VA", at(5, lambda r: f"{VA_HEADER}\n{r}"), 5, "put together"),
    "trailing comma": ("abaw6_VA", at(4, lambda r: r + ","), 4, "take the trailing comma away"),
    "trailing comma on every row": ("abaw5_AU", every("([01])\n", r"\1,\n"), 2, "and 19 more such lines"),
    "blank line inside": ("abaw6_VA", at(7, lambda r: "\n" + r), 7, "a blank line"),
    "blank line at the end": ("abaw6_VA", lambda t: t + "\n", 22, "a blank line"),
    "last row cut short": ("abaw6_VA", lambda t: t[:-3], 21, "cut short"),
    "blanks after commas": ("abaw6_VA", at(3, every(",", ", ")), 3, "commas alone"),
    "tabs for commas": ("abaw6_VA", every(",", "\t"), 2, "commas alone"),
    "semicolons for commas": ("abaw5_AU", at(4, every(",", ";")), 4, "not semicolons"),
    "quoted values": ("abaw6_VA", at(4, every("([^,]+)", r'"\1"')), 4, "without quoting"),
    "decimal commas": ("abaw6_VA", at(4, every(r"\.(?!j)", ",")), 4, "decimal points"),
    "value missing": ("abaw6_VA", at(4, lambda r: r.rpartition(",")[0]), 4, "3 values"),
    "value too many": ("abaw6_EXPR", at(4, lambda r: r + ",1"), 4, "index of one class"),
    "a value per class": ("abaw6_EXPR", at(4, lambda r: r + ",0" * 7), 4, "index of one class"),
    "AU missing": ("abaw5_AU", at(4, lambda r: r[:-2]), 4, "13 values"),
    "NaN": ("abaw6_VA", value(6, 1, "nan"), 6, "fill frames without a prediction"),
    "NaN in capitals": ("abaw7_MTL", value(6, 2, "NaN"), 6, "fill frames without a prediction"),
    "infinity": ("abaw6_VA", value(6, 2, "-inf"), 6, "fill frames without a prediction"),
    "empty value": ("abaw6_VA", value(6, 1, ""), 6, "fill frames without a prediction"),
    "no number": ("abaw6_VA", value(6, 1, "high"), 6, "write a number"),
    "typographic minus": ("abaw6_VA", value(6, 1, "\u22120.5"), 6, "write a number"),
    "valence above 1": ("abaw6_VA", value(6, 1, "1.000001"), 6, "cut valence and arousal"),
    "arousal below -1": ("abaw7_MTL", value(6, 2, "-1.5"), 6, "cut valence and arousal"),
    "marker -5 for unknown": ("abaw6_VA", value(6, 1, "-5"), 6, "marks frames without a label"),
    "exponent": ("abaw6_VA", value(6, 1, "1e-05"), 6, "without exponent"),
    "plus sign": ("abaw6_VA", value(6, 1, "+0.5"), 6, "without exponent or sign"),
    "class index as decimal": ("abaw6_EXPR", value(6, 1, "3.0"), 6, "whole numbers"),
    "class index too high": ("abaw6_EXPR", value(6, 1, "8"), 6, "number the classes from 0"),
    "class index 7 where there are seven": ("abaw7_CE", value(6, 1, "7"), 6, "from 0 to 6"),
    "class name for its index": ("abaw6_EXPR", value(6, 1, "Anger"), 6, "write a number"),
    "class marker -1": ("abaw6_EXPR", value(6, 1, "-1"), 6, "marks frames without a label"),
    "AU as decimal": ("abaw5_AU", value(6, 1, "1.0"), 6, "whole numbers"),
    "AU probability": ("abaw5_AU", value(6, 12, "0.73"), 6, "threshold them"),
    "AU intensity": ("abaw5_AU", value(6, 12, "3"), 6, "threshold them"),
    "AU marker -1": ("abaw7_MTL", value(6, 15, "-1"), 6, "marks frames without a label"),
    "expression and AUs changed over": ("abaw7_MTL", value(6, 4, "5"), 6, "threshold them"),
    "row missing": ("abaw6_VA", at(8, None), 0, "no row for 1 of 20 listed images"),
    "clip missing": ("abaw6_VA", every(r"2-30-640x360/.*\n", ""), 0, "no row for 6 of 20 listed images"),
    "last rows missing": ("abaw7_MTL", lambda t: t[: t.index("2-30")], 0, "no row for 11 of 20"),
    "row twice": ("abaw6_VA", at(8, lambda r: f"{r}\n{r}"), 9, "take the repeated row out"),
    "row of another name instead": ("abaw6_VA", value(8, 0, "video45_1/00001.jpg"), 8, "repeated row"),
    "clip that is not listed": ("abaw6_VA", lambda t: t + "other/00001.jpg,0,0\n", 22, "take it out"),
    "frame that is not listed": ("abaw6_VA", value(4, 0, "video45_1/00100.jpg"), 4, "take it out"),
    "rows changed over": ("abaw6_VA", swap, 4, "keep the order of"),
    "rows sorted by name": (
        "abaw6_VA",
        lambda t: "\n".join([t.split("\n")[0], *sorted(t.split("\n")[1:-1])]) + "\n",
        2,
        "keep the order of",
    ),
    "frames counted from 0": ("abaw6_VA", every("00001.jpg", "00000.jpg"), 2, "an image of"),
    "names without zeros": ("abaw6_VA", every("/0000", "/"), 2, LISTED),
    "names with backslashes": ("abaw6_VA", every("/", r"\\"), 2, LISTED),
    "names with another suffix": ("abaw6_VA", every(r"\.jpg", ".png"), 2, LISTED),
    "names with the path of a machine": ("abaw6_VA", every("(?m)^v", "/data/v"), 2, LISTED),
    "rows without names": ("abaw5_AU", every("(?m)^[^,]+jpg,", ""), 2, "13 values"),
    "name missing": ("abaw6_VA", value(4, 0, ""), 4, "take it out"),
    "row named like the header": ("abaw6_VA", at(4, lambda r: f"{r}\nimage_location,0,0"), 5, "take it out"),
    "clipwise: CRLF": ("abaw2_VA", every("\n", "\r\n"), 1, "convert CRLF"),
    "clipwise: header missing": ("abaw2_VA", at(1, None), 1, "put the header before"),
    "clipwise: names before the values": ("abaw2_VA", at(3, lambda r: f"a/00002.jpg,{r}"), 3, "2 values"),
    "clipwise: NaN": ("abaw2_VA", value(3, 0, "nan"), 3, "fill frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found(spoil, name):
    which, change, line, told = CORRUPTIONS[name]
    findings = spoil(which, change)
    matching = [finding for finding in findings if told in str(finding)]
    assert matching, [str(finding) for finding in findings]
    assert matching[0].line == line
    for finding in findings:
        assert finding.found
        assert finding.expected
        assert finding.remedy
        assert "\n" not in str(finding)


def test_one_fault_on_many_lines_is_one_finding(spoil):
    findings = spoil("abaw5_AU", every("([01])\n", r"\1,\n"))
    assert len(findings) == 1
    assert (findings[0].line, findings[0].more, findings[0].last) == (2, 19, 21)


def test_one_fault_is_not_reported_as_another(spoil):
    alone = {"row missing", "row twice", "rows changed over", "NaN", "valence above 1", "header missing",
             "trailing comma", "byte order mark", "CRLF line ends", "value too many", "second header inside",
             "blank line inside", "clip missing", "clip that is not listed"}  # fmt: skip
    found = {name: len(spoil(*CORRUPTIONS[name][:2])) for name in alone}
    assert found == dict.fromkeys(alone, 1)


def test_files_of_clips_are_matched_with_the_list(good, tmp_path):
    written, form, listing = good["abaw2_VA"]
    path = tmp_path / "abaw2_VA"
    shutil.copytree(written.path, path)
    (path / "video45_1.txt").rename(path / "Video45_1.TXT")
    (path / "2-30-640x360.txt").rename(path / "2-30-640x360.csv")
    (path / "more").mkdir()
    (path / "video59_right.txt").unlink()
    (path / "video59_right.txt").mkdir()
    found = {finding.path.name: str(finding) for finding in check_submission(path, form, listing)}
    clips = {"video45_1.txt", "2-30-640x360.txt", "video59_right.txt"}
    assert set(found) == {"Video45_1.TXT", "2-30-640x360.csv", "more"} | clips
    assert all("found no such file" in found[name] for name in clips)
    assert "found a name of no listed clip" in found["2-30-640x360.csv"]
    assert "found a folder" in found["more"]


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_found(good, tmp_path):
    (tmp_path / "file.txt").write_text("valence,arousal\n")
    _, form, listing = good["abaw2_VA"]
    assert "give the folder" in str(check_submission(tmp_path / "file.txt", form, listing)[0])
    _, form, listing = good["abaw6_VA"]
    assert "give the file" in str(check_submission(tmp_path, form, listing)[0])


def test_a_wrong_suffix_is_found(good, tmp_path):
    written, form, listing = good["abaw6_VA"]
    shutil.copy(written.path, tmp_path / "abaw6_VA.csv")
    findings = check_submission(tmp_path / "abaw6_VA.csv", form, listing)
    assert [finding.remedy for finding in findings] == ["rename the file"]


@pytest.mark.parametrize(
    ("rows", "told"), [(4, "4 rows, expected 5 rows"), (6, "6 rows, expected 5 rows"), (0, "0 rows")]
)
def test_a_wrong_number_of_frames_is_found_where_lengths_are_known(good, tmp_path, rows, told):
    written, form, _ = good["abaw2_VA"]
    path = tmp_path / "abaw2_VA"
    shutil.copytree(written.path, path)
    (tmp_path / "list").write_text("\n".join(CLIPS))
    (tmp_path / "lengths").write_text("".join(f"{clip},{len(valid)}\n" for clip, valid in CLIPS.items()))
    listing = read_list(tmp_path / "list", form, tmp_path / "lengths")
    assert check_submission(path, form, listing) == []
    (path / "video59_right.txt").write_text("valence,arousal\n" + "0.1,0.2\n" * rows)
    findings = check_submission(path, form, listing)
    assert len(findings) == 1
    assert told in str(findings[0])


def test_a_file_of_a_clip_needs_a_row(spoil):
    findings = spoil("abaw2_VA", lambda text: text.partition("\n")[0] + "\n")
    assert [finding.found for finding in findings] == ["no row"]


def test_a_submission_to_another_edition_is_found(good, tmp_path):
    written, _, _ = good["abaw7_CE"]
    form = format_of("abaw6", "EXPR")
    listing = Listing(tmp_path, form.header_line, good["abaw6_EXPR"][2].names, {})
    assert "lacks Neutral" in str(check_submission(written.path, form, listing)[0])


def test_an_image_listed_twice_wants_two_rows(good, tmp_path):
    form = format_of("abaw4", "MTL")
    listing = Listing(tmp_path, form.header_line, ("a/00001.jpg", "a/00001.jpg", "a/00005.jpg"), {})
    rest = ",0.1,0.2,3" + ",1" * 12
    path = tmp_path / "x.txt"

    def check(*names):
        path.write_text("\n".join([form.header_line, *(name + rest for name in names)]) + "\n")
        return [str(finding) for finding in check_submission(path, form, listing)]

    assert check("a/00001.jpg", "a/00001.jpg", "a/00005.jpg") == []
    assert "no row for 1 of 3" in check("a/00001.jpg", "a/00005.jpg")[0]
    assert "expected it 2 times" in check(*["a/00001.jpg"] * 3, "a/00005.jpg")[0]


def reads_back(data, form, listing):
    """Whether a strict reader of its own accepts ``data``; knows the format of abaw7 MTL alone."""
    try:
        header, *rows, last = data.decode().split("\n")
    except UnicodeDecodeError:
        return False
    if (header, last, len(rows)) != ("image,valence,arousal,expression,aus", "", len(listing.names)):
        return False
    for row, name in zip(rows, listing.names, strict=True):
        found, *values = row.split(",")
        if found != name or len(values) != 15:
            return False
        for i, text in enumerate(values):
            if set(text) - set("-.0123456789") or text.startswith((".", "-.")) or text.endswith("."):
                return False
            try:
                number = float(text)
            except ValueError:
                return False
            whole = text.lstrip("-").partition(".")[0]
            if len(whole) != 1 or (not -1 <= number <= 1 and i != 2):
                return False
            if i >= 2 and not (text.isdigit() and int(text) <= (7 if i == 2 else 1)):
                return False
    return True


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_the_checker_agrees_with_another_reader(good, tmp_path_factory, data):
    written, form, listing = good["abaw7_MTL"]
    content = bytearray(written.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 3))
        new = data.draw(
            st.sampled_from([b"", b"0", b"1", b"7", b"9", b",", b"-", b".", b"\n", b" ", b"\xff", b"e"])
        )
        content[place : place + length] = new
    path = tmp_path_factory.getbasetemp() / "changed.txt"
    path.write_bytes(bytes(content))
    assert (check_submission(path, form, listing) == []) == reads_back(bytes(content), form, listing)


def test_two_hundred_thousand_images_are_written_and_checked_in_ten_seconds(tmp_path):
    clips = {f"video{i}": [True] * 20_000 for i in range(10)}
    features = make_features(tmp_path / "features", clips)
    names = [f"{clip}/{i + 1:05d}.jpg" for clip, valid in clips.items() for i in range(len(valid))]
    assert IMAGE.fullmatch(names[-1])
    began = time.process_time()
    form, listing, runs = prepare(tmp_path, "abaw7", "MTL", names, clips=clips)
    written = write_submission(form, listing, runs, features, tmp_path / "out")
    assert check_submission(written.path, form, listing) == []
    rows = written.path.read_text().split("\n")[1:-1]
    written.path.write_text("\n".join([form.header_line, *reversed(rows)]) + "\n")
    assert len(check_submission(written.path, form, listing)) == 1
    assert time.process_time() - began < 10  # processor time: the wall clock measures its neighbours
