"""One experiment: corpus, streams, training, sweep and table, as models that check every value."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.corpus import MIXTURE, Corpus, Reading, Render
from pipeline.config.section import EditionName, Section
from pipeline.config.streams import Features
from pipeline.config.sweep import Exclude, Halving, Row, Sweep
from pipeline.config.training import Training
from stores.editions import EDITIONS, edition
from stores.errors import ConfigError
from temporal.tasks import TASKS

__all__ = [
    "MIXTURE",
    "TASKS",
    "Config",
    "Corpus",
    "Exclude",
    "Features",
    "Halving",
    "Reading",
    "Render",
    "Row",
    "Training",
]


class Table(Section):
    """How results are scored and written."""

    edition: EditionName = "abaw2"
    """Whose totals the columns show; by default that of the corpus."""
    formats: tuple[Literal["md", "csv", "tex", "html"], ...] = ("md", "csv", "tex", "html")
    rules: Literal["flag", "refuse", "ignore"] = "flag"
    """What to do with rows that the edition's challenge would not have admitted; see ``pipeline.rules``."""


class Config(Section):
    """One experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The work directory is ``work/<name>`` unless ``--work`` says otherwise."""
    shares: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Another experiment whose corpus, features, labels and runs this one uses; only the table is its own."""
    corpus: Corpus
    streams: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Features] = Field(min_length=1)
    """The features of each frame, by a name such as ``face``; a run reads all streams or some of them."""
    training: Training = Training()
    sweep: Sweep | None = None
    """Needed to train and to show a table."""
    table: Table = Table()

    @property
    def planned(self) -> Sweep:
        """The section ``sweep``.

        Raises:
            ConfigError: it is absent.
        """
        if self.sweep is None:
            msg = f"experiment {self.name} has no section 'sweep': give it 'rows' or a 'product'"
            raise ConfigError(msg)
        return self.sweep

    @model_validator(mode="before")
    @classmethod
    def follow_edition(cls, value: object) -> object:
        """The table shows the edition of the corpus unless it says otherwise."""
        if not isinstance(value, dict):
            return value
        corpus, table = value.get("corpus"), value.get("table", {})
        if isinstance(corpus, dict) and isinstance(table, dict) and corpus.get("edition") in EDITIONS:
            return {**value, "table": {"edition": corpus["edition"], **table}}
        return value

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
