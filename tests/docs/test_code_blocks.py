"""Every code block of README and docs runs: python is executed, commands are parsed, YAML is validated."""

import itertools
import json
import re
import shlex
import tomllib

import click
import pytest
import yaml
from pages import PAGES, ROOT, blocks, of_language

from pipeline import configfile
from pipeline.cli import facets

MOST_NOT_RUN = 3


@pytest.mark.parametrize("page", sorted({b.page for b in of_language("python")}), ids=lambda page: page.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, reader, monkeypatch):
    monkeypatch.chdir(reader)
    names = {"__name__": "reader"}
    for block in of_language("python"):
        if block.page == page:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def commands(text):
    """Returns the commands of a shell block: comments, assignments before and continued lines taken off."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [
        list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), line)) for line in lines if line
    ]


def check_facets(words):
    """Fails unless the command, its options, choices and settings exist; paths need not."""
    command, path = facets, "facets"
    context = click.Context(command, info_name=path)
    while isinstance(command, click.Group):
        name, *words = words
        inner = command.get_command(context, name)
        assert inner is not None, f"{path} has no command {name}"
        command, path = inner, f"{path} {name}"
        context = click.Context(command, parent=context, info_name=path)
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    given = {name: value for name, value in given.items() if isinstance(value, str | list | tuple | bool)}
    assert not rest, f"{path}: {rest}"
    for parameter in command.params:
        assert not parameter.required or given.get(parameter.name), f"{path} wants {parameter.name}"
        if isinstance(parameter.type, click.Choice) and parameter.name in given:
            parameter.type.convert(given[parameter.name], parameter, context)
    if any("--config" in parameter.opts for parameter in command.params):
        source = given.get("config") or given.get("source") or "demo"
        assert source in configfile.PACKAGED or source.endswith(".yaml")
        packaged = source if source in configfile.PACKAGED else "demo"
        configfile.load(packaged, list(given.get("settings") or []))


def check_make(words):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for word in words:
        name, equals, value = word.partition("=")
        assert (name in {"CONFIG", "WORK", "DEVICE", "JOBS"}) if equals else (word in targets), word
        assert name != "CONFIG" or value in configfile.PACKAGED or value.endswith(".yaml"), word


def check_script(words):
    script, *options = words
    if (ROOT / script).is_file():
        text = (ROOT / script).read_text(encoding="utf-8")
        assert all(f'"{o.partition("=")[0]}"' in text for o in options if o.startswith("--")), words


def check_uv(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(extra in extras for option, extra in itertools.pairwise(words) if option == "--extra")


def ignore(words):
    """Programs of others: their options are theirs."""


CHECKS = {
    "facets": check_facets,
    "make": check_make,
    "python": check_script,
    "uv": check_uv,
    "pytest": ignore,
    "git": ignore,
    "cd": ignore,
    "dask": ignore,
    "strace": ignore,
    "pip": ignore,
}


@pytest.mark.parametrize("block", of_language("sh"), ids=str)
def test_every_command_of_a_shell_block_exists_and_takes_these_options(block):
    for program, *words in commands(block.text):
        CHECKS[program.removeprefix(".venv/bin/")](words)


@pytest.mark.parametrize("block", of_language("yaml"), ids=str)
def test_every_yaml_block_is_a_valid_experiment_in_place_of_the_demos_sections(block, tmp_path):
    demo = yaml.safe_load(configfile.packaged_path("demo").read_text(encoding="utf-8"))
    for number, fragment in enumerate(re.split(r"^---$", block.text, flags=re.MULTILINE)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(fragment)
        configfile.refuse_duplicates(yaml.compose(fragment), path)
        given = yaml.safe_load(fragment)
        scored = {"edition": given.get("corpus", demo["corpus"]).get("edition", "abaw2")}
        path.write_text(yaml.safe_dump(demo | {"table": scored} | given))
        configfile.load(path)


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_every_json_block_is_json(block):
    json.loads(block.text)


def test_every_block_has_a_known_language_and_few_are_not_run():
    every = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in every} <= {"python", "sh", "yaml", "json", ""}
    not_run = [str(block) for block in every if block.reason]
    assert len(not_run) <= MOST_NOT_RUN, not_run
