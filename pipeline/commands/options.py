"""Options, exit codes and the list of failures, which the commands of ``facets`` share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.cluster import Cluster
    from pipeline.config import Config
    from pipeline.workdir import WorkDir

DONE, FAILED, USAGE, PARTLY, INTERRUPTED = 0, 1, 2, 3, 130

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show tracebacks and a detailed log."
)
device_option = click.option(
    "--device", metavar="auto|cpu|cuda", help="Where to compute, instead of the device of the configuration."
)
config_option = click.option(
    "-c",
    "--config",
    "source",
    default="demo",
    show_default=True,
    metavar="CONFIG",
    help="A YAML file, or one that comes with facets: demo, subsets, au_weights, seed_recipe, smoke,"
    " affwild2.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, such as training.epochs=3; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
work_option = click.option("--work", type=FOLDER, help="Work directory, instead of work/<name>.")


def experiment_options(command: Command) -> Command:
    """Adds the options of every command that works on an experiment."""
    for option in (debug_option, work_option, set_option, config_option):
        command = option(command)
    return command


def experiment(
    source: str, settings: Sequence[str], work: Path | None, device: str | None = None
) -> "tuple[Config, WorkDir]":
    """Returns the configuration and the work directory that the common options name."""
    from pipeline.configfile import load
    from pipeline.workdir import work_dir

    config = load(source, settings, device)
    return config, work_dir(config, work)


def cluster_options(command: Command) -> Command:
    """Adds the options of commands that can work by many processes."""
    for option in (
        click.option(
            "--dashboard",
            metavar="ADDRESS",
            help="Show the work of --workers at this address, such as 127.0.0.1:8787.",
        ),
        click.option(
            "--scheduler", metavar="ADDRESS", help="Work on this dask cluster, such as tcp://host:8786."
        ),
        click.option(
            "--workers", type=click.IntRange(min=1), help="Work by so many processes of this machine."
        ),
    ):
        command = option(command)
    return command


def cluster_of(workers: int | None, scheduler: str | None, dashboard: str | None) -> "Cluster | None":
    """Returns the cluster that ``cluster_options`` name; None for this process.

    Raises:
        click.UsageError: they contradict each other.
    """
    from pipeline.cluster import Cluster

    if scheduler is not None and (workers is not None or dashboard is not None):
        msg = (
            "--scheduler names a cluster that has its own workers and dashboard: leave out the other options"
        )
        raise click.UsageError(msg)
    if dashboard is not None and workers is None:
        msg = "--dashboard shows the processes of --workers: give both"
        raise click.UsageError(msg)
    return None if workers is None and scheduler is None else Cluster(workers, scheduler, dashboard)


def listed(noun: str, failures: Mapping[str, str]) -> int:
    """Prints what failed, one line each, and returns the exit code."""
    for name, error in failures.items():
        click.echo(f"error: {noun} {name}: {one_line(error)}", err=True)
    return PARTLY if failures else DONE


def one_line(text: str) -> str:
    """Returns ``text`` with every run of white space, line ends included, as one blank."""
    return " ".join(text.split())
