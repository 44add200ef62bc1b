"""One annotation file: Arrow and the line-by-line parser read the same, and the first bad line is named."""

import re
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.corpora.readers.affwild2 import annotation
from stores.editions import AU_12, EXPR_7, EXPR_8
from stores.errors import CorpusError

FORMATS = annotation.formats(EXPR_8, AU_12) | {"MTL": annotation.multitask(EXPR_8, AU_12)}
TIDY = {
    "VA": "0.125,-0.25",
    "EXPR": "2",
    "AU": ",".join("0" * 12),
    "MTL": "a1920x0x1/00001.jpg,0,0,0" + ",0" * 12,
}
# Whole cells that a person or a spreadsheet may leave, right, wrong or odd.
CELLS = [
    "0",
    "1",
    "-1",
    "0.5",
    "-5",
    "7",
    "8",
    "1.0",
    "+1",
    ".5",
    "1.",
    "1e0",
    "1e-320",
    "1e400",
    "01",
    "0x1",
]
CELLS += ["nan", "inf", "-inf", "1_0", "٣", "1d0", "-0", "0,5", "1e", "-"]
CELLS += [" 1", "1 ", "", " ", '"1"', "\t0", "1\r", "\r1"]


def write(tmp_path, form, rows, end="\n"):
    path = tmp_path / "file.txt"
    path.write_bytes(end.join([",".join(form.header), *rows, ""]).encode())
    return path


def reading(path, form):
    """What a file reads as, or the message that refuses it."""
    try:
        found = annotation.read(path, form)
    except CorpusError as error:
        return str(error)
    return {task: table.tolist() for task, table in found.tables.items()}, found.names.frame.tolist()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arrow_and_the_line_by_line_parser_give_the_same_numbers_and_refusals(tmp_path, data):
    name = data.draw(st.sampled_from(["VA", "EXPR", "MTL"]))
    form = FORMATS[name]
    rows = [TIDY[name]] * data.draw(st.integers(1, 5))
    place = data.draw(st.integers(0, len(rows) - 1))
    cells = TIDY[name].split(",")
    column = data.draw(st.integers(0, len(cells) - 1))
    cells[column] = data.draw(st.sampled_from(CELLS))
    rows[place] = ",".join(cells)
    path = write(tmp_path, form, rows, data.draw(st.sampled_from(["\n", "\r\n"])))
    with pytest.MonkeyPatch.context() as patch:
        fast = reading(path, form)
        patch.setattr(annotation, "_parse", lambda *_: None)
        slow = reading(path, form)
    assert fast == slow


def test_a_tidy_file_is_never_read_line_by_line(tmp_path, monkeypatch):
    monkeypatch.setattr(annotation, "_parse_lines", None)
    for name, row in (("VA", "-5,0.5"), ("EXPR", "-1"), ("AU", ",".join(["-1"] * 12))):
        for end in ("\n", "\r\n"):
            assert annotation.read(write(tmp_path, FORMATS[name], [row, row], end), FORMATS[name]).count == 2


def test_a_file_of_many_blocks_is_read_whole_and_in_order(tmp_path):
    rng = np.random.default_rng(0)
    count = 4 * annotation.BLOCK_BYTES // 60 // 2
    values = rng.integers(-1000, 1001, (count, 2)) / 1000
    rows = [
        f"clip{i // 90_000}/{i % 90_000 + 1:05d}.jpg,{v},{a},3" + ",1" * 12 for i, (v, a) in enumerate(values)
    ]
    path = write(tmp_path, FORMATS["MTL"], rows)
    assert path.stat().st_size > 1.5 * annotation.BLOCK_BYTES
    found = annotation.read(path, FORMATS["MTL"])
    np.testing.assert_array_equal(found.tables["VA"], values)
    assert (found.tables["EXPR"] == 3).all()
    assert found.names.clips == ("clip0", "clip1")[: count // 90_000 + 1]
    np.testing.assert_array_equal(found.names.frame, np.arange(count) % 90_000)


@pytest.mark.parametrize("row", [0, 1, 17_000, 29_999])
@pytest.mark.parametrize(
    ("task", "good", "bad"), [("VA", "0,0", "0,zero"), ("VA", "0,0", "0,1.5"), ("EXPR", "3", "8")]
)
def test_one_bad_row_of_thirty_thousand_is_named_by_its_line(tmp_path, row, task, good, bad):
    rows = [good] * 30_000
    rows[row] = bad
    path = write(tmp_path, FORMATS[task], rows)
    with pytest.raises(CorpusError, match=rf"{re.escape(str(path))}, line {row + 2} \(frame {row}\)"):
        annotation.read(path, FORMATS[task])


def test_the_first_of_several_bad_lines_is_named(tmp_path):
    for rows in (["0,0", "0,2", "x"], ["0,0", "x", "0,2"]):
        with pytest.raises(CorpusError, match="line 3"):
            annotation.read(write(tmp_path, FORMATS["VA"], rows), FORMATS["VA"])


def test_headers_go_by_name_and_order_not_by_case_or_blanks(tmp_path):
    form = annotation.formats(EXPR_7, AU_12)["EXPR"]
    path = tmp_path / "file.txt"
    path.write_text(" neutral,ANGER, Disgust,fear,Happiness ,Sadness,Surprise\n3\n")
    assert annotation.read(path, form).count == 1
    for header, hint in (
        ("Anger,Neutral,Disgust,Fear,Happiness,Sadness,Surprise", "another order"),
        (",".join(EXPR_8), "other names"),
        (",".join(EXPR_7) + ",", "other names"),
    ):
        path.write_text(f"{header}\n3\n")
        with pytest.raises(CorpusError, match=rf"line 1: found header .*{hint}"):
            annotation.read(path, form)


def calls(action):
    """How many functions an action calls, those of C included: what time is, without a clock."""
    count = 0

    def seen(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        action()
    except CorpusError:
        pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", ["VA", "EXPR", "AU", "MTL"])
def test_thirty_thousand_tidy_rows_take_no_more_calls_than_three_thousand(tmp_path, name):
    form = FORMATS[name]
    few, many = (
        calls(lambda rows=rows: annotation.read(write(tmp_path, form, [TIDY[name]] * rows), form))
        for rows in (3_000, 30_000)
    )
    assert many <= few + 10


@pytest.mark.parametrize("name", ["VA", "EXPR", "AU", "MTL"])
def test_the_search_for_a_bad_line_is_linear_in_the_rows(tmp_path, name):
    form = FORMATS[name]
    few, many = (
        calls(lambda rows=rows: annotation.read(write(tmp_path, form, [TIDY[name]] * rows + ["bad"]), form))
        for rows in (3_000, 30_000)
    )
    assert 3_000 < few < many <= 10 * few
