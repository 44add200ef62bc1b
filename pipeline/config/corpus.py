"""The section ``corpus``: which faces and labels, of one corpus or of a mixture, and how they are divided."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from extract.corpora import KINDS
from pipeline.config.section import EditionName, NonNegativeFloat, PositiveFloat, Section, Seed
from stores.errors import nearest

MIXTURE = "mixture"
"""The kind of a corpus that is made of others."""


def known_kind(kind: str) -> str:
    """Returns ``kind`` if a corpus can be read so; raises ``ValueError``, with the nearest, if none can."""
    if kind not in (*KINDS, MIXTURE):
        msg = f"unknown kind {kind!r}, {nearest(kind, (*KINDS, MIXTURE))}"
        raise ValueError(msg)
    return kind


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


class Division(Section):
    """Another part of the release for its validation split; folds are ``sweep.folds``."""

    validation: Literal["test"]
    """The official split that is the validation split, if the release has none of that name (RAF-DB)."""


class Reading(Section):
    """How one corpus is read."""

    kind: Annotated[str, AfterValidator(known_kind)]
    root: Path | None = None
    """Folder of the corpus."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the reader, such as ``au_threshold``."""
    mapping: dict[str, str | None] = Field(default_factory=dict)
    """Class or AU of the corpus -> the one that it becomes here; null makes it unknown."""
    split: Division | None = None
    """``official`` or ``{validation: test}``."""

    @field_validator("split", mode="before")
    @classmethod
    def official(cls, value: object) -> object:
        """Reads ``official`` as no other division."""
        if isinstance(value, dict) and "kfold" in value:
            msg = "folds are an axis of the sweep: leave 'split' out, and set sweep.folds: {count: 5}"
            raise ValueError(msg)
        return None if value == "official" else value


class Part(Reading):
    """One corpus of a mixture."""

    root: Path
    edition: EditionName | None = None
    """Whose layout and label lists its files follow; by default ``corpus.edition``."""
    weight: PositiveFloat = 1.0
    """Of its labelled frames in the losses."""
    training_splits: tuple[Literal["train", "validation", "test"], ...] = ("train",)
    """Its splits that are trained on."""

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
    edition: EditionName = "abaw2"
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
