"""What the sections of a configuration share: immutable, no unknown keys, values that registries know."""

from collections.abc import Iterator, Mapping
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from stores.editions import edition
from stores.errors import ConfigError
from temporal.tasks import TASKS


def known_task(name: str) -> str:
    """Returns ``name`` if a task is called so; raises ``ValueError``, as pydantic expects, if none is."""
    if name not in TASKS:
        msg = f"found {name!r}, expected one of {', '.join(TASKS)}"
        raise ValueError(msg)
    return name


def known_edition(name: str) -> str:
    """Returns ``name`` if an edition is called so; raises ``ValueError``, as pydantic expects, if none is."""
    try:
        return edition(name).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


Task = Annotated[str, AfterValidator(known_task)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EditionName = Annotated[str, AfterValidator(known_edition)]


def kinds(annotation: object) -> Iterator[object]:
    """Yields the plain types that an annotation is made of, such as int of ``tuple[PositiveInt, ...]``."""
    if not (inner := get_args(annotation)):
        yield annotation
    for part in inner:
        yield from kinds(part)


class Section(BaseModel):
    """What all sections share: they are immutable, refuse unknown keys, and a number is never yes or no."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def check_numbers(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic takes true and false for 1 and 0, so that ``lr: true`` would be a rate of 1."""
        found = list(kinds(cls.model_fields[str(info.field_name)].annotation))
        if bool in found or not (int in found or float in found):
            return value
        items = list(value.values()) if isinstance(value, Mapping) else value
        for item in items if isinstance(items, list | tuple) else [items]:
            if isinstance(item, bool):
                msg = f"found {str(item).lower()}, expected a number"
                raise ValueError(msg)
        return value
