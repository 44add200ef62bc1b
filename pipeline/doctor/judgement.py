"""Judges a corpus that was read: mapping of labels, crops, coverage of the sweep's tasks, people, rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.config import MIXTURE, Config
from pipeline.doctor.census import Census, some
from pipeline.doctor.finding import Finding
from pipeline.rows import sweep_rows
from pipeline.rules import breaches, sentences

if TYPE_CHECKING:
    from extract.corpora import Corpus
    from extract.corpora.labelspace import MappingReport
    from extract.corpora.splits import Unit

TRAIN, SCORED = "train", "validation"
MANY_MISSING = 0.1
"""Share of labelled frames without a crop, and of a clip's rows behind its last one, that is worth a look."""
FEW_ROWS = 2
"""Tools that count the frames of a video differ by so many."""


def check_mapping(reports: "Mapping[str, MappingReport]") -> Iterator[Finding]:
    """How the labels of each corpus were mapped; classes that nobody decided about are worth a warning.

    An action unit outside the list is told and no more: unlike a class that is left out, it takes no label
    from any frame, and corpora annotate units that no edition asks for.
    """
    for part, report in reports.items():
        found = f"{part}: " + ("; ".join(report.lines()) or "every name kept")
        lost = [m.source for m in report.expressions if not m.target and m.reason != "rule" and m.labels]
        if lost:
            remedy = (
                f"labels of {some(lost)} are unknown here: map them by corpus.mapping (to null if that is"
                " meant), or list them in corpus.expressions"
            )
            yield Finding("mapping", "WARN", found, remedy)
        else:
            yield Finding("mapping", "PASS", found)


def check_parts(census: Census) -> Finding:
    """Which corpora there are, and which of their clips are shards of independent images."""
    parts: dict[str, list[str]] = {}
    for tally in census.parts:
        kind = f"{tally.clips:,} clips"
        if tally.shards:
            kind = f"{tally.shards:,} shards of images"
            kind += f" and {tally.clips - tally.shards:,} clips" if tally.shards < tally.clips else ""
        parts.setdefault(tally.corpus, []).append(f"{tally.split} {kind}, {tally.frames:,} frames")
    found = "; ".join(f"{corpus}: {', '.join(said)}" for corpus, said in parts.items())
    return Finding("clips", "PASS", found)


def check_crops(census: Census) -> Iterator[Finding]:
    """Every clip has crops, or features if these are given, and most labelled frames have one."""
    tallies = census.splits.values()
    frames, crops = sum(t.frames for t in tallies), sum(t.crops for t in tallies)
    found = f"{frames - crops:,} of {frames:,} frames have no {census.seen}"
    share, worst = max(
        (
            (1 - t.usable[task] / known, f"{known - t.usable[task]:,} of {known:,} with {task} in {t.split}")
            for t in tallies
            for task, known in t.labelled.items()
            if known
        ),
        default=(0.0, ""),
    )
    if share:
        found += f"; of labelled frames at most {worst}"
    if share > MANY_MISSING:
        remedy = f"runs see only the frames around them: look whether the {census.seen}s are complete"
        yield Finding("crops", "WARN", found, remedy)
    else:
        yield Finding("crops", "PASS", found)
    if empty := [clip for tally in tallies for clip in tally.empty]:
        found = f"{len(empty)} clips have no {census.seen} at all: {some(empty)}"
        remedy = "unpack their crops, or take their annotations away"
        if census.given:
            remedy = "import their features, or take their annotations away"
        yield Finding("crops", "WARN", found, remedy)


def check_rows(census: Census) -> Finding:
    """Labels end where crops end; other mismatches that readers tolerate are among their notes."""
    tallies = census.splits.values()
    behind = {clip: rows for tally in tallies for clip, rows in tally.cut.items() if rows > FEW_ROWS}
    total, frames = sum(behind.values()), sum(tally.frames for tally in tallies)
    if not behind:
        found = f"no clip has more than {FEW_ROWS} label rows behind its last {census.seen}"
        return Finding("rows", "PASS", found)
    longest = sorted(behind, key=lambda clip: -behind[clip])
    listed = some(f"{clip} {behind[clip]:,}" for clip in longest)
    found = f"{len(behind)} clips have label rows behind their last {census.seen}"
    found += f", {total:,} of {frames:,}: {listed}"
    if total <= MANY_MISSING * frames:
        return Finding("rows", "PASS", found)
    remedy = f"look whether the {census.seen}s of these clips are complete"
    return Finding("rows", "WARN", found, remedy)


def check_coverage(config: Config, census: Census) -> Iterator[Finding]:
    """Each task of the sweep can be trained and scored."""
    tasks = examined_tasks(config, census)
    lacking: dict[str, list[str]] = {}
    for split in (TRAIN,) if folds_of(config) else (TRAIN, SCORED):
        for task in tasks:
            tally = census.splits[split]
            if not tally.labelled[task]:
                lacking.setdefault(task, []).append(f"no labels in {split}")
            elif not tally.usable[task]:
                lacking.setdefault(task, []).append(f"no labelled frame with a {census.seen} in {split}")
    for task, reasons in lacking.items():
        remedy = f"take {task} out of the sweep, or add annotations of it"
        if census.splits[TRAIN].usable[task]:
            remedy += f", or {division(config, census)}"
        yield Finding("labels", "FAIL", f"{task} has {' and '.join(reasons)}", remedy)
    if fine := [task for task in tasks if task not in lacking]:
        counts = ", ".join(
            f"{task} {census.splits[TRAIN].labelled[task]:,} + {census.splits[SCORED].labelled[task]:,}"
            for task in fine
        )
        yield Finding("labels", "PASS", f"labelled frames, train + validation: {counts}")


def division(config: Config, census: Census) -> str:
    """Returns how to get a validation split that this corpus can have."""
    train, test = census.splits[TRAIN], census.splits["test"]
    by = ", by: video" if train.nameless else ""
    folds = f"set sweep.folds: {{count: 5{by}}}"
    if config.corpus.kind == MIXTURE:
        return f"score parts that have it (corpus.score), and {folds}"
    taken = any(test.labelled.values()) and not census.splits[SCORED].clips
    return folds + (" or corpus.split: {validation: test}" if taken else "")


def folds_of(config: Config) -> bool:
    """Whether the sweep divides the clips itself, so that the official splits decide nothing."""
    return config.sweep is not None and config.sweep.folds is not None


def check_cells(census: Census) -> Finding:
    """How many cells of annotated AU rows are null: they are masked, cell by cell."""
    parts = []
    for split, tally in census.splits.items():
        if tally.labelled["AU"]:
            cells = tally.labelled["AU"] * len(census.au_names)
            null = cells - int(tally.known.sum())
            share = f"{null:,} of {cells:,} ({null / cells:.1%})"
            parts.append(f"{split} {share}, in {tally.partial:,} partly annotated rows")
    found = f"unknown cells of rows with any AU: {'; '.join(parts)}" if parts else "no AU annotations"
    return Finding("AU cells", "PASS", found)


def check_distributions(config: Config, census: Census) -> Iterator[Finding]:
    """Every class and AU that is scored occurs in training and in validation, and no series is constant."""
    tasks = examined_tasks(config, census)
    found: list[Finding] = []
    for task, names, what, key in (
        ("EXPR", census.expression_names, "frame", "corpus.expressions"),
        ("AU", census.au_names, "active frame", "corpus.aus"),
    ):
        for split in (TRAIN, SCORED):
            tally = census.splits[split]
            if task not in tasks or not tally.labelled[task]:
                continue
            counts = tally.classes if task == "EXPR" else tally.active
            absent = [name for name, count in zip(names, counts, strict=True) if not count]
            if not absent:
                continue
            left = 1 - len(absent) / len(names)
            effect = f"their F1 is 0 whatever is predicted, so F1 ({task}) is at most {left:.3f}"
            if split == TRAIN:
                effect = f"nothing teaches them, so F1 ({task}) will hardly pass {left:.3f}"
            said = f"no {what} of {', '.join(absent)} in {split}: {effect}"
            remedy = f"leave them out by {key}, add a corpus that has them, or divide anew (split)"
            found.append(Finding(task, "WARN", said, remedy))
    for task in ("V", "A"):
        for split in (TRAIN, SCORED):
            least, greatest = census.splits[split].extremes[task]
            if task in tasks and least == greatest:
                said = f"every label in {split} is {least:g}: the CCC of a constant is 0"
                found.append(Finding(task, "WARN", said, f"take {task} out of the sweep, or divide anew"))
    yield from found
    if not found:
        yield Finding("classes", "PASS", "every class and AU that the sweep scores occurs in both splits")


def check_people(config: Config, corpus: "Corpus", census: Census) -> Iterator[Finding]:
    """No subject and no video is in two splits."""
    from extract.corpora import splits

    units: tuple[Unit, ...] = ("subject", "video")
    leaks = {by: splits.divided(corpus.clips, by) for by in units}
    kept = {} if folds_of(config) else splits.divided(corpus.clips)
    for by in units:
        if not leaks[by] or (by == "video" and leaks[by].keys() == leaks["subject"].keys()):
            continue
        each = (
            f"{name} in {' and '.join(f'{split} ({clip})' for split, clip in places.items())}"
            for name, places in leaks[by].items()
        )
        found = f"{len(leaks[by])} {by}s are in two splits: {some(each)}"
        refused = config.corpus.leaks == "refuse" and not kept.keys().isdisjoint(leaks[by])
        remedy = "set sweep.folds: {count: 5}"
        remedy += (
            ", or set corpus.leaks: report if it must be" if refused else "; scores are of people seen before"
        )
        yield Finding("people", "FAIL" if refused else "WARN", found, remedy)
    if not any(leaks.values()):
        people = {split: len(tally.subjects) for split, tally in census.splits.items() if tally.clips}
        found = "nobody is in two splits: subjects " + ", ".join(f"{n:,} {s}" for s, n in people.items())
        if nameless := sum(tally.nameless for tally in census.splits.values()):
            found += f"; of {nameless:,} clips no subject is known, so of these nothing can be told"
        yield Finding("people", "PASS", found)


def check_rules(config: Config, census: Census, weights_trained_on: Sequence[str]) -> Iterator[Finding]:
    """What the rules of the table's edition have against the rows of the sweep."""
    edition, mode = config.table.edition, config.table.rules
    if mode == "ignore" or config.sweep is None:
        why = "table.rules: ignore" if config.sweep else "there is no section sweep"
        yield Finding("rules", "PASS", f"not asked for ({why})")
        return
    combinations = [row.tasks for row in sweep_rows(config)]
    against = breaches(edition, combinations, census.trained, weights_trained_on)
    for forbidden in (True, False):
        refused = forbidden and mode == "refuse"
        remedy = "take these rows out, or set table.rules: flag" if refused else "the table will say so"
        for sentence in sentences(edition, [breach for breach in against if breach.forbidden == forbidden]):
            yield Finding("rules", "FAIL" if refused else "WARN", sentence.rstrip("."), remedy)
    if not against:
        yield Finding("rules", "PASS", f"those of {edition} that are known have nothing against any row")


def examined_tasks(config: Config, census: Census) -> list[str]:
    """Returns the tasks of the sweep, in the order V, A, AU, EXPR; without a sweep those with any label."""
    if config.sweep is None:
        trained = {task for tally in census.parts for task, frames in tally.labelled.items() if frames}
    else:
        trained = {task for row in sweep_rows(config) for task in row.tasks}
    return [task for task in ("V", "A", "AU", "EXPR") if task in trained]
