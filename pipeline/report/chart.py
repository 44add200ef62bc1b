"""The bar chart of a results table: one panel per score, one bar per combination, with spread and chance.

The user's matplotlib settings do not change it: the same table gives the same PNG. A chart carries the digest
of everything that it shows, so that one that is there already need not be drawn again.
"""

import hashlib
import importlib.metadata
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.report import wording
from pipeline.report.summary import Row, Table
from pipeline.scores import Column

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["single", "joint", "attention"]

LEGEND: dict[Kind, str] = {
    "single": "one task",
    "joint": "joint",
    "attention": "multi-task attention",
}

COLOURS: dict[Kind, str] = {"single": "#999999", "joint": "#56B4E9", "attention": "#E69F00"}
"""From the palette of Okabe and Ito (2008), told apart by people with any form of colour blindness."""

CHANCE_COLOUR = "#D55E00"
DOTS_PER_INCH = 150
HEAD, END = 1024, b"IEND\xaeB`\x82"
"""Bytes at the start of a PNG that hold its comment, and how a whole one ends."""


def kind(row: Row) -> Kind:
    """Returns which colour the row's bars have."""
    if row.attention:
        return "attention"
    return "single" if len(row.tasks) == 1 else "joint"


def lower_limit(table: Table) -> float:
    """Returns where the score axis starts: 0, or a tenth below the lowest whisker: CCC can be negative."""
    cells = [row.cells[column] for row in table.rows for column in table.columns if column in row.cells]
    lowest = min((cell.mean - (cell.sd or 0.0) for cell in cells), default=0.0)
    return min(0.0, math.floor(lowest * 10) / 10)


def ticks(left: float) -> list[float]:
    """Returns the scores marked on an axis that starts at ``left``: every fifth up to 1."""
    return [tick / 5 for tick in range(math.ceil(left * 5), 6)]


def trained_columns(table: Table) -> list[Column]:
    """Returns the headline columns of single tasks that at least one row of the table trains."""
    single = [column for column in table.columns if column.track is None]
    return [column for column in single if any(column.task in row.tasks for row in table.rows)]


def charted_rows(table: Table) -> list[Row]:
    """Returns the rows of the charts: all but those that successive halving stopped with every seed."""
    return [row for row in table.rows if row.counts.get("stopped", 0) < row.planned]


def digest(table: Table) -> str:
    """Returns the SHA-256 of all that decides the bytes of the chart: numbers, words, code, library."""
    shown = hashlib.sha256(Path(__file__).read_bytes())
    shown.update(importlib.metadata.version("matplotlib").encode())
    for column in trained_columns(table):
        shown.update(repr((column.header, table.chance(column))).encode())
        for row in charted_rows(table):
            cell = row.cells.get(column)
            bar = wording.no_score(row, column) if cell is None else (cell.mean, cell.sd, cell.best)
            shown.update(repr((row.name, kind(row), bar)).encode())
    return shown.hexdigest()


def is_drawn(table: Table, path: Path) -> bool:
    """Tells whether ``path`` is the whole chart of ``table``."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    return digest(table).encode() in content[:HEAD] and content.endswith(END)


def as_png(table: Table) -> bytes:
    """Returns the chart as PNG, 150 dots per inch; its height follows the number of rows."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    columns, rows = trained_columns(table), charted_rows(table)

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            _panel(axes, table, column)
        shown = {kind(row) for row in rows}
        handles: list[Artist] = [
            Patch(color=COLOURS[k], label=label) for k, label in LEGEND.items() if k in shown
        ]
        handles.append(Line2D([], [], color=CHANCE_COLOUR, linestyle="--", label="chance"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)

    names = 1.4 + 0.06 * max([14, *(len(row.name) for row in rows)])  # inches
    return drawn(draw, (names + 2.6 * len(columns), 1.3 + 0.3 * len(rows)), digest(table))


def drawn(draw: "Callable[[Figure], None]", size: tuple[float, float], comment: str | None = None) -> bytes:
    """Returns a figure of ``size`` inches that ``draw`` fills, as PNG; the user's settings do not matter."""
    # matplotlib costs half a second, which only pictures need
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        # Software would name the matplotlib version, and with it change the bytes
        metadata = {"Software": None} | ({} if comment is None else {"Comment": comment})
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def _panel(axes: "Axes", table: Table, column: Column) -> None:
    left = lower_limit(table)
    rows = charted_rows(table)
    for y, row in enumerate(rows):
        cell = row.cells.get(column)
        if cell is None:
            if column.task in row.tasks:
                axes.text(
                    0.02, y, wording.no_score(row, column), va="center", style="italic", color="#666666"
                )
            continue
        axes.barh(y, cell.mean, height=0.72, color=COLOURS[kind(row)])
        if cell.sd is not None:
            axes.errorbar(cell.mean, y, xerr=cell.sd, color="black", linewidth=1, capsize=2.5)
        end = max(0.0, cell.mean + (cell.sd or 0.0))
        weight = "bold" if cell.best else "normal"
        axes.text(end + 0.03, y, wording.decimal(cell.mean), va="center", fontsize=8, fontweight=weight)
    chance = table.chance(column)
    if chance is not None:
        axes.axvline(chance, color=CHANCE_COLOUR, linestyle="--", linewidth=1.2, zorder=3)
    axes.set_title(column.header, fontsize=10)
    axes.set_xlim(left, 1.2)
    axes.set_xticks(ticks(left))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
