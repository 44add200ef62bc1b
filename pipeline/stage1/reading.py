"""The corpus of an experiment: read, split, mapped to its names, mixed and checked as configured."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import MIXTURE, Config, Reading
from pipeline.workdir import WorkDir
from stores import documents
from stores.documents import Json
from stores.editions import edition as edition_named
from stores.errors import ConfigError, CorpusError

if TYPE_CHECKING:
    from extract.corpora import Corpus
    from extract.corpora.labelspace import MappingReport

logger = logging.getLogger(__name__)


def read_corpus(config: Config, root: Path) -> "tuple[Corpus, dict[str, MappingReport]]":
    """Reads the corpus of ``config`` as ``read_divided`` does, and checks that its splits share nobody.

    Raises:
        ConfigError: as ``read_divided``.
        CorpusError: as ``read_divided``, or a subject is in two splits and ``corpus.leaks`` is ``refuse``.
    """
    corpus, reports = read_divided(config, root)
    _check_people(config, corpus)
    return corpus, reports


def read_divided(config: Config, root: Path) -> "tuple[Corpus, dict[str, MappingReport]]":
    """Reads the corpus of ``config``, whoever its splits share.

    Args:
        config: the experiment.
        root: folder of the corpus, if it is a single one.

    Returns:
        The corpus with the labels of the experiment, and part -> how its labels were mapped; a single corpus
        has its kind as its part.

    Raises:
        ConfigError: an option, a name or a rule that does not fit the corpora.
        CorpusError: a corpus does not follow its format.
    """
    from extract.corpora import labelspace, mixture

    settings = config.corpus
    names = target_names(config)
    if settings.kind != MIXTURE:
        native = _read(settings, root, settings.edition)
        labelspace.check_names([native], *names)
        labelspace.check_rules([native], *names, settings.mapping)
        corpus, report = labelspace.to_space(native, *names, settings.mapping)
        reports = {settings.kind: report}
    else:
        natives = {
            name: _read(part, part.root, part.edition or settings.edition)
            for name, part in settings.parts.items()
        }
        labelspace.check_names(natives.values(), *names)
        labelspace.check_rules(natives.values(), *names, settings.mapping)
        parts: dict[str, mixture.Part] = {}
        reports = {}
        for name, part in settings.parts.items():
            labelspace.check_rules([natives[name]], *names, part.mapping)
            rules = labelspace.overruled(settings.mapping, part.mapping)
            mapped, reports[name] = labelspace.to_space(natives.pop(name), *names, rules)
            parts[name] = mixture.Part(mapped, part.weight, part.training_splits)
        corpus = mixture.mix(parts, settings.score, settings.edition)
    for name, report in reports.items():
        for line in report.lines():
            logger.info("%s: %s", name, line)
    return replace(corpus, edition=settings.edition), reports


def section(config: Config) -> dict[str, Json]:
    """Returns the settings that decide the labels, where they are not the default; no folders.

    What is drawn is among them, unless a folder was given: then it decides nothing.
    """
    given = config.corpus.model_dump(mode="json", exclude_defaults=True)
    left_out = {"root", "leaks"} if config.corpus.root is None else {"root", "leaks", "render"}
    document = {key: value for key, value in given.items() if key not in left_out}
    for part in document.get("parts", {}).values():
        del part["root"]
    return document


def require_section(config: Config, place: WorkDir) -> None:
    """Passes if the labels of an experiment were made by its present configuration, or nobody knows by which.

    Raises:
        ConfigError: they were made by another one; says what differs.
    """
    if not place.corpus_section.exists():
        logger.info("nobody wrote down by which configuration %s was made", place.labels)
        return
    made, asked = documents.read(place.corpus_section), section(config)
    for key in sorted({*made, *asked}):
        if made.get(key) != asked.get(key):
            msg = (
                f"corpus.{key} is {json.dumps(asked.get(key, 'the default'))}, and the labels in"
                f" {place.labels} were made with {json.dumps(made.get(key, 'the default'))}: run facets"
                " features first, with the same options"
            )
            raise ConfigError(msg)


def target_names(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the classes and action units of the experiment: those declared, or those of its edition."""
    rules = edition_named(config.corpus.edition)
    return config.corpus.expressions or rules.expressions, config.corpus.aus or rules.aus


def _read(settings: Reading, root: Path, edition: str) -> "Corpus":
    from extract import corpora
    from extract.corpora import splits

    corpus = corpora.load(settings.kind, root, edition, **settings.options)
    return corpus if settings.split is None else splits.validate_on_test(corpus)


def _check_people(config: Config, corpus: "Corpus") -> None:
    from extract.corpora import splits

    if config.sweep is not None and config.sweep.folds is not None:
        return  # the official splits are not trained on, and folds are checked when they are made
    try:
        splits.check(corpus)
    except CorpusError as error:
        if config.corpus.leaks == "refuse":
            raise
        logger.warning("%s", error)
