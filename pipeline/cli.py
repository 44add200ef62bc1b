"""The command line ``facets``: options, exit codes and one-line errors.

Not where work is done: a command imports what it needs when it runs, so that ``--help`` answers at once.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 finished with some clips or runs failed (they are
listed), 130 interrupted.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from pipeline.log import configure_logging

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.workdir import WorkDir
    from stores import BackendName

DONE, FAILED, USAGE, PARTLY, INTERRUPTED = 0, 1, 2, 3, 130

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show tracebacks and a detailed log."
)
device_option = click.option(
    "--device", metavar="auto|cpu|cuda", help="Where to compute, instead of what the configuration says."
)
config_option = click.option(
    "-c",
    "--config",
    "source",
    default="demo",
    show_default=True,
    metavar="CONFIG",
    help="A YAML file, or one that comes with facets: demo, subsets, smoke, affwild2.",
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, such as training.epochs=3; may be repeated.",
)
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

    if device is not None:
        settings = (*settings, f"features.device={device}", f"training.device={device}")
    config = load(source, settings)
    return config, work_dir(config, work)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="facets")
def facets() -> None:
    """Facial affect: cached embeddings, temporal sweeps.

    Run the heavy network once, cache what it saw, then train the whole table of task combinations at once:
    facets features, facets sweep, facets table.
    """


@facets.command()
@experiment_options
@device_option
def features(source: str, settings: tuple[str, ...], work: Path | None, device: str | None) -> int:
    """Turn the corpus into a feature store and a label store."""
    from pipeline.features import make_features
    from pipeline.progress import bars

    config, place = experiment(source, settings, work, device)
    with bars() as progress:
        failures = make_features(config, place, progress)
    return listed("clip", failures)


@facets.command()
@experiment_options
@device_option
@click.option("--dry-run", is_flag=True, help="Print what would be trained; train nothing.")
def sweep(
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
    device: str | None,
    dry_run: bool,  # noqa: FBT001 (click passes flags by keyword)
) -> int:
    """Train every run of the sweep that has no result yet."""
    from pipeline.progress import bars
    from pipeline.sweep import describe_plan, run_sweep

    config, place = experiment(source, settings, work, device)
    if dry_run:
        click.echo(describe_plan(config, place))
        return DONE
    with bars() as progress:
        failures = run_sweep(config, place, progress)
    return listed("run", failures)


@facets.command()
@experiment_options
def table(source: str, settings: tuple[str, ...], work: Path | None) -> int:
    """Write and print the table of results; never trains."""
    from pipeline.tabulate import failed_runs, make_table, show

    config, place = experiment(source, settings, work)
    built, written = make_table(config, place)
    show(built, written)
    return listed("run", failed_runs(built))


@facets.command()
@click.argument("directory", type=FOLDER)
@config_option
@set_option
@debug_option
def render(directory: Path, source: str, settings: tuple[str, ...]) -> int:
    """Draw the embedded corpus into DIRECTORY, as corpus.render says."""
    from pipeline.features import make_corpus
    from pipeline.progress import bars

    config, _ = experiment(source, settings, None)
    with bars() as progress:
        make_corpus(config, directory, progress)
    return DONE


@facets.command()
@click.argument("path", required=False, type=EXISTING)
@click.option("--repair", is_flag=True, help="Remove damaged clips; the next features run makes them again.")
@experiment_options
def verify(
    path: Path | None,
    repair: bool,  # noqa: FBT001 (click passes flags by keyword)
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
) -> int:
    """Recompute every digest of the store at PATH, or of the experiment's stores."""
    from pipeline.inspect import verify_stores
    from pipeline.progress import bars

    if path is None:
        place = experiment(source, settings, work)[1]
        paths = [place.features, place.labels]
    else:
        paths = [path]
    with bars() as progress:
        problems, removed = verify_stores(paths, progress, repair=repair)
    for line in removed:
        click.echo(line)
    for line in problems:
        click.echo(f"error: {one_line(line)}", err=True)
    return FAILED if problems else DONE


@facets.command()
@click.argument("source", type=EXISTING)
@click.argument("target", type=FOLDER)
@click.option(
    "--backend", type=click.Choice(["hdf5", "zarr"]), required=True, help="How TARGET keeps its arrays."
)
@debug_option
def convert(source: Path, target: Path, backend: "BackendName") -> int:
    """Copy the store SOURCE to TARGET in another backend, without loss."""
    import stores
    from pipeline.progress import bars

    with bars() as progress:
        stores.convert(source, target, backend, progress=progress)
    return DONE


@facets.command()
@click.argument("path", required=False, type=EXISTING)
@experiment_options
def info(path: Path | None, source: str, settings: tuple[str, ...], work: Path | None) -> int:
    """Describe the store at PATH, or the experiment's work directory."""
    from pipeline.inspect import describe_store, describe_work

    click.echo(describe_store(path) if path else describe_work(*experiment(source, settings, work)))
    return DONE


@facets.command()
@experiment_options
@device_option
def doctor(source: str, settings: tuple[str, ...], work: Path | None, device: str | None) -> int:
    """Check the environment: what works, what does not, and what to do."""
    from pipeline.doctor import examine

    code = DONE
    for finding in examine(*experiment(source, settings, work, device)):
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        click.echo(f"{finding.status}  {finding.name:<10} {finding.found}{remedy}")
        code = FAILED if finding.status == "FAIL" else code
    return code


def listed(noun: str, failures: Mapping[str, str]) -> int:
    """Prints what failed, one line each, and returns the exit code."""
    for name, error in failures.items():
        click.echo(f"error: {noun} {name}: {one_line(error)}", err=True)
    return PARTLY if failures else DONE


def one_line(text: str) -> str:
    """Returns ``text`` with every run of white space, line ends included, as one blank."""
    return " ".join(text.split())


def message(error: BaseException) -> str:
    """Returns an error and its notes as one line."""
    return one_line("; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", [])]))


def judge(error: BaseException) -> tuple[int, str]:
    """Returns the exit code and the message of an error that ended a command."""
    from stores.errors import ConfigError, FacetsError

    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "facets"
        return USAGE, f"{one_line(error.format_message())} (see {where} --help)"
    if isinstance(error, ConfigError):
        return USAGE, message(error)
    if isinstance(error, FacetsError | OSError | click.ClickException):
        return FAILED, message(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED, "interrupted; what is committed stays, and the same command goes on from there"
    return FAILED, f"{type(error).__name__}: {message(error)} (not foreseen; please report it with --debug)"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; whatever goes wrong is one line on stderr."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    configure_logging(debug=debug)
    try:
        code = facets.main(arguments, prog_name="facets", standalone_mode=False) or DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = USAGE
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        if debug:
            traceback.print_exception(error)
        code, text = judge(error)
        click.echo(f"error: {text}", err=True)
    sys.exit(code)
