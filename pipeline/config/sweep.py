"""The section ``sweep``: the rows of the table, spelt out or as a product of axes, and their seeds."""

from collections.abc import Collection, Sequence
from itertools import combinations, product
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PositiveInt, field_validator, model_validator

from pipeline.config.folding import Folds
from pipeline.config.section import Section, Seed, Task
from pipeline.config.training import Axes, Derived, Training
from temporal.tasks import TASKS


def canonical_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Returns ``tasks`` in the order V, A, AU, EXPR; raises ``ValueError`` if none or one of them twice."""
    if not tasks:
        msg = "a row needs at least one task"
        raise ValueError(msg)
    if len(set(tasks)) < len(tasks):
        msg = f"a task is named twice in {list(tasks)}"
        raise ValueError(msg)
    return tuple(sorted(tasks, key=list(TASKS).index))


def known_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Returns ``value`` if each key is a setting of ``Training`` that a row may have for itself.

    Values are checked one by one; whether they go together depends on the shared ones: ``pipeline.rows``.

    Raises:
        ValueError: a setting that decides no result, or the kind of attention, which is a key of the row.
        ValidationError: an unknown key or a value out of its range, located below the key.
    """
    refuse_shared(value)
    Derived.model_validate(value)
    return value


def known_axes(value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Returns ``value``, lists of settings, if each could be a row's own; raises as ``known_settings``."""
    refuse_shared(value)
    for key, items in value.items():
        if not items:
            msg = f"the axis {key!r} has no value"
            raise ValueError(msg)
    Axes.model_validate(value)
    return value


def refuse_shared(names: Collection[str]) -> None:
    """Raises ``ValueError`` for a setting that decides no result, or that is a key of the row itself."""
    training = Training.model_fields
    places = [name for name in names if name in training and name not in Training().deciding()]
    if places:
        msg = f"{places[0]!r} decides no result, so it is the same for all rows: set it in 'training'"
        raise ValueError(msg)
    if "attention" in names:
        msg = "the kind of attention is the row's own key: write 'attention: KIND' beside 'tasks'"
        raise ValueError(msg)


Tasks = Annotated[tuple[Task, ...], AfterValidator(canonical_tasks)]

Settings = Annotated[dict[str, Any], AfterValidator(known_settings)]
"""Some settings of ``Training``, for one row instead of the shared ones."""

Attention = bool | str
"""Whether there is multi-task attention; a string turns it on and says of which kind."""


def different(streams: tuple[str, ...]) -> tuple[str, ...]:
    """Returns names of streams in the order of the alphabet; raises ``ValueError`` if one is named twice."""
    if len(set(streams)) < len(streams):
        msg = f"a stream is named twice in {list(streams)}"
        raise ValueError(msg)
    return tuple(sorted(streams))


Streams = Annotated[tuple[str, ...], AfterValidator(different)]


class Row(Section):
    """One row of the table: a combination of tasks, its attention, and settings that are its own."""

    tasks: Tasks
    attention: Attention = False
    streams: Streams = ()
    """The streams that it reads, by the names of the section ``streams``; all if there are none."""
    training: Settings = Field(default_factory=dict)
    """What differs from the section ``training``."""


class Product(Section):
    """Rows as the product of axes; attention over a single task is the same as none and is left out."""

    tasks: tuple[Tasks, ...]
    """Task combinations, or ``all_subsets`` for all fifteen."""
    attention: tuple[Attention, ...] = (False,)
    streams: tuple[Streams, ...] = ((),)
    """Sets of streams, such as ``[[face], [face, audio]]``; an empty one stands for all."""
    training: Annotated[dict[str, tuple[Any, ...]], AfterValidator(known_axes)] = Field(default_factory=dict)
    """One axis per setting, such as ``lr: [1.0e-3, 3.0e-4]``; the last one varies fastest."""

    @field_validator("tasks", mode="before")
    @classmethod
    def expand(cls, value: object) -> object:
        """Replaces ``all_subsets`` by the fifteen combinations, small ones first."""
        if value == "all_subsets":
            return [subset for size in range(1, len(TASKS) + 1) for subset in combinations(TASKS, size)]
        return value

    def rows(self) -> list[Row]:
        """Returns every row of the product, also those that are the same run."""
        return [
            Row(
                tasks=tasks,
                attention=attention,
                streams=streams,
                training=dict(zip(self.training, values, strict=True)),
            )
            for tasks in self.tasks
            for attention in self.attention
            if not (attention and len(tasks) == 1)
            for streams in self.streams
            for values in product(*self.training.values())
        ]


class Exclude(Section):
    """A pattern that takes rows out of a product: those that agree in every key given here."""

    tasks: Tasks | None = None
    attention: Attention | None = None
    streams: Streams | None = None
    training: Settings = Field(default_factory=dict)


class Halving(Section):
    """Successive halving of the settings of one combination; see ``pipeline.stage2.halving``."""

    eta: Annotated[int, Field(ge=2)] = 3
    """At each rung one of so many settings goes on, and rungs are so many times as far apart."""
    min_epochs: PositiveInt
    """Epochs before the first rung; no number suits all schedules, so there is no default."""


class Sweep(Section):
    """The rows of the table and the seeds of each: ``rows`` spelt out, or a ``product`` less ``exclude``.

    Which rows these are is for ``pipeline.rows``: it depends on the settings that rows share.
    """

    rows: tuple[Row, ...] = ()
    product: Product | None = None
    exclude: tuple[Exclude, ...] = ()
    seeds: tuple[Seed, ...] = (0, 1, 2)
    folds: Folds | None = None
    """Other divisions of the clips than the official one; every row trains once in each."""
    halving: Halving | None = None

    @model_validator(mode="after")
    def check(self) -> Self:
        """A sweep has rows, in one of the two forms, and seeds, each once."""
        if bool(self.rows) == (self.product is not None):
            msg = "give either 'rows' or 'product'"
            raise ValueError(msg)
        if self.exclude and self.product is None:
            msg = "'exclude' takes rows out of 'product', which is not given"
            raise ValueError(msg)
        for row in self.rows:
            if row.attention and len(row.tasks) == 1:
                msg = f"row {row.tasks[0]}: attention over one task changes nothing, leave it out"
                raise ValueError(msg)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            msg = f"'seeds' must be one or more different numbers, found {list(self.seeds)}"
            raise ValueError(msg)
        return self
