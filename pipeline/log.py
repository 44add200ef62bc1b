"""Log lines of the packages on stderr, one plain line each.

Not a configuration of logging for programs that import facets: only the command line calls this.
"""

import logging
import sys

PACKAGES = ("stores", "extract", "temporal", "pipeline")


class StderrHandler(logging.Handler):
    """Writes to what stderr is at the time: rich replaces it while bars are drawn, so that none is torn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        sys.stderr.write(self.format(record) + "\n")  # click.echo would look behind what rich put there


def configure_logging(*, debug: bool) -> None:
    """Shows the milestones of the four packages, with ``debug`` all they say, and others' warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[StderrHandler()], force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)
