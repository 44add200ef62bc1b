"""The census of a corpus as tables for a terminal: coverage, classes, action units, the readers' notes."""

from collections.abc import Iterator, Sequence

from pipeline.config import TASKS
from pipeline.doctor.census import SPLITS, Census, Counts, Tally
from pipeline.stage2.dryrun import table_lines


def lines(census: Census) -> Iterator[str]:
    """Yields the tables, line by line."""
    yield ""
    rows = [["corpus", "split", "clips", "shards", "frames", f"no {census.seen}", "subjects", *TASKS]]
    rows += [_coverage(tally.corpus, tally) for tally in census.parts]
    if len({tally.corpus for tally in census.parts}) > 1:
        rows += [_coverage("all", tally) for tally in census.splits.values() if tally.clips]
    yield from table_lines(rows)
    shown = [census.splits[split] for split in SPLITS if any(census.splits[split].labelled.values())]
    yield from _shares(
        "expression",
        census.expression_names,
        [(tally.split, tally.classes, tally.classes.sum().repeat(len(tally.classes))) for tally in shown],
    )
    yield from _shares(
        "action unit",
        census.au_names,
        [(tally.split, tally.active, tally.known) for tally in shown],
    )
    if census.notes:
        yield from ("", "notes of the reader", *(f"  {note}" for note in census.notes))


def _coverage(corpus: str, tally: Tally) -> list[str]:
    missing = tally.frames - tally.crops
    return [
        corpus,
        tally.split,
        f"{tally.clips:,}",
        f"{tally.shards:,}" if tally.shards else "-",
        f"{tally.frames:,}",
        _with_share(missing, tally.frames),
        f"{len(tally.subjects):,}" if tally.subjects else "unknown",
        *(_with_share(tally.labelled[task], tally.frames) for task in TASKS),
    ]


def _shares(title: str, names: Sequence[str], splits: Sequence[tuple[str, Counts, Counts]]) -> Iterator[str]:
    if not any(int(known.sum()) for _, _, known in splits):
        return
    yield ""
    rows = [[title, *(cell for split, _, _ in splits for cell in (split, "annotated"))]]
    for k, name in enumerate(names):
        row = [name]
        for _, count, known in splits:
            share = f"{count[k]:,} ({count[k] / known[k]:.2%})" if known[k] else "-"
            row += [share, f"{known[k]:,}"]
        rows.append(row)
    yield from table_lines(rows)


def _with_share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})" if count else "-"
