"""The distributions of a corpus as one picture: coverage by task, valence and arousal, classes, action units.

The user's matplotlib settings do not change it: the same census gives the same PNG.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import TASKS
from pipeline.doctor.census import BINS, SPLITS, Census, Counts, Tally
from pipeline.report.chart import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"train": "#0072B2", "validation": "#E69F00", "test": "#999999"}
"""From the palette of Okabe and Ito (2008), told apart by people with any form of colour blindness."""
ABSENT = "#D55E00"
ROW = 0.3
"""Height of a name with its bars, in inches."""

Bar = tuple[float, str]
"""Share, and the text behind the bar; a share of NaN means that there is nothing to count."""


def as_png(census: Census, name: str) -> bytes:
    """Returns the picture as PNG, 150 dots per inch; its height follows the lists of names."""
    from matplotlib.patches import Patch

    shown = [census.splits[split] for split in SPLITS if census.splits[split].clips]
    labelled = [tally for tally in shown if any(tally.labelled.values())]
    upper = ROW * (len(TASKS) + 1) + 1.0
    lower = ROW * max(4, len(census.expression_names), len(census.au_names)) + 1.0

    def draw(figure: "Figure") -> None:
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.03)  # type: ignore[union-attr, call-arg]
        grid = figure.add_gridspec(2, 2, height_ratios=(upper, lower))
        top = grid[0, 1].subgridspec(1, 2)
        _bars(
            figure.add_subplot(grid[0, 0]),
            "Crops and labels, share of all frames",
            (census.seen, *TASKS),
            {tally.split: _coverage(tally) for tally in shown},
        )
        _densities(figure.add_subplot(top[0]), "Valence, share of frames", "V", labelled)
        _densities(figure.add_subplot(top[1]), "Arousal, share of frames", "A", labelled)
        _bars(
            figure.add_subplot(grid[1, 0]),
            "Expressions, share of labelled frames",
            census.expression_names,
            {
                tally.split: _shares(tally.classes, tally.classes.sum())
                for tally in labelled
                if tally.labelled["EXPR"]
            },
        )
        _bars(
            figure.add_subplot(grid[1, 1]),
            "Action units, share of active among annotated frames",
            census.au_names,
            {tally.split: _shares(tally.active, tally.known) for tally in labelled if tally.labelled["AU"]},
        )
        counts = [f"{tally.split}: {tally.clips:,} clips, {tally.frames:,} frames" for tally in shown]
        figure.suptitle(f"{name}: {census.name}", fontsize=12, fontweight="bold")
        figure.legend(
            handles=[
                Patch(color=COLOURS[tally.split], label=text)
                for tally, text in zip(shown, counts, strict=True)
            ],
            loc="outside lower center",
            ncols=len(shown),
            frameon=False,
        )

    return drawn(draw, (11, 1.0 + upper + lower))


def _coverage(tally: Tally) -> list[Bar]:
    counts = [tally.crops, *(tally.labelled[task] for task in TASKS)]
    return [(count / tally.frames, f"{count:,}") for count in counts]


def _shares(counts: Counts, of: Counts) -> list[Bar]:
    bars: list[Bar] = []
    for count, known in zip(counts.tolist(), np.broadcast_to(of, counts.shape).tolist(), strict=True):
        share = count / known if known else np.nan
        said = (
            "unknown"
            if not known
            else "none"
            if not count
            else f"{share:.1%}"
            if share >= 0.001
            else "< 0.1%"
        )
        bars.append((share, said))
    return bars


def _bars(axes: "Axes", title: str, names: Sequence[str], splits: dict[str, list[Bar]]) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    if not splits:
        _say_empty(axes)
        return
    height = 0.8 / len(splits)
    longest = max([0.05, *(share for bars in splits.values() for share, _ in bars if share == share)])
    for k, (split, bars) in enumerate(splits.items()):
        for y, (share, text) in enumerate(bars):
            place = y + (k - (len(splits) - 1) / 2) * height
            axes.barh(place, 0 if np.isnan(share) else share, height=0.9 * height, color=COLOURS[split])
            told = "#333333" if share > 0 or split == "test" else ABSENT
            end = (0 if np.isnan(share) else share) + 0.01 * longest
            axes.text(end, place, text, va="center", fontsize=6.5, color=told)
    axes.set_xlim(0, 1.18 * longest)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}" if share <= 1 else "")
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _densities(axes: "Axes", title: str, task: str, tallies: Sequence[Tally]) -> None:
    edges = np.linspace(-1, 1, BINS + 1)
    axes.set_title(title, fontsize=10, loc="left")
    counted = [tally for tally in tallies if tally.labelled[task]]
    if not counted:
        _say_empty(axes)
        return
    for tally in counted:
        share = tally.histograms[task] / tally.labelled[task]
        axes.stairs(share, edges, color=COLOURS[tally.split], linewidth=1.5)
        axes.stairs(share, edges, color=COLOURS[tally.split], alpha=0.15, fill=True)
    axes.set_xlim(-1, 1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _say_empty(axes: "Axes") -> None:
    axes.text(0.5, 0.5, "no labels", ha="center", va="center", color="#666666", transform=axes.transAxes)
    axes.set_axis_off()
