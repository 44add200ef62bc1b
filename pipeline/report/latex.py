"""The table in LaTeX with booktabs rules and footnotes below, to be included in a paper."""

import re

from pipeline.report import wording
from pipeline.report.summary import Cell, Row, Table
from pipeline.scores import Column

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
}


def as_latex(table: Table) -> str:
    """Returns the table and its footnotes as one LaTeX ``table``; the best score of each column is bold."""
    head = ["tag", "Best/Epochs", *(column.header for column in table.columns)]
    blocks: list[str] = []
    for title, cells, full in wording.grids(table):
        if title:
            blocks += [r"    \midrule", rf"    \multicolumn{{{len(head)}}}{{l}}{{{title}}} \\"]
        blocks.append(r"    \midrule")
        for row in table.rows:
            line = [_escape(row.name), _escape(wording.epochs(row))]
            line += [_cell(row, column, cells(row).get(column), full(row)) for column in table.columns]
            blocks.append(f"    {' & '.join(line)} \\\\")
    corpus, edition = _escape(table.plan.provenance.corpus), _escape(table.config.table.edition)
    notes = [rf"\textbf{{{title}:}} {_escape(text)}\par" for title, text in wording.footnotes(table)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{Task combinations on {corpus}, {wording.scored_clips(table)} ({edition}).}}",
        r"  \label{tab:facets}",
        rf"  \begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"    \toprule",
        f"    {' & '.join(head)} \\\\",
        *blocks,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \par\medskip",
        r"  \begin{minipage}{\linewidth}\footnotesize",
        *(f"    {note}" for note in notes),
        r"  \end{minipage}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _cell(row: Row, column: Column, cell: Cell | None, full: int) -> str:
    if cell is None:
        return wording.no_score(row, column)
    mean = wording.decimal(cell.mean)
    mean = rf"\mathbf{{{mean}}}" if cell.best else mean
    sd = rf" \pm {wording.decimal(cell.sd)}" if cell.sd is not None else ""
    n = "" if cell.n == full else f" (n={cell.n})"
    return f"${mean}{sd}${n}"


def _escape(text: str) -> str:
    return re.sub("[" + re.escape("".join(ESCAPES)) + "]", lambda found: ESCAPES[found[0]], text)
