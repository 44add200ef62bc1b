"""The table as one HTML file: nothing is loaded from elsewhere, readable on light and dark screens."""

from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from pipeline.report import wording
from pipeline.report.chart import LEGEND, charted_rows, kind, lower_limit, ticks, trained_columns
from pipeline.report.summary import Cell, Row, Table
from pipeline.scores import Column

NAMES, LETTER, AXIS, BAR, MARGIN = 156, 7, 260, 20, 22
"""Chart geometry in CSS pixels: least width of names, width of a letter, of scores 0 to 1, height of a bar,
room above."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a panel, in CSS pixels.

    Attributes:
        row: the combination.
        cell: its score; None if it failed or is missing.
        word: shown instead of a score.
        x: left end.
        width: length.
        y: upper edge of its slot.
        whisker: ends of the line of one standard deviation to each side; None for a single seed.
        end: where its value is written.
    """

    row: Row
    cell: Cell | None
    word: str
    x: float
    width: float
    y: int
    whisker: tuple[float, float] | None
    end: float


@dataclass(frozen=True, slots=True)
class Panel:
    """The bars of one score, for the rows that train its task.

    Attributes:
        column: the score.
        bars: from top to bottom.
        ticks: position and text of the marked scores.
        chance: position of the chance level.
        width: of the whole panel.
        height: of the whole panel.
    """

    column: Column
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    chance: float | None
    width: float
    height: int


def as_html(table: Table) -> str:
    """Returns the table, a chart of each score, F1 and accuracy apart and single labels as an HTML page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(
        resources.files("pipeline.report").joinpath("page.html.j2").read_text("utf-8")
    )
    apart = [column for column in table.details if not column.label]
    return (
        page.render(
            table=table,
            blocks=wording.grids(table),
            panels=[_panel(table, column) for column in trained_columns(table)],
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
            names=names_width(table),
            bar=BAR,
            margin=MARGIN,
        )
        + "\n"
    )


def names_width(table: Table) -> int:
    """Returns the room for the names of the rows, which may tell settings."""
    return max(NAMES, 8 + LETTER * max(len(row.name) for row in table.rows))


def _panel(table: Table, column: Column) -> Panel:
    left, names = lower_limit(table), names_width(table)
    rows = [row for row in charted_rows(table) if column.task in row.tasks]

    def place(score: float) -> float:
        return round(names + (score - left) * AXIS, 1)

    bars = []
    for i, row in enumerate(rows):
        cell = row.cells.get(column)
        mean, sd = (cell.mean, cell.sd) if cell else (0.0, None)
        bars.append(
            Bar(
                row=row,
                cell=cell,
                word="" if cell else wording.no_score(row, column),
                x=place(min(0.0, mean)),
                width=round(abs(mean) * AXIS, 1),
                y=MARGIN + i * BAR,
                whisker=None if sd is None else (place(mean - sd), place(mean + sd)),
                end=place(max(0.0, mean + (sd or 0.0))) + 6,
            )
        )
    chance = table.chance(column)
    return Panel(
        column=column,
        bars=tuple(bars),
        ticks=tuple((place(tick), f"{tick:g}") for tick in ticks(left)),
        chance=None if chance is None else place(chance),
        width=place(1.0) + 48,
        height=MARGIN + len(rows) * BAR + 22,
    )
