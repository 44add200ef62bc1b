"""The one progress callback: ``(step, total, completed)``; library code calls it and draws nothing.

The command line turns these calls into bars on a terminal and stays silent in a pipe.
"""

from typing import Protocol


class Progress(Protocol):
    """Called as a long step advances; ``total`` and ``completed`` count the step's own unit."""

    def __call__(self, step: str, total: int, completed: int) -> None:
        """Reports that ``completed`` of ``total`` units of ``step`` are done."""


def silent(step: str, total: int, completed: int) -> None:
    """The default callback: nobody is watching."""
