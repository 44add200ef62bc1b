"""The table command: plans, reads what was trained, states where the numbers come from, writes and prints.

Not the table, which is ``pipeline.report.table``, nor its forms, which are ``pipeline.report``; it never
trains.
"""

import importlib.metadata
import logging
import sys
from pathlib import Path

from pipeline.config import MIXTURE, Config, Reading
from pipeline.data import SCORED, Data, open_data
from pipeline.plan import plan
from pipeline.report import as_markdown, write_table
from pipeline.report.scored import Scored, scored_split
from pipeline.report.summary import Provenance, Table, build_table
from pipeline.rules import found_breaches, sentences
from pipeline.stage1.reading import require_section
from pipeline.workdir import WorkDir

logger = logging.getLogger(__name__)

CORPUS_NOTES = {
    "rendered": (
        "faces drawn and animated by a program, labelled by the same program; it shows that the pipeline"
        " works and says nothing about people"
    ),
    "affwild2": "aligned face crops and annotations of Aff-Wild2",
    "affwild2_mtl": (
        "aligned face crops and annotations of the multi-task tracks, s-Aff-Wild2 from ABAW-4 on"
    ),
}
OFFICIAL = dict.fromkeys(("affwild2", "affwild2_mtl"), "official training and validation videos")
SELECTION = "highest mean over the trained tasks of CCC, or of the edition's score for AU and EXPR"
CHANCE_RULE = "the best that can be expected without seeing an image, from label frequencies alone"


def make_table(config: Config, place: WorkDir) -> tuple[Table, list[Path]]:
    """Builds the table of an experiment and writes it in the configured formats.

    Returns:
        The table, and the files written.

    Raises:
        FacetsError: the stores are missing, or a result is damaged.
    """
    data = open_data(place)
    require_section(config, place)
    scored = scored_split(data, config.table.edition, place.splits)
    built = build_table(place.runs, plan(config, data.digests), provenance(config, data, scored))
    return built, write_table(built, place.table, config.table.formats)


def corpus_note(config: Config) -> str:
    """Returns what an experiment's corpus consists of."""
    settings = config.corpus
    if settings.kind != MIXTURE:
        note = CORPUS_NOTES.get(settings.kind, "the corpus as its reader gives it")
        return ", ".join(filter(None, (note, division(settings) or OFFICIAL.get(settings.kind))))
    parts = []
    for name, part in settings.parts.items():
        facts = [f"weight {part.weight:g}", "scored" if name in settings.score else "", division(part)]
        parts.append(f"{name} ({', '.join(filter(None, facts))})")
    return f"a mixture of {', '.join(parts)}"


def division(reading: Reading) -> str:
    """Returns how a corpus is divided in words; "" for its official splits."""
    if reading.split is None:
        return ""
    if reading.split.kfold is None:
        return "validated on its official test split, on which the best epoch is chosen"
    return f"validated on fold {reading.split.fold} of {reading.split.kfold} by {reading.split.by}"


def provenance(config: Config, data: Data, scored: Scored) -> Provenance:
    """Returns what a reader must know to judge the numbers of ``config`` on ``data``."""
    spec = data.feature_spec
    return Provenance(
        corpus=data.label_spec.corpus,
        corpus_note=corpus_note(config),
        stream=spec.stream,
        backbone=spec.backbone,
        weights=spec.weights,
        weights_sha256=spec.weights_sha256,
        weights_trained_on=tuple(spec.weights_trained_on),
        imported=spec.mean is None,  # the extractor always knows what it subtracted
        edition=config.table.edition,
        split=SCORED,
        clips=scored.clips,
        frames=scored.frames,
        seeds=config.sweep.seeds,
        selection=SELECTION,
        chance=scored.chance,
        chance_rule=CHANCE_RULE,
        epochs=config.training.epochs,
        patience=config.training.patience,
        facets_version=importlib.metadata.version("facets"),
        features_digest=spec.digest(),
        expressions=data.label_spec.expression_names,
        aus=data.label_spec.au_names,
        rules=tuple(sentences(config.table.edition, found_breaches(config, data, scored))),
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
