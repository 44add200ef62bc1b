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
    from pipeline.cluster import Cluster
    from pipeline.config import Config
    from pipeline.doctor import Finding
    from pipeline.workdir import WorkDir
    from stores import BackendName
    from stores.verification import Depth

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
    help="A YAML file, or one that comes with facets: demo, subsets, au_weights, smoke, affwild2.",
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

    if device is not None:
        settings = (*settings, f"features.device={device}", f"training.device={device}")
    config = load(source, settings)
    return config, work_dir(config, work)


def cluster_options(command: Command) -> Command:
    """Adds the options of commands that can work by many processes."""
    for option in (
        click.option(
            "--dashboard", metavar="ADDRESS", help="Show what --workers do, such as 127.0.0.1:8787."
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
@cluster_options
def features(
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
    device: str | None,
    workers: int | None,
    scheduler: str | None,
    dashboard: str | None,
) -> int:
    """Turn the corpus into a feature store and a label store."""
    from pipeline.features import make_features
    from pipeline.progress import bars

    cluster = cluster_of(workers, scheduler, dashboard)
    config, place = experiment(source, settings, work, device)
    with bars() as progress:
        failures = make_features(config, place, progress, cluster)
    return listed("clip", failures)


@facets.command()
@experiment_options
@device_option
@cluster_options
@click.option("--only", multiple=True, metavar="RUN_ID", help="Train this run alone; may be repeated.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print what would be trained, and an estimate of time and memory; train nothing.",
)
def sweep(
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
    device: str | None,
    workers: int | None,
    scheduler: str | None,
    dashboard: str | None,
    only: tuple[str, ...],
    dry_run: bool,  # noqa: FBT001 (click passes flags by keyword)
) -> int:
    """Train every run of the sweep that has no result yet, those that failed included.

    A sweep that was stopped goes on from the last state of its groups.
    """
    from pipeline.dryrun import describe_plan
    from pipeline.progress import bars
    from pipeline.sweep import run_sweep

    cluster = cluster_of(workers, scheduler, dashboard)
    config, place = experiment(source, settings, work, device)
    if dry_run:
        click.echo(describe_plan(config, place))
        return DONE
    with bars() as progress:
        failures = run_sweep(config, place, progress, cluster, only)
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
@click.option("--full", "depth", flag_value="full", default=True, help="Recompute every digest (default).")
@click.option("--sampled", "depth", flag_value="sampled", help="Check a few chunks of every array.")
@click.option("--quick", "depth", flag_value="quick", help="Check records, sizes and shapes; read no values.")
@click.option("--repair", is_flag=True, help="Remove damaged clips; the next features run makes them again.")
@json_option
@experiment_options
def verify(
    path: Path | None,
    depth: "Depth",
    repair: bool,  # noqa: FBT001 (click passes flags by keyword)
    as_json: bool,  # noqa: FBT001
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
) -> int:
    """Compare the store at PATH, or the experiment's stores, with what was committed."""
    from pipeline.inspect import problem_lines, verify_json, verify_lines, verify_stores
    from pipeline.progress import bars

    if path is None:
        place = experiment(source, settings, work)[1]
        paths = [place.features, place.labels]
    else:
        paths = [path]
    with bars() as progress:
        results = verify_stores(paths, progress, depth=depth, repair=repair)
    if as_json:
        click.echo(verify_json(results, depth))
    else:
        for result in results:
            click.echo("\n".join(verify_lines(result, depth)))
            for line in problem_lines(result):
                click.echo(f"error: {line}", err=True)
    return DONE if all(result.ok for result in results) else FAILED


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


@facets.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=FOLDER)
@click.option("--stream", required=True, help="Name of the features, such as openface.au17.")
@click.option("--backbone", default="unknown", help="What made them, such as resnet50.")
@click.option("--weights", help="Name of its weights; by default that of --weights-file.")
@click.option(
    "--weights-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the weights: its SHA-256 is recorded.",
)
@click.option("--weights-sha256", metavar="HEX", help="SHA-256 of the weights, where the file is not here.")
@click.option(
    "--trained-on", multiple=True, metavar="CORPUS", help="What the weights were trained on; may be repeated."
)
@click.option(
    "--image-size", type=click.IntRange(1), metavar="PIXELS", help="Side of the images that the backbone saw."
)
@click.option("--decoder", default="unknown", help="What decoded the images.")
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", help="How TARGET keeps features."
)
@click.option(
    "--backend", type=click.Choice(["hdf5", "zarr"]), default="hdf5", help="How TARGET keeps its arrays."
)
@click.option("--like", type=EXISTING, help="Store whose clips give the lengths, usually the label store.")
@click.option("--array", metavar="NAME", help="npz, HDF5: the array of features, else 'features'.")
@click.option(
    "--columns",
    multiple=True,
    metavar="PATTERN",
    help="Tables: a feature column, or several such as 'AU*_r'; repeatable; else all but the next three.",
)
@click.option("--clip-column", default="clip", show_default=True, help="Tables: which clip a row is of.")
@click.option(
    "--frame-column",
    "frame",
    metavar="NAME",
    help="Column or array of frame numbers, else 'frame' where there is one.",
)
@click.option(
    "--valid-column",
    "valid",
    metavar="NAME",
    help="Column or array of 0 and 1, else 'valid' where there is one.",
)
@click.option(
    "--first-frame", type=click.IntRange(0, 1), default=0, help="What the source calls the first frame."
)
@click.option("--nan-is-missing", is_flag=True, help="A row with a NaN or an infinity is a missing frame.")
@debug_option
def import_(source: Path, target: Path, **options: Any) -> int:
    """Turn features that others made into the feature store TARGET.

    SOURCE is a folder with one file per clip, called by the clip's id, or one file of many clips: .npy, .npz,
    .h5, .hdf5, .csv, .tsv or .parquet.
    """
    from extract.importing import ImportOptions, Selection, import_features
    from pipeline.progress import bars

    names = ("array", "columns", "clip_column", "frame", "valid", "first_frame")
    selection = Selection(**{name: options.pop(name) for name in names})
    with bars() as progress:
        report = import_features(source, target, ImportOptions(selection=selection, **options), progress)
    for clip in report.lacking:
        click.echo(f"warning: clip {clip} of {options['like']} has no features in {source}", err=True)
    code = listed("clip", {failed.clip: failed.reason for failed in report.failed})
    return code if report.written or report.unchanged else FAILED


@facets.command()
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=FOLDER)
@click.option("--detector", default="haar", show_default=True, help="Which faces are found: haar or yunet.")
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of the detector's network: yunet needs one, haar takes none.",
)
@click.option(
    "--people",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Main faces of a video to follow.",
)
@click.option("--size", type=int, default=112, show_default=True, help="Side of a crop in pixels.")
@click.option("--quality", type=int, default=95, show_default=True, help="JPEG quality, 1 to 95.")
@click.option(
    "--fps",
    type=click.FloatRange(1, 240),
    help="Frames per second of the timeline; by default every picture of a video is one frame.",
)
@click.option(
    "--min-face",
    type=float,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Width of the smallest face, as a share of the shorter side of the picture.",
)
@click.option(
    "--max-gap",
    type=int,
    default=5,
    show_default=True,
    metavar="FRAMES",
    help="Interpolate a face over so many frames in which the detector misses it; 0 for never.",
)
@debug_option
def crop(videos: tuple[Path, ...], target: Path, fps: float | None, **options: Any) -> int:
    """Cut aligned face crops out of VIDEOS (files, or folders of them) into TARGET.

    TARGET is then a corpus root of kind affwild2: TARGET/cropped_aligned/<video>/00001.jpg is frame 0. The
    same command goes on where it was stopped, and leaves unchanged videos alone.
    """
    from fractions import Fraction

    from extract.video import CropOptions, crop_videos
    from pipeline.progress import bars

    rate = None if fps is None else Fraction(str(fps))
    with bars() as progress:
        report = crop_videos(videos, target, CropOptions(fps=rate, **options), progress)
    for video, warning in report.warnings.items():
        click.echo(f"warning: video {video}: {warning}", err=True)
    code = listed("video", {failed.video: failed.reason for failed in report.failed})
    return FAILED if report.failed and not (report.written or report.unchanged) else code


@facets.command()
@click.argument("path", required=False, type=EXISTING)
@click.option("--statistics", is_flag=True, help="Read all features: their range, means, zeros.")
@json_option
@experiment_options
def info(
    path: Path | None,
    statistics: bool,  # noqa: FBT001 (click passes flags by keyword)
    as_json: bool,  # noqa: FBT001
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
) -> int:
    """Describe the store at PATH, or the experiment's work directory."""
    from pipeline.inspect import StoreInfo, WorkInfo, describe_store, describe_work, info_json, info_text

    found: StoreInfo | WorkInfo
    if path is None:
        found = describe_work(*experiment(source, settings, work), statistics=statistics)
    else:
        found = describe_store(path, statistics=statistics)
    click.echo(info_json(found) if as_json else info_text(found))
    return DONE


@facets.command()
@click.argument("config", required=False)
@click.option(
    "--every-image",
    is_flag=True,
    help="Look for repeated images among all of them, instead of a sample of 20,000.",
)
@json_option
@experiment_options
@device_option
def doctor(
    config: str | None,
    every_image: bool,  # noqa: FBT001 (click passes flags by keyword)
    as_json: bool,  # noqa: FBT001
    source: str,
    settings: tuple[str, ...],
    work: Path | None,
    device: str | None,
) -> int:
    """Check environment, configuration and corpus: what works, what does not, and what to do.

    CONFIG is the same as -c CONFIG. Draws the distributions of the labels into the work directory.
    """
    from pipeline.doctor import examine, tables
    from pipeline.progress import bars

    def tell(finding: "Finding") -> None:
        if not as_json:
            click.echo(finding.line)

    chosen = experiment(source if config is None else config, settings, work, device)
    with bars() as progress:
        found = examine(*chosen, tell, every_image=every_image, progress=progress)
    if as_json:
        click.echo(found.to_json())
    elif found.census is not None:
        click.echo("\n".join(tables.lines(found.census)))
    return FAILED if found.failed else DONE


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


import pipeline.submission.commands  # noqa: E402, F401 (adds its commands; it needs the names above)
