"""The commands that run an experiment: ``facets features``, ``facets sweep`` and ``facets table``.

Each imports what it needs when it is called.
"""

from typing import Any

import click

from pipeline.commands.options import (
    DONE,
    cluster_of,
    cluster_options,
    device_option,
    experiment,
    experiment_options,
    listed,
)


@click.command()
@experiment_options
@device_option
@cluster_options
def features(workers: int | None, scheduler: str | None, dashboard: str | None, **chosen: Any) -> int:
    """Turn the corpus into a feature store and a label store."""
    from pipeline.bars import bars
    from pipeline.stage1.make import make_features

    cluster = cluster_of(workers, scheduler, dashboard)
    config, place = experiment(**chosen)
    with bars() as progress:
        failures = make_features(config, place, progress, cluster)
    return listed("clip", failures)


@click.command()
@experiment_options
@device_option
@cluster_options
@click.option("--only", multiple=True, metavar="RUN_ID", help="Train this run alone; may be repeated.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the runs, their groups and an estimate of time and memory; train nothing.",
)
def sweep(
    workers: int | None,
    scheduler: str | None,
    dashboard: str | None,
    only: tuple[str, ...],
    dry_run: bool,  # noqa: FBT001 (click passes flags by keyword)
    **chosen: Any,
) -> int:
    """Train every run of the sweep that has no result yet.

    Runs that failed are tried again. A sweep that was stopped goes on from the last saved state of its
    groups.
    """
    from pipeline.bars import bars
    from pipeline.stage2.driver import run_sweep
    from pipeline.stage2.dryrun import describe_plan

    cluster = cluster_of(workers, scheduler, dashboard)
    config, place = experiment(**chosen)
    if dry_run:
        click.echo(describe_plan(config, place))
        return DONE
    with bars() as progress:
        failures = run_sweep(config, place, progress, cluster, only)
    return listed("run", failures)


@click.command()
@experiment_options
def table(**chosen: Any) -> int:
    """Print and write the table of results; train nothing."""
    from pipeline.report.tabulate import make_table, show
    from pipeline.report.wording import failures

    config, place = experiment(**chosen)
    built, written = make_table(config, place)
    show(built, written)
    return listed("run", failures(built))
