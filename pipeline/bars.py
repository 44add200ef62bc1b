"""Progress of a command: bars on a terminal, nothing in a pipe. rich is imported on a terminal only.

Whatever must be read afterwards goes through ``logging``.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stores.progress import Progress, silent


@contextmanager
def bars() -> Iterator[Progress]:
    """Yields a progress callback; each step it names gets a bar if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from pipeline.terminal import drawn_bars

    with drawn_bars() as progress:
        yield progress
