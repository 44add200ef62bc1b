"""The commands that make images of faces: ``facets crop``, ``facets cut`` and ``facets render``.

Each imports what it needs when it is called.
"""

from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import (
    DONE,
    EXISTING,
    FAILED,
    FOLDER,
    config_option,
    debug_option,
    experiment,
    listed,
    set_option,
)


@click.command()
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
    """Cut aligned face crops out of videos.

    VIDEOS are files, or folders of them. TARGET becomes a corpus root of kind affwild2, in which
    TARGET/cropped_aligned/<video>/00001.jpg is frame 0. The same command goes on where it was stopped, and
    leaves unchanged videos alone.
    """
    from fractions import Fraction

    from extract.crops.choices import CropOptions
    from extract.crops.cropping import crop_videos
    from pipeline.bars import bars

    rate = None if fps is None else Fraction(str(fps))
    with bars() as progress:
        report = crop_videos(videos, target, CropOptions(fps=rate, **options), progress)
    for video, warning in report.warnings.items():
        click.echo(f"warning: video {video}: {warning}", err=True)
    code = listed("video", {failed.video: failed.reason for failed in report.failed})
    return FAILED if report.failed and not (report.written or report.unchanged) else code


@click.command()
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
    """Cut the faces that a corpus of pictures lists as boxes.

    KIND and ROOT are those of the corpus. Crops go to ROOT/faces. The same command goes on where it was
    stopped: crops that are there already stay as they are. Another margin is refused.
    """
    import importlib

    from extract.corpora import KINDS
    from pipeline.bars import bars

    with bars() as progress:
        report = importlib.import_module(KINDS[kind]).cut_faces(root, margin=margin, progress=progress)
    click.echo(f"{root / 'faces'}: {report.written:,} faces cut, {report.unchanged:,} were there already")
    code = listed("picture", {str(picture): reason for picture, reason in report.failed})
    return FAILED if report.failed and not (report.written or report.unchanged) else code


@click.command()
@click.argument("directory", type=FOLDER)
@config_option
@set_option
@debug_option
def render(directory: Path, source: str, settings: tuple[str, ...]) -> int:
    """Draw the embedded corpus into DIRECTORY.

    The section corpus.render of CONFIG says how many people and clips.
    """
    from pipeline.bars import bars
    from pipeline.stage1.make import make_corpus

    config, _ = experiment(source, settings, None)
    with bars() as progress:
        make_corpus(config, directory, progress)
    return DONE
