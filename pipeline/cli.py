"""The command line ``facets``: options, exit codes and one-line errors.

Not where work is done: a command imports what it needs when it runs, so that ``--help`` answers at once.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 finished with some clips or runs failed (they are
listed), 130 interrupted.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from pipeline.commands import storing
from pipeline.commands.options import (
    DONE,
    EXISTING,
    FAILED,
    FOLDER,
    INTERRUPTED,
    USAGE,
    cluster_of,
    cluster_options,
    config_option,
    debug_option,
    device_option,
    experiment,
    experiment_options,
    json_option,
    listed,
    one_line,
    set_option,
)
from pipeline.commands.submit import submission
from pipeline.log import configure_logging

if TYPE_CHECKING:
    from pipeline.doctor import Finding


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
    from pipeline.bars import bars
    from pipeline.stage1.make import make_features

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
    from pipeline.bars import bars
    from pipeline.stage2.driver import run_sweep
    from pipeline.stage2.dryrun import describe_plan

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
    from pipeline.report.tabulate import failed_runs, make_table, show

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
    from pipeline.bars import bars
    from pipeline.stage1.make import make_corpus

    config, _ = experiment(source, settings, None)
    with bars() as progress:
        make_corpus(config, directory, progress)
    return DONE


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

    from extract.crops import CropOptions, crop_videos
    from pipeline.bars import bars

    rate = None if fps is None else Fraction(str(fps))
    with bars() as progress:
        report = crop_videos(videos, target, CropOptions(fps=rate, **options), progress)
    for video, warning in report.warnings.items():
        click.echo(f"warning: video {video}: {warning}", err=True)
    code = listed("video", {failed.video: failed.reason for failed in report.failed})
    return FAILED if report.failed and not (report.written or report.unchanged) else code


@facets.command()
@click.argument("kind", type=click.Choice(["affectnet", "expw"]))
@click.argument("root", type=EXISTING)
@click.option(
    "--margin",
    type=click.FloatRange(0, 4),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="How much larger a crop is than the longer side of its box.",
)
@debug_option
def cut(kind: str, root: Path, margin: float) -> int:
    """Cut the faces of a corpus of pictures out by the boxes that it lists.

    KIND and ROOT are those of the corpus; crops go to ROOT/faces. Those that are there already stay as they
    are, so that the same command goes on where it was stopped; with another margin it is refused.
    """
    import importlib

    from extract.corpora import KINDS
    from pipeline.bars import bars

    with bars() as progress:
        report = importlib.import_module(KINDS[kind]).cut_faces(root, margin=margin, progress=progress)
    click.echo(f"{root / 'faces'}: {report.written:,} faces cut, {report.unchanged:,} were there already")
    code = listed("picture", {str(picture): reason for picture, reason in report.failed})
    return FAILED if report.failed and not (report.written or report.unchanged) else code


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
    from pipeline.bars import bars
    from pipeline.doctor import examine, listing

    def tell(finding: "Finding") -> None:
        if not as_json:
            click.echo(finding.line)

    given = click.get_current_context().get_parameter_source("source")
    if config is not None and given is not ParameterSource.DEFAULT:
        msg = f"CONFIG {config} and -c {source} both name the experiment: give one of them"
        raise click.UsageError(msg)
    chosen = experiment(source if config is None else config, settings, work, device)
    with bars() as progress:
        found = examine(*chosen, tell, every_image=every_image, progress=progress)
    if as_json:
        click.echo(found.to_json())
    elif found.census is not None:
        click.echo("\n".join(listing.lines(found.census)))
    return FAILED if found.failed else DONE


for command in (
    storing.verify,
    storing.convert,
    storing.import_,
    storing.info,
    submission,
):
    facets.add_command(command)


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
