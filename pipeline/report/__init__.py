"""A table as files: Markdown, CSV, LaTeX, HTML and a bar chart, the same bytes for the same results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.report.chart import as_png, is_drawn
from pipeline.report.html import as_html
from pipeline.report.latex import as_latex
from pipeline.report.markdown import as_markdown
from pipeline.report.spreadsheet import as_long_csv, as_wide_csv
from pipeline.report.summary import Table
from stores.commit import replace_file
from stores.errors import ConfigError

__all__ = ["FORMATS", "as_markdown", "write_table"]

FORMATS: Mapping[str, Mapping[str, Callable[[Table], str]]] = {
    "md": {"table.md": as_markdown},
    "csv": {"table.csv": as_long_csv, "table_wide.csv": as_wide_csv},
    "tex": {"table.tex": as_latex},
    "html": {"table.html": as_html},
}
"""Known formats and the files that each writes."""


def write_table(table: Table, folder: Path, formats: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Writes ``table`` in each of ``formats``, and ``chart.png``; a file appears whole or not at all.

    A chart that shows this table already stays as it is.

    Args:
        table: the results.
        folder: where to write; made if absent.
        formats: some of ``md``, ``csv``, ``tex``, ``html``.

    Returns:
        The files, in the order of ``formats``, the chart last.

    Raises:
        ConfigError: a format is unknown.
    """
    for name in formats:
        if name not in FORMATS:
            msg = f"unknown table format {name!r}: expected some of {', '.join(FORMATS)}"
            raise ConfigError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        file: write(table).encode()
        for name in dict.fromkeys(formats)
        for file, write in FORMATS[name].items()
    }
    chart = folder / "chart.png"
    if not is_drawn(table, chart):
        contents[chart.name] = as_png(table)
    for file, content in contents.items():
        replace_file(folder / file, content)
    return [*(folder / file for file in contents if file != chart.name), chart]
