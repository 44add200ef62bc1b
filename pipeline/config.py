"""One experiment: corpus, features, training, sweep and table, as models that check every value.

Not a reader of files, which is ``pipeline.configfile``, and not a place where settings take effect.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from extract.corpora import KINDS
from stores.editions import edition
from stores.errors import ConfigError
from temporal.settings import ATTENTIONS, LOSSES, MODELS
from temporal.settings import Training as SharedSettings

MIXTURE = "mixture"
"""The kind of a corpus that is made of others."""

TASKS = ("V", "A", "AU", "EXPR")

Task = Literal["V", "A", "AU", "EXPR"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def known_edition(name: str) -> str:
    """Returns ``name`` if an edition is called so; raises ``ValueError``, as pydantic expects, if none is."""
    try:
        return edition(name).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


def known_kind(kind: str) -> str:
    """Returns ``kind`` if a corpus can be read so; raises ``ValueError``, with the nearest, if none can."""
    readable = (*KINDS, MIXTURE)
    if kind not in readable:
        like = difflib.get_close_matches(kind, readable, n=1, cutoff=0.5)
        hint = f"did you mean {like[0]!r}?" if like else f"expected one of {', '.join(readable)}"
        msg = f"unknown kind {kind!r}, {hint}"
        raise ValueError(msg)
    return kind


def known(what: str, registry: Mapping[str, str], name: str) -> str:
    """Returns ``name`` if it is one of ``registry``; raises ``ValueError``, as pydantic expects, if not."""
    if name not in registry:
        msg = f"unknown {what} {name!r}: expected one of {', '.join(registry)}"
        raise ValueError(msg)
    return name


class Section(BaseModel):
    """What all sections share: they are immutable and refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Render(Section):
    """What the embedded corpus consists of; ``extract.corpora.rendered`` tells what each setting means."""

    seed: Seed = 0
    train_people: PositiveInt = 32
    validation_people: PositiveInt = 14
    test_people: NonNegativeInt = 1
    clips_per_person: PositiveInt = 2
    min_frames: Annotated[int, Field(ge=30, le=99_999)] = 60
    max_frames: Annotated[int, Field(ge=30, le=99_999)] = 150
    rater_lag: NonNegativeInt = 8
    rater_noise: NonNegativeFloat = 0.08
    warts: bool = True

    @model_validator(mode="after")
    def check_frames(self) -> Self:
        """The range of clip lengths is not empty."""
        if self.min_frames > self.max_frames:
            msg = f"min_frames {self.min_frames} is more than max_frames {self.max_frames}"
            raise ValueError(msg)
        return self


class Folds(Section):
    """A split in folds instead of the official one; see ``extract.corpora.splits``."""

    kfold: Annotated[int, Field(ge=2)]
    fold: NonNegativeInt = 0
    """The fold that is the validation split; the others are the training split."""
    by: Literal["subject", "video"] = "subject"
    """What is never divided; two people of one video stay together by video, or if they share a subject."""
    seed: Seed = 0

    @model_validator(mode="after")
    def check_fold(self) -> Self:
        """The fold exists."""
        if self.fold >= self.kfold:
            msg = f"fold {self.fold} of {self.kfold}: folds are counted from 0"
            raise ValueError(msg)
        return self


class Reading(Section):
    """How one corpus is read."""

    kind: Annotated[str, AfterValidator(known_kind)]
    root: Path | None = None
    """Folder of the corpus."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the reader, such as ``au_threshold``."""
    mapping: dict[str, str | None] = Field(default_factory=dict)
    """Class or AU of the corpus -> the one that it becomes here; null makes it unknown."""
    split: Folds | None = None
    """``official``, or ``{kfold: 5, fold: 0, by: subject}``."""

    @field_validator("split", mode="before")
    @classmethod
    def official(cls, value: object) -> object:
        """Reads ``official`` as no folds."""
        return None if value == "official" else value


class Part(Reading):
    """One corpus of a mixture."""

    root: Path
    edition: str | None = None
    """Whose layout and label lists its files follow; by default ``corpus.edition``."""
    weight: PositiveFloat = 1.0
    """Of its labelled frames in the losses."""
    training_splits: tuple[Literal["train", "validation", "test"], ...] = ("train",)
    """Its splits that are trained on."""

    @field_validator("edition")
    @classmethod
    def check_edition(cls, value: str | None) -> str | None:
        """The edition exists."""
        return None if value is None else known_edition(value)

    @field_validator("kind")
    @classmethod
    def check_kind(cls, value: str) -> str:
        """A mixture is flat."""
        if value == MIXTURE:
            msg = "a part of a mixture cannot be a mixture: list its parts beside the others"
            raise ValueError(msg)
        return value


class Corpus(Reading):
    """Which faces and labels."""

    root: Path | None = None
    """Folder of the corpus; ``rendered`` without a root is drawn into the work directory."""
    edition: str = "abaw2"
    """Whose label lists and scores the experiment uses, and the annotation files follow."""
    expressions: tuple[str, ...] = ()
    """The classes of the experiment; by default those of the edition."""
    aus: tuple[str, ...] = ()
    """The action units of the experiment; by default those of the edition."""
    leaks: Literal["refuse", "report"] = "refuse"
    """What to do where a subject is in two splits."""
    parts: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], Part] = Field(
        default_factory=dict
    )
    """The corpora of a mixture; the clip ``c`` of the part ``p`` is called ``p.c``."""
    score: tuple[str, ...] = ()
    """The parts of a mixture whose validation split is scored."""
    render: Render = Render()
    """What to draw; only for ``rendered``."""

    check_edition = field_validator("edition")(known_edition)

    @model_validator(mode="after")
    def check_root(self) -> Self:
        """A recorded corpus cannot be made, so its folder must be given."""
        if self.kind not in ("rendered", MIXTURE) and self.root is None:
            msg = f"a corpus of kind {self.kind} needs 'root', the folder that holds it"
            raise ValueError(msg)
        if self.kind != "rendered" and "render" in self.model_fields_set:
            msg = f"'render' is for a corpus of kind rendered, this one is {self.kind}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def check_parts(self) -> Self:
        """A mixture, and nothing else, has parts and says which of them are scored."""
        if self.kind != MIXTURE:
            if self.parts or self.score:
                msg = f"'parts' and 'score' are for a corpus of kind {MIXTURE}, this one is {self.kind}"
                raise ValueError(msg)
            return self
        if given := [key for key in ("root", "options", "split") if key in self.model_fields_set]:
            msg = f"{', '.join(map(repr, given))} of a mixture: give it to its parts instead"
            raise ValueError(msg)
        if not self.parts or not self.score:
            msg = "a mixture needs 'parts' and 'score', the parts whose validation split is scored"
            raise ValueError(msg)
        if unknown := [name for name in self.score if name not in self.parts]:
            msg = f"score: no part {unknown[0]!r}: expected some of {', '.join(self.parts)}"
            raise ValueError(msg)
        return self


class Features(Section):
    """Which backbone turns a crop into a vector, and how vectors are stored; or a store of such vectors."""

    store: Path | None = None
    """A feature store that is there already, such as one of ``facets import``; it is used as it is."""
    backbone: str = ""
    weights: str = ""
    """The name of weights that the backbone knows, or the path of a ``.safetensors`` or ``.pth`` file."""
    image_size: PositiveInt = 112
    """Side of the square that the backbone sees, in pixels."""
    backend: Literal["hdf5", "zarr"] = "hdf5"
    dtype: Literal["float16", "float32"] = "float16"
    flip_average: bool = False
    """Average the vectors of a crop and of its mirror image: twice the work, another stream."""
    device: Device = "auto"
    batch_size: PositiveInt = 64
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of the network; what differs too much from float32 is refused, see ``extract.inference``."""
    compile: bool = False
    """Compile the network first: minutes that pay back on a large corpus."""

    @model_validator(mode="after")
    def check_origin(self) -> Self:
        """Features are either made by a backbone or there already."""
        if self.store is None:
            for name in ("backbone", "weights"):
                if not getattr(self, name):
                    msg = f"the key '{name}' is missing: give 'backbone' and 'weights', or 'store' alone"
                    raise ValueError(msg)
            return self
        makers = (
            "backbone",
            "weights",
            "image_size",
            "dtype",
            "flip_average",
            "batch_size",
            "precision",
            "compile",
        )
        if given := [name for name in makers if name in self.model_fields_set]:
            msg = (
                f"'store' is of features that are made already, so {', '.join(map(repr, given))} cannot be"
                " given too: leave out one or the other, as in --set 'features={store: PATH}'"
            )
            raise ValueError(msg)
        return self


class Training(Section):
    """What every run of the sweep shares; the meaning of each setting is told in ``temporal.settings``."""

    window: PositiveInt = 300
    hop: PositiveInt = 200
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 40
    patience: NonNegativeInt = 10
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    plateau_patience: NonNegativeInt = 5
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_min_lr: NonNegativeFloat = 1e-6
    clip_norm: NonNegativeFloat = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    loss_weights: dict[Task, NonNegativeFloat] = Field(default_factory=dict)
    au_loss: Annotated[str, AfterValidator(partial(known, "loss", LOSSES["binary"]))] = "bce"
    au_focal_gamma: NonNegativeFloat = 1.0
    au_focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.95
    au_pos_weight_max: PositiveFloat = 20.0
    expr_loss: Annotated[str, AfterValidator(partial(known, "loss", LOSSES["categorical"]))] = "cross_entropy"
    model: Annotated[str, AfterValidator(partial(known, "model", MODELS))] = "tcn"
    causal: bool = True
    channels: PositiveInt = 128
    levels: PositiveInt = 4
    kernel_size: PositiveInt = 5
    projection: NonNegativeInt = 0
    attention: Annotated[str, AfterValidator(partial(known, "attention", ATTENTIONS))] = "scalar"
    attention_heads: PositiveInt = 4
    standardise: bool = True
    centre: bool = False
    pca: NonNegativeInt = 0
    data_seed: Seed = 0
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    device: Device = "auto"
    bank: Literal["auto", "device", "host", "store"] = "auto"
    """Where the features are while runs train; changes memory and speed alone."""
    max_replicas: Literal["auto"] | PositiveInt = "auto"
    """Runs trained together; changes memory and speed, and results by rounding alone."""

    @model_validator(mode="after")
    def check_hop(self) -> Self:
        """Windows must cover every frame."""
        if self.hop > self.window:
            msg = f"hop {self.hop} is longer than window {self.window}: the frames between are lost"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """What the temporal stage would refuse is refused here, before features are made for it."""
        try:
            SharedSettings(**{field.name: getattr(self, field.name) for field in fields(SharedSettings)})
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide a result, as JSON values: not where or in what groups."""
        return self.model_dump(mode="json", exclude={"device", "bank", "max_replicas"})


def canonical_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Returns ``tasks`` in the order V, A, AU, EXPR; raises ``ValueError`` if none or one of them twice."""
    if not tasks:
        msg = "a row needs at least one task"
        raise ValueError(msg)
    if len(set(tasks)) < len(tasks):
        msg = f"a task is named twice in {list(tasks)}"
        raise ValueError(msg)
    return tuple(sorted(tasks, key=TASKS.index))


def known_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Returns ``value`` if each key is a setting of ``Training`` that a row may have for itself.

    Values are checked one by one; whether they go together depends on the shared ones: ``pipeline.rows``.

    Raises:
        ValueError: a setting that decides no result, or the kind of attention, which is a key of the row.
        ValidationError: an unknown key or a value out of its range, located below the key.
    """
    training = Training.model_fields
    places = [name for name in value if name in training and name not in Training().deciding()]
    if places:
        msg = f"{places[0]!r} decides no result, so it is the same for all rows: set it in 'training'"
        raise ValueError(msg)
    if "attention" in value:
        msg = "the kind of attention is the row's own key: write 'attention: KIND' beside 'tasks'"
        raise ValueError(msg)
    try:
        Training.model_validate(value)
    except ValidationError as error:
        if own := [located(problem, problem["loc"]) for problem in error.errors() if problem["loc"]]:
            raise ValidationError.from_exception_data(Training.__name__, own) from None
    return value


def known_axes(value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Returns ``value``, lists of settings, if each could be a row's own; raises as ``known_settings``."""
    for key, items in value.items():
        if not items:
            msg = f"the axis {key!r} has no value"
            raise ValueError(msg)
        for i, item in enumerate(items):
            try:
                known_settings({key: item})
            except ValidationError as error:
                own = [
                    located(
                        problem,
                        (key, *(() if problem["type"] == "extra_forbidden" else (i,)), *problem["loc"][1:]),
                    )
                    for problem in error.errors()
                ]
                raise ValidationError.from_exception_data(Training.__name__, own) from None
    return value


def located(problem: ErrorDetails, place: tuple[int | str, ...]) -> InitErrorDetails:
    """Returns a problem that pydantic found, said of another place."""
    return InitErrorDetails(
        type=problem["type"], loc=place, input=problem["input"], ctx=problem.get("ctx", {})
    )


Settings = Annotated[dict[str, Any], AfterValidator(known_settings)]
"""Some settings of ``Training``, for one row instead of the shared ones."""

Attention = bool | str
"""Whether there is multi-task attention; a string turns it on and says of which kind."""


class Row(Section):
    """One row of the table: a combination of tasks, its attention, and settings that are its own."""

    tasks: tuple[Task, ...]
    attention: Attention = False
    training: Settings = Field(default_factory=dict)
    """What differs from the section ``training``."""

    order = field_validator("tasks")(canonical_tasks)


class Product(Section):
    """Rows as the product of axes; attention over a single task is the same as none and is left out."""

    tasks: tuple[tuple[Task, ...], ...]
    """Task combinations, or ``all_subsets`` for all fifteen."""
    attention: tuple[Attention, ...] = (False,)
    training: Annotated[dict[str, tuple[Any, ...]], AfterValidator(known_axes)] = Field(default_factory=dict)
    """One axis per setting, such as ``lr: [1.0e-3, 3.0e-4]``; the last one varies fastest."""

    @field_validator("tasks", mode="before")
    @classmethod
    def expand(cls, value: object) -> object:
        """Replaces ``all_subsets`` by the fifteen combinations, small ones first."""
        if value == "all_subsets":
            return [subset for size in range(1, len(TASKS) + 1) for subset in combinations(TASKS, size)]
        return value

    @field_validator("tasks")
    @classmethod
    def order(cls, value: tuple[tuple[Task, ...], ...]) -> tuple[tuple[Task, ...], ...]:
        """Puts the tasks of each combination in canonical order."""
        return tuple(canonical_tasks(tasks) for tasks in value)

    def rows(self) -> list[Row]:
        """Returns every row of the product, also those that are the same run."""
        return [
            Row(tasks=tasks, attention=attention, training=dict(zip(self.training, values, strict=True)))
            for tasks in self.tasks
            for attention in self.attention
            if not (attention and len(tasks) == 1)
            for values in product(*self.training.values())
        ]


class Exclude(Section):
    """A pattern that takes rows out of a product: those that agree in every key given here."""

    tasks: tuple[Task, ...] | None = None
    attention: Attention | None = None
    training: Settings = Field(default_factory=dict)

    @field_validator("tasks")
    @classmethod
    def order(cls, value: tuple[Task, ...] | None) -> tuple[Task, ...] | None:
        """Puts the tasks in canonical order."""
        return None if value is None else canonical_tasks(value)


class Halving(Section):
    """Successive halving: of the settings of one combination only the best go on; ``pipeline.halving``."""

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


class Table(Section):
    """How results are scored and written."""

    edition: str = "abaw2"
    """Whose totals the columns show."""
    formats: tuple[Literal["md", "csv", "tex", "html"], ...] = ("md", "csv", "tex", "html")
    rules: Literal["flag", "refuse", "ignore"] = "flag"
    """What to do with rows that the edition's challenge would not have admitted; see ``pipeline.rules``."""

    check_edition = field_validator("edition")(known_edition)


class Config(Section):
    """One experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The work directory is ``work/<name>`` unless ``--work`` says otherwise."""
    shares: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Another experiment whose corpus, features, labels and runs this one uses; only the table is its own."""
    corpus: Corpus
    features: Features
    training: Training = Training()
    sweep: Sweep
    table: Table = Table()

    @model_validator(mode="after")
    def check_editions(self) -> Self:
        """Runs are scored once, by the rules of the corpus: a table can only show an edition with these."""
        ours, shown = edition(self.corpus.edition), edition(self.table.edition)
        if replace(shown, name=ours.name) != ours:
            msg = (
                f"table.edition {shown.name} has other labels or totals than corpus.edition {ours.name}:"
                " give both the same"
            )
            raise ValueError(msg)
        return self
