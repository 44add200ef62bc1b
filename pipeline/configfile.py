"""Reads an experiment from YAML and ``--set`` changes; a mistake is answered by file, line and known key."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import Config, Training
from pipeline.config.streams import MAKERS
from pipeline.rows import sweep_rows
from stores.errors import ConfigError

PACKAGED = ("demo", "subsets", "au_weights", "seed_recipe", "smoke", "affwild2")
DEFAULT = "demo"

ANY_KEY = "*"


def packaged_path(name: str) -> Path:
    """Returns the path of a configuration that comes with the package."""
    return Path(str(resources.files("pipeline").joinpath("configs", f"{name}.yaml")))


def load(source: str | Path = DEFAULT, settings: Sequence[str] = (), device: str | None = None) -> Config:
    """Reads a configuration.

    Args:
        source: a YAML file, or the name of a packaged configuration, one of ``PACKAGED``.
        settings: changes such as ``training.epochs=3``, applied in order; the value is YAML.
        device: where to compute, for all streams and the training, instead of the configuration's devices.

    Raises:
        ConfigError: no such file, not YAML, a key that does not exist (the nearest one is named) or a value
            that does not fit; the message starts with file and line.
    """
    path = packaged_path(str(source)) if str(source) in PACKAGED else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = (
            f"cannot read the configuration {path}: {error}; give a YAML file or one of {', '.join(PACKAGED)}"
        )
        raise ConfigError(msg) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
        refuse_duplicates(root, path)
    except yaml.YAMLError as error:
        msg = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    except RecursionError:
        msg = f"{path}: a value holds itself (an anchor below its own &name), or is nested too deeply"
        raise ConfigError(msg) from None
    if not isinstance(raw, dict):
        msg = f"{path}: expected a mapping with the keys {', '.join(Config.model_fields)}"
        raise ConfigError(msg)
    changed = [apply(raw, setting) for setting in settings]
    if device is not None:
        streams = raw.get("streams")
        places = [f"streams.{name}" for name in streams] if isinstance(streams, dict) else []
        settings = (*settings, *(f"{place}.device={device}" for place in (*places, "training")))
        changed += [apply(raw, setting) for setting in settings[len(changed) :]]
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            keys = problem["loc"]
            override = next(
                (s for s, loc in zip(settings, changed, strict=True) if keys[: len(loc)] == loc), None
            )
            where = f"--set {override}" if override else f"{path}:{line_of(root, keys)}"
            problems.append(f"{where}: {describe(problem)}")
        raise ConfigError("; ".join(problems)) from None
    try:
        if config.sweep is not None:
            sweep_rows(config)
    except ConfigError as error:
        msg = f"{path}:{line_of(root, ('sweep',))}: {error}"
        raise ConfigError(msg) from None
    return config


def apply(raw: dict[str, Any], setting: str) -> tuple[str, ...]:
    """Changes ``raw`` by one ``a.b=value`` and returns the keys that lead to the value.

    Raises:
        ConfigError: no ``=``, no key, a value that is not YAML, or a key below what is not a mapping.
    """
    dotted, equals, text = setting.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        msg = f"--set {setting}: expected key=value, such as training.epochs=3"
        raise ConfigError(msg)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"--set {setting}: the value is not YAML: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    node = raw
    for i, key in enumerate(keys[:-1]):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            msg = f"--set {setting}: {'.'.join(keys[: i + 1])} is {node!r}, not a section"
            raise ConfigError(msg)
    if len(keys) == 3 and keys[0] == "streams" and keys[2] == "store":
        for name in MAKERS & node.keys():  # a store that is given takes the place of its making
            del node[name]
    node[keys[-1]] = value
    return keys


def refuse_duplicates(node: yaml.Node | None, path: Path) -> None:
    """Raises ``ConfigError`` where a mapping has a key twice, of which YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                msg = f"{path}:{line}: the key {key.value!r} is already on line {seen[key.value]}"
                raise ConfigError(msg)
            seen[key.value] = line
            refuse_duplicates(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            refuse_duplicates(item, path)


def line_of(node: yaml.Node | None, keys: Sequence[int | str]) -> int:
    """Returns the 1-based line of the deepest of ``keys`` that the document has."""
    line = 1 if node is None else node.start_mark.line + 1
    for wanted in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == wanted), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(wanted, int) and wanted < len(node.value):
            node = node.value[wanted]
            line = node.start_mark.line + 1
    return line


def describe(problem: Mapping[str, Any]) -> str:
    """Returns one pydantic problem as a phrase; for an unknown key it names the nearest known one."""
    *above, key = problem["loc"] or ("configuration",)
    dotted = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}, {nearest(above, str(key))}"
    if problem["type"] == "missing":
        return f"the key {dotted!r} is missing"
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return f"{dotted}: {text}" if dotted else text
    return f"{dotted}: found {problem['input']!r}, {problem['msg'][0].lower()}{problem['msg'][1:]}"


def nearest(above: Sequence[int | str], key: str) -> str:
    """Returns a hint for an unknown ``key``: a like one beside it, the same elsewhere, or all there are."""
    names = tuple(k for k in above if isinstance(k, str))
    known = {
        path[-1]: path
        for path in known_keys(Config)
        if len(path) == len(names) + 1
        and all(k in (ANY_KEY, name) for k, name in zip(path[:-1], names, strict=True))
    }
    if names[-1:] == ("training",):  # also the settings of a row, which pydantic sees as a plain mapping
        known = {name: (*names, name) for name in Training.model_fields}
    like = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if like:
        return f"did you mean {'.'.join(known[like[0]])!r}?"
    elsewhere = [path for path in known_keys(Config) if path[-1] == key]
    if names[:1] == ("sweep",) and key in Training.model_fields:
        elsewhere.insert(0, (*names, "training", key))
    if elsewhere:
        return f"did you mean {'.'.join(elsewhere[0])!r}?"
    return f"expected one of {', '.join(known)}"


def known_keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Returns the path of every key below ``model``, in the order of the YAML, without list positions.

    ``ANY_KEY`` stands for the keys that the user chooses, such as the names of the parts of a mixture.
    """
    keys: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        keys.append((*above, name))
        sections = [
            t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)
        ]
        for section in sections:
            if issubclass(section, BaseModel):
                named = (ANY_KEY,) if get_origin(field.annotation) is dict else ()
                keys += known_keys(section, (*above, name, *named))
    return keys
