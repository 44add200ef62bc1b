"""The command ``facets doctor``.

It imports what it needs when it is called.
"""

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline.commands.options import (
    DONE,
    FAILED,
    device_option,
    experiment,
    experiment_options,
    json_option,
)

if TYPE_CHECKING:
    from pipeline.doctor import Finding


@click.command()
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
    **chosen: Any,
) -> int:
    """Check environment, configuration and corpus.

    Every check says whether it passed, and the remedy if it did not. The distributions of the labels are
    drawn into the work directory. CONFIG is the same as -c CONFIG.
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
    named = experiment(source if config is None else config, **chosen)
    with bars() as progress:
        found = examine(*named, tell, every_image=every_image, progress=progress)
    if as_json:
        click.echo(found.to_json())
    elif found.census is not None:
        click.echo("\n".join(listing.lines(found.census)))
    return FAILED if found.failed else DONE
