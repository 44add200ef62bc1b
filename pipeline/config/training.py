"""The section ``training``: every setting of ``temporal.settings``, derived from there field by field."""

from dataclasses import MISSING, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, create_model, model_validator

from pipeline.config.section import Section
from stores.errors import ConfigError
from temporal import settings
from temporal.settings import Place, Run, settings_of


def checked(owner: type, name: str, value: object) -> object:
    """Returns a value in its normal form; raises ``ValueError``, as pydantic expects, if it does not fit."""
    try:
        return settings.checked(owner, name, value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def derived() -> dict[str, Any]:
    """Returns the definitions of pydantic fields for all settings but those that a row has by itself."""
    definitions: dict[str, Any] = {}
    for owner in (Run, settings.Training, Place):
        stated = {field.name: field for field in fields(owner)}
        for name, (hint, setting) in settings_of(owner).items():
            if setting.scope == "row":
                continue
            about: dict[str, Any] = {"description": setting.meaning, "validate_default": True}
            if stated[name].default is MISSING:
                about["default_factory"] = stated[name].default_factory
            else:
                about["default"] = stated[name].default
            check = AfterValidator(partial(checked, owner, name))
            definitions[name] = (Annotated[hint, check], Field(**about))
    return definitions


if TYPE_CHECKING:

    class Derived(Section):
        """One attribute for each setting."""

        def __getattr__(self, name: str) -> Any: ...

    class Axes(Section):
        """Several values of each setting."""

else:
    Derived = create_model("Derived", __base__=Section, **derived())
    lists = {name: (tuple[kind, ...], ()) for name, (kind, _) in derived().items()}
    Axes = create_model("Axes", __base__=Section, **lists)


class Training(Derived):
    """What every run of the sweep shares; the meaning of each setting is told in ``temporal.settings``."""

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Settings that the temporal stage would refuse together are refused before features are made."""
        try:
            settings.Training(**{name: getattr(self, name) for name in settings_of(settings.Training)})
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def deciding(self) -> dict[str, Any]:
        """Returns the settings that decide a result, as JSON values: not where or in what groups."""
        return self.model_dump(mode="json", exclude=set(settings_of(Place)))
