"""The table command: plans, reads what was trained, states where the numbers come from, writes and prints.

Not the table, which is ``pipeline.report.table``, nor its forms, which are ``pipeline.report``; it never
trains.
"""

import logging
import sys
from pathlib import Path

from pipeline.config import Config
from pipeline.data import SCORED
from pipeline.plan import Plan, read_plan
from pipeline.report import as_markdown, write_table
from pipeline.report.summary import Provenance, Table, build_table
from pipeline.rules import found_breaches, sentences
from pipeline.workdir import WorkDir

logger = logging.getLogger(__name__)

SELECTION = "highest mean over the trained tasks of CCC, or of the edition's score for AU and EXPR"
CHANCE_RULE = "the best that can be expected without seeing an image, from label frequencies alone"


def make_table(config: Config, place: WorkDir) -> tuple[Table, list[Path]]:
    """Builds the table of an experiment from its plan and writes it in the configured formats.

    Returns:
        The table, and the files written.

    Raises:
        FacetsError: the sweep has not been planned with these settings, or a result is damaged.
    """
    plan = read_plan(place.plan, config)
    built = build_table(place.runs, plan.runs, provenance(config, plan))
    return built, write_table(built, place.table, config.table.formats)


def provenance(config: Config, plan: Plan) -> Provenance:
    """Returns what a reader must know to judge the numbers of a plan."""
    facts = plan.provenance
    spec = next(iter(facts.streams.values()))
    return Provenance(
        corpus=facts.corpus,
        corpus_note=facts.corpus_note,
        stream=spec.stream,
        backbone=spec.backbone,
        weights=spec.weights,
        weights_sha256=spec.weights_sha256,
        weights_trained_on=tuple(spec.weights_trained_on),
        imported=spec.mean is None,  # the extractor always knows what it subtracted
        edition=config.table.edition,
        split=SCORED,
        clips=facts.clips,
        frames=facts.frames,
        seeds=config.planned.seeds,
        selection=SELECTION,
        chance=facts.chance,
        chance_rule=CHANCE_RULE,
        epochs=config.training.epochs,
        patience=config.training.patience,
        facets_version=facts.facets_version,
        features_digest=spec.digest(),
        expressions=facts.labels.expression_names,
        aus=facts.labels.au_names,
        rules=tuple(sentences(config.table.edition, found_breaches(config, plan))),
    )


def show(table: Table, written: list[Path]) -> None:
    """Prints the table, drawn on a terminal and as Markdown in a pipe, and logs where the files are."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(as_markdown(table)))
    else:
        print(as_markdown(table), end="")  # noqa: T201 (the command is asked for the table)
    folder = written[0].parent
    logger.info("%s: %s", folder, ", ".join(path.name for path in written))
