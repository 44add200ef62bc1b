"""The rows of a sweep: axes multiplied out, settings resolved, equal runs found, and the name of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config import Config, Exclude, Row, Training
from stores import documents
from stores.documents import Json
from stores.errors import ConfigError, nearest
from temporal.registries import LOSSES, short, unread
from temporal.tasks import TASKS, combination_name

PLAIN_ATTENTION = "scalar"
"""The kind of attention that a row's name leaves out."""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One row of the table, with everything that its runs share.

    Attributes:
        name: combination, then the settings that differ from the shared ones: ``A+AU+Attn lr=0.0003``.
        tasks: in the order V, A, AU, EXPR.
        attention: whether multi-task attention gates the heads; its kind is a setting.
        streams: the streams that its runs read; empty for all.
        training: every setting but those that decide no result, as JSON values.
        settings: those of them that differ from the shared ones and can matter to this row.
    """

    name: str
    tasks: tuple[str, ...]
    attention: bool
    streams: tuple[str, ...]
    training: Mapping[str, Json]
    settings: Mapping[str, Json]


def sweep_rows(config: Config) -> tuple[SweepRow, ...]:
    """Returns the rows of a sweep in the order of the table, each once.

    Rows of a product that are the same run, such as two AU weights for a row without AU, are one row.

    Raises:
        ConfigError: settings of a row do not go together, two rows that are spelt out are the same run, or
            nothing is left.
    """
    sweep, shared = config.planned, config.training
    spelt = [(f"sweep.rows.{i}", row) for i, row in enumerate(sweep.rows)]
    if sweep.product is not None:
        spelt = [("sweep.product", row) for row in sweep.product.rows()]
        spelt = [(w, row) for w, row in spelt if not any(matches(p, row, shared) for p in sweep.exclude)]
        if not spelt:
            msg = "sweep: 'exclude' leaves no row"
            raise ConfigError(msg)
    found: dict[bytes, tuple[str, SweepRow]] = {}
    for where, spelt_row in spelt:
        row = resolve(spelt_row, shared, where, tuple(config.streams))
        deciding = relevant(row.tasks, row.training, attention=row.attention)
        key = documents.canonical([list(row.tasks), row.attention, list(row.streams), deciding])
        if key not in found:
            found[key] = (where, row)
        elif sweep.rows:
            first, same = found[key]
            msg = f"{where}: the row {same.name} is given twice: {first} is the same run, so remove one"
            raise ConfigError(msg)
    return tuple(row for _, row in found.values())


def resolve(row: Row, shared: Training, where: str, known: Sequence[str]) -> SweepRow:
    """Returns a row with all its settings.

    Args:
        row: as it is spelt.
        shared: the settings of all rows.
        where: what an error calls the row.
        known: the streams of the experiment.

    Raises:
        ConfigError: its settings do not go together with each other or with the shared ones, or a stream is
            unknown.
    """
    if unknown := [name for name in row.streams if name not in known]:
        hint = nearest(unknown[0], known)
        msg = f"{where}: row {'+'.join(row.tasks)}: no stream {unknown[0]!r}, {hint}"
        raise ConfigError(msg)
    streams = () if set(row.streams) == set(known) else row.streams
    own = own_settings(row)
    try:
        training = Training.model_validate({**shared.model_dump(), **own}).deciding()
    except ValidationError as error:
        named = "+".join(row.tasks) + "".join(f" {key}={text_of(value)}" for key, value in own.items())
        problems = "; ".join(
            str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
            for problem in error.errors()
        )
        msg = f"{where}: row {named}: {problems}"
        raise ConfigError(msg) from None
    attention, base = bool(row.attention), shared.deciding()
    read = relevant(row.tasks, training, attention=attention)
    before = relevant(row.tasks, base, attention=attention)
    settings: dict[str, Json] = {
        key: value for key, value in read.items() if value != before.get(key, base[key])
    }
    name = combination_name(row.tasks, attention=attention)
    kind = settings.pop("attention", training["attention"])
    if attention and kind != PLAIN_ATTENTION:
        name += f"({kind})"
    if streams:
        name += f" [{','.join(streams)}]"
    if "loss_weights" in settings:
        weights = {task: loss_weight(training, task) for task in row.tasks}
        settings["loss_weights"] = {t: w for t, w in weights.items() if w != loss_weight(base, t)}
    if "losses" in settings:
        settings["losses"] = differing(training, base, row.tasks)
    name += "".join(f" {key}={text_of(value)}" for key, value in settings.items())
    return SweepRow(name, row.tasks, attention, streams, training, settings)


def differing(training: Mapping[str, Any], base: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Json]:
    """Returns the losses of ``tasks`` that are not those of ``base``, written short."""
    changed = {task: loss for task, loss in training["losses"].items() if loss != base["losses"][task]}
    written = {task: short(LOSSES[TASKS[task].loss], changed[task]) for task in tasks if task in changed}
    return {task: loss if isinstance(loss, str) else dict(loss) for task, loss in written.items()}


def own_settings(row: Row | Exclude) -> dict[str, Any]:
    """Returns the settings of a row, the kind of its attention among them."""
    kind = {"attention": row.attention} if isinstance(row.attention, str) else {}
    return {**row.training, **kind}


def matches(pattern: Exclude, row: Row, shared: Training) -> bool:
    """Tells whether a row agrees with a pattern in every key that the pattern has."""
    if pattern.tasks not in (None, row.tasks):
        return False
    if pattern.streams not in (None, row.streams):
        return False
    if pattern.attention is not None and bool(pattern.attention) != bool(row.attention):
        return False
    own = shared.model_dump() | own_settings(row)
    return all(understood(k, own[k]) == understood(k, value) for k, value in own_settings(pattern).items())


def understood(key: str, value: object) -> object:
    """Returns a value of a setting in the setting's own type: YAML reads ``1e-3`` as a string."""
    field = Training.model_fields[key]
    kind: Any = Annotated[(field.annotation, *field.metadata)]
    return TypeAdapter(kind).validate_python(value)


def relevant(tasks: Sequence[str], training: Mapping[str, Json], *, attention: bool) -> dict[str, Json]:
    """Returns those of ``training`` that can change the result of a run of these tasks.

    Left out are: weights of 1 and of tasks that are not trained; the losses of tasks that are not trained;
    the kind of attention where it is off; what only another loss, model or attention reads. Where in doubt a
    setting stays: the same result trained twice is a waste, two results under one id are a lie.
    """
    left = unread(tasks, training, attention=attention)
    weights = {task: weight for task in tasks if (weight := loss_weight(training, task)) != 1}
    losses: Any = training["losses"]
    own: dict[str, Json] = {"loss_weights": weights, "losses": {task: losses[task] for task in tasks}}
    return {key: value for key, value in training.items() if key not in left} | own


def loss_weight(training: Mapping[str, Json], task: str) -> float:
    """Returns the weight of a task's loss, 1 where none is given."""
    weights = training["loss_weights"]
    weight = weights.get(task, 1.0) if isinstance(weights, Mapping) else None
    if not isinstance(weight, int | float):
        msg = f"loss_weights is {weights!r}, expected a mapping from tasks to numbers"
        raise TypeError(msg)
    return float(weight)


def text_of(value: Json) -> str:
    """Returns a setting as a row's name and the CSV have it: short, and different where values differ."""
    if isinstance(value, Mapping) and "name" in value:
        own = ",".join(f"{key}={text_of(item)}" for key, item in value.items() if key != "name")
        return f"{value['name']}({own})" if own else str(value["name"])
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{text_of(item)}" for key, item in value.items()) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return brief if float(brief := f"{value:g}") == value else repr(value)
    return str(value)
