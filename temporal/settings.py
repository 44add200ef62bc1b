"""Every setting of a training, stated once: type, range, default, meaning, and who reads it.

``Run`` is what one replica has for itself, ``Training`` is what the runs of a stack share, and ``Place``
decides memory and speed but no result. The section ``training`` of a configuration is derived from the three.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import StringConstraints, TypeAdapter

from stores.errors import ConfigError
from temporal.registries import (
    ATTENTIONS,
    FINITE,
    FUSIONS,
    LOSSES,
    MODELS,
    SAMPLERS,
    Choice,
    Parameter,
    Selection,
    conforming,
    selected,
    short,
    short_losses,
)  # fmt: skip
from temporal.tasks import TASKS, canonical, combination_name, parse_combination

__all__ = [
    "ATTENTIONS", "FUSIONS", "LOSSES", "MODELS", "SAMPLERS", "Choice", "Parameter", "Place", "Run",
    "Selection", "Setting", "Training", "checked", "settings_of",
]  # fmt: skip

Scope: TypeAlias = Literal["row", "run", "stack", "place"]
TaskName = Annotated[str, StringConstraints(pattern=f"^({'|'.join(TASKS)})$")]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field means.

    Attributes:
        meaning: in a line.
        scope: ``row`` = which row of a table it is, ``run`` = a setting of each run of a stack, ``stack`` =
            one that all share, ``place`` = one that decides no result.
    """

    meaning: str
    scope: Scope = "stack"


@dataclass(frozen=True, slots=True)
class Named:
    """Text that is a name of a registry."""

    registry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Selected:
    """A field that holds a choice of a registry with its parameters."""

    registry: Mapping[str, Choice]


@dataclass(frozen=True, slots=True)
class Losses:
    """The field that holds a choice of ``LOSSES`` for every task."""


def settings_of(owner: type[Any]) -> dict[str, tuple[Any, Setting]]:
    """Returns the annotation and the ``Setting`` of every field of ``Run``, ``Training`` or ``Place``."""
    return {
        name: (hint, next(part for part in get_args(hint) if isinstance(part, Setting)))
        for name, hint in _hints(owner).items()
    }


_HINTS: dict[type[Any], dict[str, Any]] = {}
_ADAPTERS: dict[tuple[type[Any], str], TypeAdapter[Any]] = {}


def _hints(owner: type[Any]) -> dict[str, Any]:
    if owner not in _HINTS:
        _HINTS[owner] = get_type_hints(owner, include_extras=True)
    return _HINTS[owner]


def checked(owner: type[Any], name: str, value: Any) -> Any:
    """Returns the value of one field in its normal form: choices with all their parameters.

    Raises:
        ConfigError: it is of another type, out of range, or not in the registry.
    """
    value = value.item() if isinstance(value, np.generic) else value
    kinds = get_args(_hints(owner)[name])[1:]
    for part in kinds:
        if isinstance(part, Selected):
            return selected(name, part.registry, value)
        if isinstance(part, Losses):
            return _losses(value)
    if (owner, name) not in _ADAPTERS:
        _ADAPTERS[owner, name] = TypeAdapter(_hints(owner)[name], config=FINITE)
    conforming(_ADAPTERS[owner, name], name, value)
    for part in kinds:
        if isinstance(part, Named) and value not in part.registry:
            msg = f"{name} {value!r}: expected one of {', '.join(part.registry)}"
            raise ConfigError(msg)
    return value


def _losses(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        msg = f"losses {given!r}: expected a mapping such as {{AU: focal}}"
        raise ConfigError(msg)
    if unknown := sorted(map(str, set(given) - set(TASKS))):
        msg = f"losses names {unknown}: expected tasks of {list(TASKS)}"
        raise ConfigError(msg)
    return {
        name: selected(f"losses.{name}", known, given.get(name, next(iter(known))))
        for name, known in ((name, LOSSES[task.loss]) for name, task in TASKS.items())
    }


def _normalise(owner: "Run | Training") -> None:
    """Checks every field and puts it into its normal form."""
    for name in _hints(type(owner)):
        object.__setattr__(owner, name, checked(type(owner), name, getattr(owner, name)))


def _changed(owner: "Run | Training", skip: Sequence[str] = ()) -> Iterator[str]:
    """Yields ``name=value`` of the fields that differ from their defaults, each written short."""
    for one in fields(owner):
        if one.name in skip:
            continue
        value, default = getattr(owner, one.name), {} if one.default is MISSING else one.default
        for part in get_args(_hints(type(owner))[one.name])[1:]:
            if isinstance(part, Selected):
                value = short(part.registry, value)
            if isinstance(part, Losses):
                value = short_losses(value)
        if value != default:
            yield f"{one.name}={value!r}"


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """One combination of tasks on some streams, with one seed and settings of its own.

    What each field means stands in its annotation.

    Raises:
        ConfigError: a value outside its range, or an unknown task.
    """

    tasks: Annotated[tuple[str, ...], Setting("tasks trained, put into canonical order", "row")]
    attention: Annotated[bool, Setting("whether multi-task attention joins the heads", "row")] = False
    seed: Annotated[int, Ge(0), Setting("decides initial parameters and dropout, nothing else", "row")] = 0
    lr: Annotated[float, Gt(0), Setting("peak learning rate", "run")] = 1e-3
    weight_decay: Annotated[
        float, Ge(0), Setting("of all parameters; decoupled for adamw, part of the gradient for adam", "run")
    ] = 1e-2
    dropout: Annotated[float, Ge(0), Lt(1), Setting("probability that a channel is dropped", "run")] = 0.1
    loss_weights: Annotated[
        Mapping[TaskName, Annotated[float, Ge(0)]],
        Setting("weight of a task's loss, 1 where absent", "run"),
    ] = field(default_factory=dict, hash=False)
    streams: Annotated[tuple[str, ...], Setting("streams of the bank that it reads; () = all", "row")] = ()

    def __post_init__(self) -> None:
        tasks, attention, streams = (getattr(self, name) for name in ("tasks", "attention", "streams"))
        if isinstance(tasks, str):
            msg = f"tasks {tasks!r}: write Run.parse({tasks!r}), or a tuple such as ('A', 'AU')"
            raise ConfigError(msg)
        if isinstance(attention, str):
            msg = (
                f"attention {attention!r}: a run says True or False; write Run(..., attention=True) and"
                f" Training(attention={attention!r})"
            )
            raise ConfigError(msg)
        if isinstance(streams, str) or len(set(streams)) < len(streams):
            msg = f"streams {streams!r}: expected different names in a tuple, such as ('face',)"
            raise ConfigError(msg)
        object.__setattr__(self, "tasks", canonical(self.tasks))
        object.__setattr__(self, "streams", tuple(sorted(self.streams)))
        _normalise(self)

    @classmethod
    def parse(cls, name: str, **settings: Any) -> Self:
        """Returns the run of a row name, such as ``A+AU+Attn`` or ``AU [face]``, with further settings.

        Raises:
            ConfigError: it is no such name, or a setting is out of its range.
        """
        combination, bracket, streams = name.partition(" [")
        tasks, attention = parse_combination(combination)
        read = tuple(streams.removesuffix("]").split(",")) if bracket else ()
        return cls(tasks, attention, **{"streams": read, **settings})

    @property
    def name(self) -> str:
        """Row name, such as ``A+AU+Attn`` or ``AU [face]``."""
        name = combination_name(self.tasks, attention=self.attention)
        return f"{name} [{','.join(self.streams)}]" if self.streams else name

    def __repr__(self) -> str:
        own = _changed(self, ("tasks", "attention", "streams"))
        return f"Run.parse({', '.join([repr(self.name), *own])})"


@dataclass(frozen=True, slots=True, repr=False)
class Training:
    """What every run of a stack shares: windows, schedule, architecture, form of the losses.

    What each field means stands in its annotation.

    Raises:
        ConfigError: a value outside its range, or settings that do not go together.
    """

    window: Annotated[int, Ge(1), Setting("frames in a window")] = 300
    hop: Annotated[int, Ge(1), Setting("frames between the starts of two windows, at most window")] = 200
    batch_size: Annotated[int, Ge(1), Setting("windows in a minibatch")] = 8
    epochs: Annotated[int, Ge(1), Setting("most epochs of a run; also the length of the schedule")] = 40
    patience: Annotated[
        int, Ge(0), Setting("epochs without a better score after which a run stops; 0 = never")
    ] = 10
    optimizer: Annotated[
        Literal["adamw", "adam"],
        Setting("adamw (Loshchilov and Hutter 2019) or adam (Kingma and Ba 2015)"),
    ] = "adamw"
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"],
        Setting("of the rate after the warm-up: cosine to 0, constant, or cut when a run's score stalls"),
    ] = "cosine"
    warmup: Annotated[float, Ge(0), Le(1), Setting("share of the schedule with a rising rate")] = 0.05
    plateau_patience: Annotated[
        int, Ge(0), Setting("epochs without a better score before the rate is cut")
    ] = 5
    plateau_factor: Annotated[float, Gt(0), Lt(1), Setting("factor of a cut of the rate")] = 0.1
    plateau_min_lr: Annotated[float, Ge(0), Setting("rate at which cutting ends")] = 1e-6
    clip_norm: Annotated[float, Ge(0), Setting("largest gradient norm of a run; 0 = no clipping")] = 1.0
    model: Annotated[str, Named(MODELS), Setting("the sequence model")] = "tcn"
    causal: Annotated[
        bool, Setting("no frame sees a later one; a bigru then has its forward direction alone")
    ] = True
    channels: Annotated[
        int, Ge(1), Setting("channels of every level; a bigru halves them between its directions")
    ] = 128
    levels: Annotated[int, Ge(1), Setting("depth: TCN levels with dilation 1, 2, 4, ..., or layers")] = 4
    kernel_size: Annotated[int, Ge(1), Setting("TCN taps; multi-scale: of the middle branch")] = 5
    projection: Annotated[int, Ge(0), Setting("channels of a linear layer before the model, 0 = none")] = 0
    fusion: Annotated[
        Selection, Selected(FUSIONS), Setting("how several streams become one; needs a projection")
    ] = field(default="concat", hash=False)
    attention: Annotated[
        str, Named(ATTENTIONS), Setting("kind of multi-task attention of the runs that have attention")
    ] = "scalar"
    attention_heads: Annotated[int, Ge(1), Setting("heads of a transformer, and of cross-task attention")] = 4
    standardise: Annotated[
        bool, Setting("features are centred and scaled by statistics of the valid training frames")
    ] = True
    centre: Annotated[
        bool,
        Setting("each clip's mean is subtracted first; a prediction then depends on the whole clip"),
    ] = False
    pca: Annotated[
        int, Ge(0), Setting("principal axes of the valid training frames to project on, 0 = not")
    ] = 0
    data_seed: Annotated[
        int, Ge(0), Lt(2**31), Setting("decides the order of windows, the same for all runs")
    ] = 0
    sampler: Annotated[
        Selection, Selected(SAMPLERS), Setting("which windows an epoch reads, in which order")
    ] = field(default="shuffled", hash=False)
    losses: Annotated[
        Mapping[str, Selection], Losses(), Setting("loss of each task, its kind's first where absent")
    ] = field(default_factory=dict, hash=False)
    precision: Annotated[
        Literal["float32", "tf32", "bfloat16"],
        Setting("of the products in a training step; evaluation is float32 always"),
    ] = "float32"
    compile: Annotated[
        bool,
        Setting("compile the step, anew whenever replicas leave (up to a minute); sums round differently"),
    ] = False

    def __post_init__(self) -> None:
        _normalise(self)
        channels, heads, kernel = self.channels, self.attention_heads, self.kernel_size
        wrong = {
            f"hop {self.hop} > window {self.window} would leave frames out: lower hop": (
                self.hop > self.window
            ),
            f"kernel_size {kernel} cannot be centred: give an odd kernel_size or causal: true": (
                not self.causal and kernel % 2 == 0
            ),
            f"kernel_size {kernel}, channels {channels}: a multiscale_tcn needs 3 of each or more": (
                self.model == "multiscale_tcn" and min(kernel, channels) < 3
            ),
            f"channels {channels}: a centred bigru halves them between its directions, give an even number": (
                self.model == "bigru" and not self.causal and channels % 2 != 0
            ),
            f"channels {channels}, attention_heads {heads}: a transformer needs a multiple of {2 * heads}": (
                self.model == "transformer" and channels % (2 * heads) != 0
            ),
            f"channels {channels}, attention_heads {heads}: cross_task needs a multiple of {heads}": (
                self.attention == "cross_task" and channels % heads != 0
            ),
        }
        for msg, found in wrong.items():
            if found:
                raise ConfigError(msg)

    def __repr__(self) -> str:
        return f"Training({', '.join(_changed(self))})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where training happens and how many runs train together: memory and speed, no result."""

    device: Annotated[
        str,
        StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$"),
        Setting("auto, cpu, cuda or cuda:N", "place"),
    ] = "auto"
    bank: Annotated[
        Literal["auto", "device", "host", "store"], Setting("where the features are", "place")
    ] = "auto"
    max_replicas: Annotated[
        Literal["auto"] | Annotated[int, Ge(1)],
        Setting("runs trained together; changes results by rounding alone", "place"),
    ] = "auto"
