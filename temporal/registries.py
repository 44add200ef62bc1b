"""The registries: what a setting can choose from by name, where each choice lives and what it reads.

A new loss, sampler, model, attention or fusion is one function in a module and one line here.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any, TypeAlias, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stores.errors import ConfigError, nearest
from temporal.tasks import TASKS

FINITE = ConfigDict(allow_inf_nan=False)

Value: TypeAlias = bool | int | float | str
Selection: TypeAlias = str | Mapping[str, Any]
"""A choice as a configuration writes it: its name, or ``{name: ..., parameter: ...}``."""


def conforming(adapter: TypeAdapter[Any], where: str, value: Any, *, strict: bool = True) -> Any:
    """Returns ``value`` as the annotation of ``adapter`` has it.

    Raises:
        ConfigError: it does not fit; the message begins with ``where``.
    """
    try:
        return adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        wrong = error.errors()
        inside = f"for {wrong[0]['loc'][0]}: " if isinstance(value, Mapping) and wrong[0]["loc"] else ""
        told = " or ".join(dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in wrong))
        told = told.replace("String should match pattern", "text like")
        msg = f"{where} {value!r}: expected {inside}{told}"
        raise ConfigError(msg) from None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number, text or switch of a choice.

    Attributes:
        default: its value where none is given; tells its type too.
        meaning: what it does, for the documentation.
        ge: least value; likewise ``gt`` (exclusive), ``le`` and ``lt``.
    """

    default: Value
    meaning: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def checked(self, where: str, value: Any) -> Value:
        """Returns ``value`` in the type of the default.

        Raises:
            ConfigError: it is of another type or outside the range.
        """
        number = not isinstance(self.default, bool | str)
        # YAML takes 1e-3 for text, and 3.0 is a whole number; True is no number.
        strict = not number or isinstance(value, bool)
        return cast("Value", conforming(_adapter(self), where, value, strict=strict))


@cache
def _adapter(one: Parameter) -> TypeAdapter[Any]:
    bounds = Field(ge=one.ge, gt=one.gt, le=one.le, lt=one.lt)
    hint: Any = Annotated[type(one.default), bounds]
    return TypeAdapter(hint, config=FINITE)


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a registry.

    Attributes:
        reference: ``module:function``, imported when a run asks for it.
        reads: of the shared settings that not everything reads, those that this choice reads; None if
            nobody said so, and then it may read all.
        parameters: its own, by name; the function gets them as keyword arguments.
        counts: whether a loss counts the training labels that its run may use. Those depend on the streams
            that the run reads, so that runs of other streams train in another stack.
    """

    reference: str
    reads: tuple[str, ...] | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    counts: bool = False

    def load(self) -> Any:
        """Returns the function, imported now."""
        module, function = self.reference.split(":")
        return getattr(importlib.import_module(module), function)


Registry: TypeAlias = dict[str, Choice]

LOSSES: dict[str, Registry] = {
    "ccc": {
        "ccc": Choice("temporal.train.losses:ccc", ()),
        "mse": Choice("temporal.train.losses:mse", ()),
    },
    "binary": {
        "bce": Choice("temporal.train.losses:bce", ()),
        "balanced": Choice(
            "temporal.train.losses:balanced_bce",
            (),
            {"largest": Parameter(20.0, "cap of the weight of positives, negatives / positives", gt=0)},
            counts=True,
        ),
        "focal": Choice(
            "temporal.train.losses:focal",
            (),
            {
                "gamma": Parameter(1.0, "focusing exponent", ge=0),
                "alpha": Parameter(0.95, "weight of positive cells, 1 - alpha on negative ones", ge=0, le=1),
            },
        ),
    },
    "categorical": {
        "cross_entropy": Choice("temporal.train.losses:cross_entropy", ()),
        "balanced": Choice("temporal.train.losses:balanced_cross_entropy", (), counts=True),
    },
}
"""The losses of each kind of task; the first of a kind is its default.

A function ``(train, task, labels, **parameters)`` -> a loss, see ``temporal.train.losses``. The defaults of
``focal`` are those of the seed TCN project (Chrisa142857/ABAW2).
"""

MODELS: Registry = {
    "tcn": Choice("temporal.models.tcn:tcn", ("kernel_size",)),
    "multiscale_tcn": Choice("temporal.models.multiscale_tcn:multiscale_tcn", ("kernel_size",)),
    "bigru": Choice("temporal.models.bigru:bigru", ()),
    "transformer": Choice("temporal.models.transformer:transformer", ("attention_heads",)),
    "mlp": Choice("temporal.models.tcn:mlp", ()),
}
"""The sequence models: a function of input channels and ``Training`` -> ``temporal.models.trunk.Trunk``."""

ATTENTIONS: Registry = {
    "scalar": Choice("temporal.models.gated:scalar", ()),
    "vector": Choice("temporal.models.gated:vector", ()),
    "cross_task": Choice("temporal.models.cross_task:cross_task", ("attention_heads",)),
    "hierarchical": Choice("temporal.models.hierarchical:hierarchical", ()),
}
"""The kinds of multi-task attention: a function of the channels of the trunk, the outputs of each task and
``Training`` -> ``temporal.models.attention.TaskAttention``."""

FUSIONS: Registry = {"concat": Choice("temporal.models.fusion:concat", ())}
"""How several streams become one: a function of their names, the channels that each has, ``Training`` and its
parameters -> ``temporal.models.fusion.Fusion``."""

SAMPLERS: Registry = {"shuffled": Choice("temporal.train.sampling:shuffled", ())}
"""The orders of an epoch's windows, see ``temporal.train.sampling``."""


def selected(what: str, registry: Mapping[str, Choice], value: Any) -> dict[str, Value]:
    """Returns a choice as ``{"name": name, every parameter: its value}``.

    Args:
        what: what is chosen, for the message of an error.
        registry: the choices.
        value: a name, or a mapping of the name and some parameters.

    Raises:
        ConfigError: an unknown name or parameter (the nearest one is named), or a value out of its range.
    """
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        msg = f"{what} {value!r}: expected a name or {{name: ..., parameter: ...}} of {', '.join(registry)}"
        raise ConfigError(msg)
    name = given["name"]
    if name not in registry:
        msg = f"{what} {name!r}: {nearest(name, registry)}"
        raise ConfigError(msg)
    parameters = registry[name].parameters
    for key in given:
        if key != "name" and key not in parameters:
            msg = f"{what} {name}: unknown key {key!r}, {nearest(str(key), ['name', *parameters])}"
            raise ConfigError(msg)
    return {"name": name} | {
        key: parameter.checked(f"{what} {name}.{key}", given.get(key, parameter.default))
        for key, parameter in parameters.items()
    }


def short(registry: Mapping[str, Choice], selection: Mapping[str, Any]) -> Selection:
    """Returns the shortest way to write what ``selected`` returned: parameters of default value left out."""
    name = selection["name"]
    parameters = registry[name].parameters if name in registry else {}
    changed = {
        key: value
        for key, value in selection.items()
        if key != "name" and (key not in parameters or value != parameters[key].default)
    }
    return {"name": name, **changed} if changed else str(name)


def made(what: str, registry: Mapping[str, Choice], value: Selection) -> Callable[..., Any]:
    """Returns the function of a choice with its parameters already given."""
    chosen = selected(what, registry, value)
    return partial(registry[str(chosen.pop("name"))].load(), **chosen)


def short_losses(losses: Mapping[str, Any]) -> dict[str, Selection]:
    """Returns ``Training.losses`` without what is the default."""
    written = {}
    for name, loss in losses.items():
        known = LOSSES[TASKS[name].loss]
        brief = short(known, loss)
        if brief != next(iter(known)):
            written[name] = brief
    return written


def counting(losses: Mapping[str, Any]) -> bool:
    """Whether one of ``Training.losses`` counts training labels, see ``Choice.counts``."""
    return any(LOSSES[TASKS[task].loss][loss["name"]].counts for task, loss in losses.items())


def unread(tasks: Sequence[str], training: Mapping[str, Any], *, attention: bool) -> set[str]:
    """Returns the settings that a run of ``tasks`` does not read, whatever their values.

    Args:
        tasks: of the run.
        training: settings by name, in normal form.
        attention: whether the run has attention.
    """
    registries = [MODELS, ATTENTIONS, FUSIONS, SAMPLERS, *LOSSES.values()]
    chosen = [MODELS.get(training["model"])]
    chosen += [FUSIONS.get(training["fusion"]["name"]), SAMPLERS.get(training["sampler"]["name"])]
    chosen += [LOSSES[TASKS[task].loss].get(training["losses"][task]["name"]) for task in tasks]
    if attention:
        chosen.append(ATTENTIONS.get(training["attention"]))
    left = set() if attention else {"attention"}
    if any(choice is None or choice.reads is None for choice in chosen):
        return left
    particular = {key for known in registries for choice in known.values() for key in choice.reads or ()}
    return left | particular.difference(*(choice.reads or () for choice in chosen if choice is not None))
