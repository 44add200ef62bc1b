"""Log lines of the packages on stderr, one plain line each; only the command line asks for them."""

import logging
import sys

PACKAGES = ("stores", "extract", "temporal", "pipeline")


class StderrHandler(logging.Handler):
    """Writes to the stderr of the moment: rich replaces it while bars are drawn, so that none is torn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        sys.stderr.write(self.format(record) + "\n")  # click.echo would write past the replacement


def configure_logging(*, debug: bool) -> None:
    """Shows the milestones of the four packages, with ``debug`` every line, and the warnings of others."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[StderrHandler()], force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)
