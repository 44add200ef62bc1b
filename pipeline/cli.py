"""The command line ``facets``: its commands, exit codes and one-line errors.

The module of a command is imported when the command is called, or when ``--help`` lists it.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 finished with some clips or runs failed (they are
listed), 130 interrupted.
"""

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from pipeline.commands.options import DONE, FAILED, INTERRUPTED, USAGE, one_line
from pipeline.log import configure_logging

COMMANDS = {
    "features": "experiment:features",
    "sweep": "experiment:sweep",
    "table": "experiment:table",
    "render": "faces:render",
    "crop": "faces:crop",
    "cut": "faces:cut",
    "doctor": "examine:doctor",
    "info": "storing:info",
    "verify": "storing:verify",
    "convert": "storing:convert",
    "import": "storing:import_",
    "submission": "submit:submission",
}
"""Name of a command -> its module in ``pipeline.commands`` and what it is called there."""


class Commands(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of a command and returns the command; None if no command has this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(importlib.import_module(f"pipeline.commands.{module}"), name)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="facets")
def facets() -> None:
    """Facial affect: cached embeddings, temporal sweeps.

    Run the heavy network once and keep its features, then train all task combinations together:
    facets features, facets sweep, facets table.
    """


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
