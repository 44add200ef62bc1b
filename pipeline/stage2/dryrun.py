"""``facets sweep --dry-run``: what would be trained, in what groups, and what that costs; trains nothing.

Not a promise: times are measured on this machine as busy as it is now, for all epochs of every run.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from pipeline import ledger
from pipeline.config import Config, Halving
from pipeline.data import Data, open_data
from pipeline.plan import Plan, PlannedRun, make_plan, plan_before, read_plan, shared_settings
from pipeline.rows import text_of
from pipeline.stage1.reading import require_section
from pipeline.stage2.groups import alike
from pipeline.stage2.halving import rungs, survivors
from pipeline.workdir import WorkDir
from stores import documents

BUDGET = 4.0
"""Seconds that measuring may take in all, about."""


def describe_plan(config: Config, place: WorkDir) -> str:
    """Returns the plan of a sweep as text: settings, rows by seeds with the state of each run, groups, costs.

    Raises:
        StoreError: the stores are missing; what a run is called depends on their content.
        ConfigError: a bracket of successive halving does not fit in one group, or the features have fewer
            principal axes than a run asks for.
    """
    from pipeline.stage2.driver import replicas, require_axes

    plan, data = planned(config, place)
    require_axes(plan, data, plan.runs)
    left = ledger.unfinished(plan.runs, place.runs)
    stacks = alike(left, replicas(config, plan, plan.runs))
    states = {run.run_id: ledger.status(place.runs / run.run_id, run.bracket) for run in plan.runs}
    rows = {name: [f"{run.run_id} {states[run.run_id]}" for run in runs] for name, runs in plan.rows.items()}
    seeds, folds = len(config.planned.seeds), [one.fold for one in plan.folds]
    columns = [
        f"seed {seed}" + ("" if fold is None else f" fold {fold}")
        for seed in config.planned.seeds
        for fold in folds
    ]
    times = f"{len(rows)} rows x {seeds} seeds" + ("" if folds == [None] else f" x {len(folds)} folds")
    counts = Counter(states.values())
    lines = [
        f"experiment {config.name}, runs in {place.runs}",
        ", ".join(f"{key} {text_of(value)}" for key, value in config.training.model_dump().items()),
        "",
        *table_lines([["row", *columns], *([name, *cells] for name, cells in rows.items())]),
        "",
        f"{times} = {len(plan.runs)} runs:"
        f" {counts['done']} done, {len(left)} unfinished"
        + "".join(f", {counts[state]} {state}" for state in ("failed", "stopped") if counts[state]),
    ]
    if config.planned.halving is not None:
        lines += halving_lines(plan.runs, config.planned.halving)
    return "\n".join(
        [*lines, "", *(cost_lines(config, plan, stacks) if stacks else ["nothing is left to train"])]
    )


def planned(config: Config, place: WorkDir) -> tuple[Plan, Data | None]:
    """Returns the plan that a sweep would make now, and its stores; without them, the last plan."""
    if place.plan.exists() and not (place.labels / "store.json").exists():
        return read_plan(place.plan, config), None
    data = open_data(place)
    require_section(config, place)
    return make_plan(config, data, plan_before(place.plan, config)), data


def halving_lines(planned: Sequence[PlannedRun], halving: Halving) -> list[str]:
    """Returns how many settings of each bracket go on after which epoch, and what is trained in all."""
    brackets: dict[str, list[PlannedRun]] = {}
    for run in planned:
        if run.bracket:
            brackets.setdefault(run.bracket, []).append(run)
    shapes: Counter[str] = Counter()
    most, all_epochs = 0, 0
    for members in brackets.values():
        settings, epochs = len({run.name for run in members}), int(str(members[0].training["epochs"]))
        at, kept = rungs(halving, epochs), survivors(halving, settings, epochs)
        after = ", ".join(f"{count} after epoch {epoch}" for epoch, count in zip(at, kept, strict=True))
        shapes[f"{settings} settings, of which go on {after}"] += 1
        trained = zip([settings, *kept], pairwise([0, *at, epochs]), strict=True)
        most += sum(count * (end - begin) for count, (begin, end) in trained) * len(members) // settings
        all_epochs += epochs * len(members)
    return [
        *(f"halving, {count} times: {shape}" for shape, count in shapes.items()),
        f"halving trains at most {most:,} of these {all_epochs:,} epochs; the estimate has them all",
    ]


def cost_lines(config: Config, plan: Plan, stacks: Sequence[Sequence[PlannedRun]]) -> list[str]:
    """Returns the groups and what training them costs, measured once per kind of group."""
    from pipeline.device import resolve_device
    from pipeline.stage2.driver import shapes_of
    from pipeline.stage2.trainer import run_settings, training_settings
    from temporal.train.estimate import Estimate, estimate

    device = resolve_device(config.training.device)
    shapes = {division.fold: shapes_of(plan, division) for division in plan.folds}
    kinds = {kind_of(stack): stack for stack in stacks}
    measured: dict[bytes, Estimate] = {}
    for kind, stack in kinds.items():
        runs = [run_settings(run) for run in stack]
        measured[kind] = estimate(
            runs,
            training_settings(stack[0]),
            shapes[stack[0].fold],
            device=device,
            place=config.training.bank,
            budget=BUDGET / len(kinds),
        )
    lines = [["group", "runs", "steps/epoch", "s/step", "s/epoch", "epochs", "at most", "memory", "settings"]]
    total, memory = 0.0, 0
    for number, stack in enumerate(stacks, 1):
        settings, cost = shared_settings(stack[0]), measured[kind_of(stack)]
        total, memory = total + cost.seconds, max(memory, cost.memory.of(len(stack)))
        differs = {key: value for key, value in settings.items() if value != config.training.deciding()[key]}
        lines.append(
            [
                str(number),
                str(len(stack)),
                str(cost.steps),
                f"{cost.step_seconds:.2g}" if cost.steps > 1 else "-",
                f"{cost.epoch_seconds:.2g}",
                text_of(settings["epochs"]),
                duration(cost.seconds),
                f"{cost.memory.of(len(stack)) / 1e9:.2f} GB",
                " ".join(f"{key}={text_of(value)}" for key, value in differs.items()),
            ]
        )
    first = next(iter(measured.values()))
    cost_of = first.memory
    replicas, of = sum(cost.measured for cost in measured.values()), sum(map(len, kinds.values()))
    return [
        *table_lines(lines),
        f"{first.windows} windows with {first.frames:,} frames per epoch in group 1",
        f"memory of group 1: {megabytes(cost_of.bank)} of features and labels + {megabytes(cost_of.shared)}"
        f" of a minibatch + {len(stacks[0])} x {megabytes(cost_of.replica)} of a run",
        f"in all at most {duration(total)} on {device}, and {memory / 1e9:.2f} GB beside the program itself:"
        " all epochs of every run, at the speed of random numbers of these shapes on this machine, as busy as"
        f" it is (measured with {replicas} of {of} runs)",
    ]


def kind_of(stack: Sequence[PlannedRun]) -> bytes:
    """Returns what stacks that cost the same have in common."""
    tasks = sorted({task for run in stack for task in run.tasks})
    attention = any(run.attention for run in stack)
    streams = [list(names) for names in sorted({run.streams for run in stack})]
    return documents.canonical(
        [shared_settings(stack[0]), tasks, attention, streams, len(stack), stack[0].fold]
    )


def megabytes(size: int) -> str:
    """Returns a size of memory as text."""
    return f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows as lines in columns of equal width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
