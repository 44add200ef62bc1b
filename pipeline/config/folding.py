"""The key ``folds`` of the section ``sweep``: how the people of a corpus are divided for cross-validation."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.section import Section, Seed

Unit = Literal["person", "video"]


class Folds(Section):
    """Folds of a number, of a file, or one for each person or video; every row trains once in each fold."""

    count: Annotated[int, Field(ge=2)] | None = None
    """Number of folds; their sizes differ by one person or video at most."""
    by: Unit = "person"
    """What one fold holds whole."""
    stratify: Literal["EXPR"] | None = None
    """Give all folds about the same share of people with each majority expression."""
    seed: Seed = 0
    """Another seed gives other folds."""
    file: Path | None = None
    """A CSV file with the columns ``clip`` and ``fold``, such as a published protocol."""
    leave_out: Unit | None = None
    """One fold for each person, or for each video."""

    @model_validator(mode="after")
    def check_form(self) -> Self:
        """There is exactly one of the three forms, with its own keys alone."""
        if sum(form is not None for form in (self.count, self.file, self.leave_out)) != 1:
            msg = "give one of 'count', 'file' and 'leave_out', such as {count: 5, by: person}"
            raise ValueError(msg)
        own = {"by", "stratify", "seed"} & self.model_fields_set
        if self.count is None and own:
            msg = f"{', '.join(map(repr, sorted(own)))} belongs to folds with a 'count': leave it out"
            raise ValueError(msg)
        return self
