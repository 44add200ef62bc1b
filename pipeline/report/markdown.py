"""The table in GitHub's Markdown, aligned so that it also reads well in a terminal."""

import re

from pipeline.report import wording
from pipeline.report.summary import Cell, Row, Table
from pipeline.scores import Column


def as_markdown(table: Table) -> str:
    """Returns the table and its footnotes as Markdown; the best score of each column is bold."""
    lines: list[str] = []
    for title, cells, full in wording.grids(table):
        head = ["tag", "Best/Epochs", *(column.header for column in table.columns)]
        body = [
            [_escape(row.name), wording.epochs(row)]
            + [_cell(row, column, cells(row).get(column), full(row)) for column in table.columns]
            for row in table.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
        lines += [f"**{title}**", ""] if title else []
        lines += [
            "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
            for line in [head, rule, *body]
        ]
        lines.append("")
    notes = [f"- **{title}**: {_escape(text)}" for title, text in wording.footnotes(table)]
    return "\n".join([*lines, *notes, ""])


def _cell(row: Row, column: Column, cell: Cell | None, full: int) -> str:
    if cell is None:
        return wording.no_score(row, column)
    score = wording.decimal(cell.mean) + (f" ± {wording.decimal(cell.sd)}" if cell.sd is not None else "")
    score = f"**{score}**" if cell.best else score
    return score if cell.n == full else f"{score} (n={cell.n})"


def _escape(text: str) -> str:
    return re.sub(r"([\\`*\[\]<|~])", r"\\\1", text)
