"""The table as one HTML file: nothing is loaded from elsewhere, readable on light and dark screens."""

from importlib import resources

from jinja2 import Environment, StrictUndefined

from pipeline.report import wording
from pipeline.report.chart import LEGEND, charted_rows, kind, lower_limit, ticks, trained_columns
from pipeline.report.summary import Table

NAMES, LETTER, AXIS, BAR, MARGIN = 156, 7, 260, 20, 22
"""Chart geometry in CSS pixels: least width of names, width of a letter, of scores 0 to 1, height of a bar,
room above."""


def as_html(table: Table) -> str:
    """Returns the table, a chart of each score, F1 and accuracy apart and single labels as an HTML page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(
        resources.files("pipeline.report").joinpath("page.html.j2").read_text("utf-8")
    )
    left, names = lower_limit(table), names_width(table)

    def place(score: float) -> float:
        return round(names + (score - left) * AXIS, 1)

    apart = [column for column in table.details if not column.label]
    return (
        page.render(
            table=table,
            blocks=wording.grids(table),
            panels=trained_columns(table),
            rows=charted_rows(table),
            ticks=ticks(left),
            place=place,
            axis=AXIS,
            apart=[column for column in apart if any(column.task in row.tasks for row in table.rows)],
            labels={
                title: [
                    column
                    for column in table.details
                    if column.label and column.task == task and column.metric == "f1"
                ]
                for task, title in (("AU", "F1 of each AU"), ("EXPR", "F1 of each expression"))
                if any(task in row.tasks for row in table.rows)
            },
            legend=[(k, text) for k, text in LEGEND.items() if any(kind(row) == k for row in table.rows)],
            kind=kind,
            wording=wording,
            names=names,
            bar=BAR,
            margin=MARGIN,
        )
        + "\n"
    )


def names_width(table: Table) -> int:
    """Returns the room for the names of the rows, which may tell settings."""
    return max(NAMES, 8 + LETTER * max(len(row.name) for row in table.rows))
