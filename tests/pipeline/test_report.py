"""Claims about the forms of the table: what a reader sees in Markdown, CSV, LaTeX, HTML and the chart."""

import csv
import dataclasses
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from fabricated_runs import plan, scattered, table_of, write_failure, write_stopped
from PIL import Image

from pipeline.report import as_markdown, write_table
from pipeline.report.html import as_html, names_width
from pipeline.report.latex import as_latex
from pipeline.report.spreadsheet import as_long_csv, as_wide_csv
from stores.errors import ConfigError


@pytest.fixture
def table(tmp_path):
    return table_of(tmp_path / "runs", plan())


@pytest.fixture
def broken(tmp_path):
    """V complete; AU with one failed and one missing seed; V+AU+Attn without any run."""
    runs = plan(names=("V", "AU", "V+AU+Attn"))
    write_failure(tmp_path / "runs", runs[4], "loss is NaN | at 100% of <epoch> 3_a")
    values = {run.run_id: value for run, value in zip(runs, (0.5, 0.6, 0.7, 0.5), strict=False)}
    return table_of(tmp_path / "runs", runs, lambda run: values.get(run.run_id))


def read(csv_text):
    return list(csv.DictReader(io.StringIO(csv_text)))


def lines(markdown):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line[:1] == "|"
    ]


def test_markdown_shows_scores_best_marks_and_what_is_not_there(broken):
    head, _, v, au, joint = lines(as_markdown(broken))
    assert head == ["tag", "Best/Epochs", "Total (AU)", "Total (EXPR)", "CCC (V)", "CCC (A)"]
    assert v == ["V", "12/20", "---", "---", "**0.600 ± 0.100**", "---"]
    assert au == ["AU", "12/20, failed (1/3), missing (1/3)", "**0.500** (n=1)", "---", "---", "---"]
    assert joint == ["V+AU+Attn", "missing (3/3)", "missing", "---", "missing", "---"]


def test_every_form_shows_the_score_of_a_track_and_a_dash_where_a_row_lacks_one_of_its_tasks(tmp_path):
    runs = plan(names=("V", "V+A+AU+EXPR"), seeds=(0,))
    table = table_of(tmp_path / "runs", runs, 0.5, edition_name="abaw3")
    text = as_markdown(table)
    head, _, single, joint = lines(text)
    assert head[-2:] == ["P (VA)", "P (MTL)"]
    assert (single[-2:], joint[-2:]) == (["---", "---"], ["**0.500**", "**1.500**"])
    assert "P (MTL) is the mean of the two CCC, plus F1 (EXPR), plus F1 (AU), at most 3" in text
    assert "P (MTL) 0.596" in text  # chance: totals of AU 0.44 and EXPR 0.156
    assert r"$\mathbf{1.500}$ \\" in as_latex(table)
    assert as_html(table).count("<b>1.500</b>") == 1
    (line,) = [row for row in read(as_long_csv(table)) if row["task"] == "MTL"]
    assert (line["metric"], line["value"], line["frames"]) == ("track", "1.5", "")
    wide = read(as_wide_csv(table))
    assert [row["MTL.track mean"] for row in wide] == ["", "1.5"]


def test_footnotes_state_where_the_numbers_come_from(broken):
    text = as_markdown(broken)
    for fact in (
        "narrow_resnet50",
        "0123456789ab",
        "abaw2",
        "24 clips",
        "0.440",
        "optimistic",
        "3 seeds",
        "seed 1",
    ):
        assert fact in text
    assert "embedded corpus only" in text
    assert "F1 0.310, accuracy 0.790" in text


def test_markdown_and_latex_escape_what_they_print(broken):
    assert r"loss is NaN \| at 100% of \<epoch> 3_a" in as_markdown(broken)
    latex = as_latex(broken)
    assert r"loss is NaN \textbar{} at 100\% of \textless{}epoch\textgreater{} 3\_a" in latex
    assert r"narrow\_resnet50" in latex


def test_latex_has_as_many_cells_in_every_line_and_balanced_braces(table):
    latex = as_latex(table)
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:-1]
    assert len(body) == len(table.rows)
    assert {line.count("&") for line in body} == {5}
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    assert latex.count(r"\mathbf") == 4


def test_the_long_csv_has_a_line_for_every_run_task_and_metric(table):
    rows = read(as_long_csv(table))
    keys = [(r["run_id"], r["task"], r["metric"], r["label"]) for r in rows]
    assert len(set(keys)) == len(keys)
    per_task = {"V": 1, "A": 1, "AU": 3 + 2 * 12, "EXPR": 3 + 7}
    assert len(rows) == sum(per_task[task] * row.planned for row in table.rows for task in row.tasks)
    assert {r["metric"] for r in rows if r["task"] == "AU" and not r["label"]} == {"f1", "accuracy", "total"}


def test_csv_values_are_not_rounded_and_average_to_the_table(table):
    rows = read(as_long_csv(table))
    for row in table.rows:
        for column, cell in row.cells.items():
            values = [
                float(r["value"])
                for r in rows
                if (r["row"], r["task"], r["metric"], r["label"])
                == (row.name, column.task, column.metric, column.label)
            ]
            assert cell.mean == pytest.approx(np.mean(values), abs=1e-12)


def test_failed_and_missing_runs_keep_their_lines_in_both_csv(broken):
    rows = read(as_long_csv(broken))
    assert {r["status"] for r in rows} == {"done", "failed", "missing"}
    assert all((r["value"] == "") == (r["status"] != "done") for r in rows)
    wide = read(as_wide_csv(broken))
    assert [(r["row"], r["done"], r["failed"], r["missing"]) for r in wide] == [
        ("V", "3", "0", "0"),
        ("AU", "1", "1", "1"),
        ("V+AU+Attn", "0", "0", "3"),
    ]


class Page(HTMLParser):
    VOID = frozenset({"meta", "br", "hr", "img", "link", "input", "line", "rect", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", ["table", "broken"])
def test_the_page_is_well_formed_and_loads_nothing(name, request):
    built = request.getfixturevalue(name)
    html = as_html(built)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "@import" not in html
    assert "url(http" not in html
    text = "".join(page.text)
    assert all(row.name in text for row in built.rows)


def test_the_page_escapes_what_a_run_reports(broken):
    html = as_html(broken)
    assert "of &lt;epoch&gt; 3_a" in html
    assert "<epoch>" not in html


@pytest.mark.parametrize("name", ["table", "broken"])
def test_the_chart_is_a_picture_with_the_colours_of_its_legend(name, request, tmp_path):
    write_table(request.getfixturevalue(name), tmp_path, ["md"])
    with Image.open(tmp_path / "chart.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        assert image.width > 1000
    colours = {tuple(pixel) for pixel in np.unique(pixels, axis=0)}
    assert (0x99, 0x99, 0x99) in colours  # one task
    assert (0xD5, 0x5E, 0x00) in colours  # chance
    assert (0xE6, 0x9F, 0x00) in colours  # multi-task attention


def test_the_same_results_give_the_same_bytes_and_no_temporary_stays(table, tmp_path):
    first = {path.name: path.read_bytes() for path in write_table(table, tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in write_table(table, tmp_path / "b")}
    assert first == second
    assert set(first) == {"table.md", "table.csv", "table_wide.csv", "table.tex", "table.html", "chart.png"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(first)


def test_a_whole_chart_of_the_same_table_is_not_drawn_again(table, tmp_path, monkeypatch):
    *_, chart = write_table(table, tmp_path, ["md"])
    drawn = chart.read_bytes()
    monkeypatch.setattr("pipeline.report.as_png", lambda table: b"drawn again")
    write_table(table, tmp_path, ["md"])
    assert chart.read_bytes() == drawn
    other = dataclasses.replace(table, rows=table.rows[1:])
    for content, asked in ((drawn[:-1], table), (drawn, other)):
        chart.write_bytes(content)
        write_table(asked, tmp_path, ["md"])
        assert chart.read_bytes() == b"drawn again"


def test_an_unknown_format_is_refused_before_anything_is_written(table, tmp_path):
    with pytest.raises(ConfigError, match="pdf"):
        write_table(table, tmp_path / "out", ["md", "pdf"])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def swept(tmp_path):
    """Two rates and two AU weights; the slow rate was stopped by successive halving."""
    own = {"V+AU lr=0.0003": {"lr": 0.0003}, "V+AU loss_weights=AU:0.1": {"loss_weights": {"AU": 0.1}}}
    runs = plan(names=("V", "V+AU", *own), own=own, bracket="b")
    for run in runs:
        if "lr" in run.settings:
            write_stopped(tmp_path / "runs", run)
    return table_of(tmp_path / "runs", runs, lambda run: None if "lr" in run.settings else scattered(run))


def test_markdown_shows_rows_with_settings_and_what_halving_stopped(swept):
    text = as_markdown(swept)
    *_, slow, light = lines(text)
    assert slow == ["V+AU lr=0.0003", "stopped (3/3)", "stopped", "---", "stopped", "---"]
    assert light[0] == "V+AU loss_weights=AU:0.1"
    assert "3 of 12 runs were ended by successive halving (3 after epoch 2)" in text


def test_both_csv_have_a_column_for_every_varied_setting(swept):
    rows = read(as_long_csv(swept))
    by_row = {
        r["row"]: (r["training.lr"], r["training.loss_weights"], r["status"], r["epochs"]) for r in rows
    }
    assert by_row == {
        "V": ("0.001", "V:1", "done", "20"),
        "V+AU": ("0.001", "V:1,AU:1", "done", "20"),
        "V+AU lr=0.0003": ("0.0003", "V:1,AU:1", "stopped", "2"),
        "V+AU loss_weights=AU:0.1": ("0.001", "V:1,AU:0.1", "done", "20"),
    }
    wide = read(as_wide_csv(swept))
    assert [(r["training.lr"], r["done"], r["stopped"]) for r in wide] == [
        ("0.001", "3", "0"), ("0.001", "3", "0"), ("0.0003", "0", "3"), ("0.001", "3", "0"),
    ]  # fmt: skip


def test_the_page_leaves_room_for_the_names_of_rows_with_settings(swept, table):
    assert names_width(swept) > names_width(table)
    assert "V+AU loss_weights=AU:0.1" in as_html(swept)
