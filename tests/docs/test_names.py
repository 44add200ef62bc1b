"""What the pages name exists: files, settings, commands, options, links, anchors."""

import re

import click
import pytest
from pages import HISTORY, LINK, PAGES, QUOTED, ROOT, anchors, prose

from pipeline.cli import facets
from pipeline.config import Config
from pipeline.configfile import known_keys

SECTIONS = set(Config.model_fields)
FILES = {"md", "csv", "tex", "html", "yaml"}
FOLDERS = ("stores/", "extract/", "temporal/", "pipeline/", "tests/", "benchmarks/", "scripts/", "docs/")
LIVING = [page for page in PAGES if page.name not in HISTORY]


def quoted(page):
    return QUOTED.findall(prose(page))


def options_of(command):
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= options_of(command.get_command(context, name))
    return found | {"--help", "--version"}


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    named = {text.split("::")[0] for text in quoted(page) if text.startswith(FOLDERS)}
    paths = {name for name in named if re.fullmatch(r"[\w/.-]+", name) and "." in name}
    assert not {name for name in paths if not (ROOT / name).exists()}


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page):
    known = [re.compile(r"\.".join(path).replace("*", r"\w+")) for path in known_keys(Config)]
    quoted_keys = {re.split(r"[:= ]", text)[0] for text in quoted(page)}
    named = {key for key in quoted_keys if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key)}
    settings = {key for key in named if key.split(".")[0] in SECTIONS and key.split(".")[-1] not in FILES}
    assert not {key for key in settings if not any(path.fullmatch(key) for path in known)}


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_every_option_that_a_page_quotes_is_one_of_a_command_or_a_script(page):
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
    lines = (text for text in quoted(page) if re.match(r"(facets |--)", text))
    named = {option for text in lines for option in re.findall(r"(?<!\S)--[a-z-]+", text)}
    assert not {option for option in named - options_of(facets) if f'"{option}"' not in scripts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose(page)):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), target
