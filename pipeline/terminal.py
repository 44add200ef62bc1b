"""Draws progress on a terminal as bars with rate and time left, and nothing in a pipe."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from stores.progress import Progress


class RateColumn(TextColumn):
    """Units per second over the last half minute."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Returns the rate, with one decimal below ten."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        return Text(f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="progress.data.speed")


@contextmanager
def drawn_bars() -> Iterator[Progress]:
    """Yields a progress callback; each step it names gets a bar on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as drawn:
        steps: dict[str, TaskID] = {}

        def advance(step: str, total: int, completed: int) -> None:
            if step not in steps:
                steps[step] = drawn.add_task(step, total=total)
            drawn.update(steps[step], total=total, completed=completed)

        yield advance
