"""The commands ``facets submission write`` and ``facets submission check``.

Each imports what it needs when it is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import (
    DONE,
    FAILED,
    FOLDER,
    debug_option,
    device_option,
    experiment,
    experiment_options,
)

if TYPE_CHECKING:
    from pipeline.submission.composing import Absent
    from pipeline.submission.filling import Missing
    from pipeline.submission.formats import Format
    from pipeline.submission.lists import Listing

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

list_option = click.option(
    "--list", "listed", type=FILE, required=True, help="The organisers' list of clips or images."
)
track_option = click.option(
    "--track",
    type=click.Choice(["VA", "EXPR", "AU", "MTL", "CE"]),
    required=True,
    help="The challenge; CE are compound expressions.",
)
lengths_option = click.option(
    "--lengths",
    type=FILE,
    help="abaw1 to 3: lines 'clip,frames' with the rows that each clip must have.",
)


@click.group()
def submission() -> None:
    """Write the files of a challenge from runs, and check them."""


@submission.command()
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@list_option
@track_option
@click.option("--out", type=FOLDER, required=True, help="Folder to write into.")
@click.option("--edition", metavar="abawN", help="Whose format; by default table.edition.")
@lengths_option
@click.option(
    "--missing",
    type=click.Choice(["interpolate", "hold", "mask"]),
    default="interpolate",
    show_default=True,
    help="Predictions of frames without a crop: from frames nearby, or by the model itself (mask).",
)
@click.option(
    "--absent",
    type=click.Choice(["refuse", "mean"]),
    default="refuse",
    show_default=True,
    help="Clips without features: an error, or the mean of all other predictions.",
)
@experiment_options
@device_option
def write(
    run_ids: tuple[str, ...],
    listed: Path,
    track: str,
    out: Path,
    edition: str | None,
    lengths: Path | None,
    missing: "Missing",
    absent: "Absent",
    **chosen: Any,
) -> int:
    """Write the predictions of runs as a submission, and check it.

    Give several runs if none predicts every task of the track, such as one for V and one for A.
    """
    import stores
    from pipeline.bars import bars
    from pipeline.prediction.finished import open_streams
    from pipeline.submission.composing import write_submission
    from pipeline.submission.formats import format_of
    from pipeline.submission.lists import read_list
    from pipeline.submission.sources import open_runs

    config, place = experiment(**chosen)
    form = format_of(edition or config.table.edition, track)
    listing = read_list(listed, form, lengths)
    sources = open_runs(place.runs, run_ids, form.track)
    features = open_streams((one.run for one in sources), place)
    labels = stores.open(place.labels) if (place.labels / "store.json").exists() else None
    with bars() as progress:
        written = write_submission(
            form,
            listing,
            sources,
            features,
            out,
            labels=labels,
            device=config.training.device,
            progress=progress,
            missing=missing,
            absent=absent,
        )
    return report(written.path, form, listing)


@submission.command()
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@list_option
@track_option
@click.option("--edition", metavar="abawN", required=True, help="Whose format.")
@lengths_option
@debug_option
def check(path: Path, listed: Path, track: str, edition: str, lengths: Path | None) -> int:
    """Check FILE against the organisers' list and format.

    For abaw1 to abaw3, FILE is the folder with one file per clip.
    """
    from pipeline.submission.formats import format_of
    from pipeline.submission.lists import read_list

    form = format_of(edition, track)
    return report(path, form, read_list(listed, form, lengths))


def report(path: Path, form: "Format", listing: "Listing") -> int:
    """Prints the faults of a submission, one line each, and returns the exit code."""
    from pipeline.submission.checking import check_submission

    findings = check_submission(path, form, listing)
    for finding in findings:
        click.echo(str(finding))
    if findings:
        return FAILED
    click.echo(f"{path}: fits {form.name} and all {len(listing.names):,} names of {listing.path}")
    return DONE
