"""The commands about stores: verify, convert, import, info.

Each imports what it needs when it is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import (
    DONE,
    EXISTING,
    FAILED,
    FOLDER,
    debug_option,
    experiment,
    experiment_options,
    json_option,
    listed,
)

if TYPE_CHECKING:
    from stores import BackendName
    from stores.verification import Depth


@click.command()
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
    **chosen: Any,
) -> int:
    """Compare the store at PATH, or the experiment's stores, with what was committed."""
    from pipeline.bars import bars
    from pipeline.inspection import as_text, problems, verification, verify_lines

    if path is None:
        place = experiment(**chosen)[1]
        paths = [*place.streams.values(), place.labels]
    else:
        paths = [path]
    with bars() as progress:
        found = verification(paths, depth, repair=repair, progress=progress)
    if as_json:
        click.echo(as_text(found))
    else:
        for store in found["stores"]:
            click.echo("\n".join(verify_lines(store, depth)))
            for line in problems(store):
                click.echo(f"error: {store['path']}: {line}", err=True)
    return DONE if found["ok"] else FAILED


@click.command()
@click.argument("source", type=EXISTING)
@click.argument("target", type=FOLDER)
@click.option(
    "--backend", type=click.Choice(["hdf5", "zarr"]), required=True, help="How TARGET keeps its arrays."
)
@debug_option
def convert(source: Path, target: Path, backend: "BackendName") -> int:
    """Copy the store SOURCE to TARGET in another backend, without loss."""
    import stores
    from pipeline.bars import bars

    with bars() as progress:
        stores.convert(source, target, backend, progress=progress)
    return DONE


@click.command("import")
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
@click.option("--array", metavar="NAME", help="npz, HDF5, Zarr: the array of features, else 'features'.")
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
    .h5, .hdf5, .zarr, .csv, .tsv or .parquet.
    """
    from extract.importing import ImportOptions, Selection, import_features
    from pipeline.bars import bars

    names = ("array", "columns", "clip_column", "frame", "valid", "first_frame")
    selection = Selection(**{name: options.pop(name) for name in names})
    with bars() as progress:
        report = import_features(source, target, ImportOptions(selection=selection, **options), progress)
    for clip in report.lacking:
        click.echo(f"warning: clip {clip} of {options['like']} has no features in {source}", err=True)
    code = listed("clip", {failed.clip: failed.reason for failed in report.failed})
    return code if report.written or report.unchanged else FAILED


@click.command()
@click.argument("path", required=False, type=EXISTING)
@click.option("--statistics", is_flag=True, help="Read all features: their range, means, zeros.")
@json_option
@experiment_options
def info(
    path: Path | None,
    statistics: bool,  # noqa: FBT001 (click passes flags by keyword)
    as_json: bool,  # noqa: FBT001
    **chosen: Any,
) -> int:
    """Describe the store at PATH, or the experiment's work directory."""
    from pipeline.inspection import as_text, describe, describe_work, store_lines, work_lines

    if path is None:
        config, place = experiment(**chosen)
        found = describe_work(config, place, statistics=statistics)
        lines = work_lines(found, place)
    else:
        found = describe([path], statistics=statistics)
        lines = store_lines(found["stores"][0])
    click.echo(as_text(found) if as_json else "\n".join(lines))
    return DONE
