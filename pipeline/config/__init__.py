"""One experiment: corpus, features, training, sweep and table, as models that check every value.

Not a reader of files, which is ``pipeline.configfile``, and not a place where settings take effect.
"""

from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.corpus import MIXTURE, Corpus, Division, Part, Reading, Render
from pipeline.config.section import Section, known_edition
from pipeline.config.streams import Features
from pipeline.config.sweep import Exclude, Halving, Product, Row, Sweep
from pipeline.config.training import Training
from stores.editions import edition
from temporal.tasks import TASKS

__all__ = [
    "MIXTURE",
    "TASKS",
    "Config",
    "Corpus",
    "Division",
    "Exclude",
    "Features",
    "Halving",
    "Part",
    "Product",
    "Reading",
    "Render",
    "Row",
    "Sweep",
    "Table",
    "Training",
]


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
