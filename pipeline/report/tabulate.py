"""Makes the table of a planned sweep, writes its files and prints it; reads no store and trains nothing."""

import logging
import sys
from pathlib import Path

from pipeline.config import Config
from pipeline.plan import read_plan
from pipeline.report import as_markdown, write_table
from pipeline.report.summary import Table, build_table
from pipeline.workdir import WorkDir

logger = logging.getLogger(__name__)


def make_table(config: Config, place: WorkDir) -> tuple[Table, list[Path]]:
    """Builds the table of an experiment from its plan and writes it in the configured formats.

    Returns:
        The table, and the files written.

    Raises:
        FacetsError: the sweep has not been planned with these settings, or a result is damaged.
    """
    plan = read_plan(place.plan, config)
    built = build_table(config, plan, place.runs)
    return built, write_table(built, place.table, config.table.formats)


def show(table: Table, written: list[Path]) -> None:
    """Prints the table, drawn on a terminal and as Markdown in a pipe, and logs where the files are."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(as_markdown(table)))
    else:
        print(as_markdown(table), end="")  # noqa: T201 (the command is asked for the table)
    folder = written[0].parent
    logger.info("%s: %s", folder, ", ".join(path.name for path in written))
