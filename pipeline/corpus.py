"""The corpus of an experiment: read, split, mapped to its names, mixed and checked as configured.

Not a reader: those are ``extract.corpora``, one module each.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import MIXTURE, Config, Reading
from stores.editions import edition as edition_named
from stores.errors import CorpusError

if TYPE_CHECKING:
    from extract.corpora import Corpus
    from extract.corpora.labelspace import MappingReport
    from extract.corpora.splits import Unit

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
        ConfigError: an option, a name or a rule that does not fit the corpora, or an empty fold.
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


def target_names(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the classes and action units of the experiment: those declared, or those of its edition."""
    rules = edition_named(config.corpus.edition)
    return config.corpus.expressions or rules.expressions, config.corpus.aus or rules.aus


def _read(settings: Reading, root: Path, edition: str) -> "Corpus":
    from extract import corpora
    from extract.corpora import splits

    corpus = corpora.load(settings.kind, root, edition, **settings.options)
    if settings.split is None:
        return corpus
    return splits.kfold(corpus, splits.Folds(**settings.split.model_dump()))


def undivided(config: Config) -> "Unit":
    """Returns what no split of the corpus may divide: a subject, or a video where folds are of videos."""
    readings: list[Reading] = [config.corpus, *config.corpus.parts.values()]
    by_video = any(reading.split is not None and reading.split.by == "video" for reading in readings)
    return "video" if by_video else "subject"


def _check_people(config: Config, corpus: "Corpus") -> None:
    from extract.corpora import splits

    try:
        splits.check(corpus, undivided(config))
    except CorpusError as error:
        if config.corpus.leaks == "refuse":
            raise
        logger.warning("%s", error)
