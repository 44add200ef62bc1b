"""What the sections of a configuration share: immutable, no unknown keys, values that registries know.

Not a section itself.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stores.editions import edition
from stores.errors import ConfigError

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


def known(what: str, registry: Mapping[str, str], name: str) -> str:
    """Returns ``name`` if it is one of ``registry``; raises ``ValueError``, as pydantic expects, if not."""
    if name not in registry:
        msg = f"unknown {what} {name!r}: expected one of {', '.join(registry)}"
        raise ValueError(msg)
    return name


class Section(BaseModel):
    """What all sections share: they are immutable and refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
