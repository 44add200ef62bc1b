"""Stage 1 of an experiment: a corpus, drawn if none is given, becomes a label store and feature stores."""

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import stores
from pipeline.cluster import Cluster
from pipeline.config import Config, Features
from pipeline.data import disagreements, open_data, open_stream, records_of
from pipeline.stage1.axes import make_reduced, projections
from pipeline.stage1.extraction import extract, load_backbone, name_backbone
from pipeline.stage1.reading import read_corpus, section
from pipeline.workdir import WorkDir
from stores import Store, documents
from stores.commit import replace_file
from stores.errors import ConfigError, StoreError
from stores.progress import Progress, silent
from stores.store import STORE_FILE

if TYPE_CHECKING:
    from extract.corpora import Corpus
    from extract.extracted import Report
    from extract.labels import LabelReport

logger = logging.getLogger(__name__)


def make_corpus(config: Config, folder: Path, progress: Progress = silent) -> None:
    """Draws the embedded corpus into ``folder``; what is there already is not drawn again.

    Raises:
        ConfigError: the corpus of this experiment is a recorded one.
        CorpusError: ``folder`` holds something else.
    """
    from extract.corpora import rendered

    if config.corpus.kind != "rendered":
        msg = f"a corpus of kind {config.corpus.kind} cannot be drawn: configure one of kind rendered"
        raise ConfigError(msg)
    settings = rendered.RenderSettings(**config.corpus.render.model_dump())
    rendered.render(folder, settings, progress=progress)


def make_features(
    config: Config, place: WorkDir, progress: Progress = silent, cluster: Cluster | None = None
) -> dict[str, str]:
    """Makes whatever is missing of corpus, label store and feature stores; a given store is only checked.

    If the sweep has rows with ``training.pca``, the stores of reduced features are made as well, as soon as
    all labelled clips have features.

    Args:
        config: the experiment.
        place: where it is.
        progress: called as the work advances.
        cluster: which processes extract; None for this one.

    Returns:
        Clip -> what is wrong with it: clips that could not be extracted, clips that are committed without
        their unreadable crops, clips of the stores that left the corpus, and clips whose labels a given store
        does not fit. All other clips are committed.

    Raises:
        FacetsError: the corpus, the backbone or a store cannot be used; what was committed stays.
    """
    made = {name: stream for name, stream in config.streams.items() if name not in place.given}
    # First what fails fast: drawing and reading a corpus may take minutes.
    specs = {name: name_backbone(stream).feature_spec(stream.dtype) for name, stream in made.items()}
    for name, stream in made.items():
        if not (place.streams[name] / STORE_FILE).exists():
            load_backbone(stream)
    corpus, labels = make_labels(config, place, progress)
    wrong: dict[str, str] = {}
    for name, stream in config.streams.items():
        if name in place.given:
            found = use_features(place, name)
        else:
            store = stores.create(place.streams[name], specs[name], stream.backend)
            found = make_stream(stream, corpus, store, progress, cluster)
        for clip, reason in found.items():
            wrong[clip] = f"{wrong[clip]}; {reason}" if clip in wrong else reason
    if projections(config):
        try:
            data = open_data(place)
        except StoreError as error:
            if not wrong:
                raise
            logger.warning("no features are reduced to principal axes: %s", error)
        else:
            make_reduced(config, place, data)
    return wrong | departed(labels, [place.labels, *(place.streams[name] for name in made)])


def make_stream(
    settings: Features, corpus: "Corpus", store: Store, progress: Progress, cluster: Cluster | None
) -> dict[str, str]:
    """Extracts the features of one stream; returns clip -> what is wrong with it."""
    from extract.worklist import look

    todo = look([clip.crops for clip in corpus.clips], store, progress)
    report = extract(settings, todo, store, cluster, progress) if todo.pending else todo.report()
    logger.info(
        "%s: %d clips written (%d crops, %.0f/s), %d unchanged, %d failed",
        store.path,
        len(report.written),
        report.images,
        report.images_per_second,
        len(report.unchanged),
        len(report.failed),
    )
    if report.images:
        rates = ", ".join(
            f"{name} {rate:,.0f}/s" for name, rate in report.stages.rates(report.images).items()
        )
        each = "" if cluster is None else " (of one worker)"
        logger.info("each stage alone%s: %s; the run is bound by: %s", each, rates, report.stages.bound)
    return not_as_it_should(report, store)


def not_as_it_should(report: "Report", store: Store) -> dict[str, str]:
    """Returns clip -> what is wrong with it: clips that failed, and clips with unreadable crops."""
    wrong = {}
    for clip, group in groupby(report.bad_frames, key=lambda bad: bad.clip):
        frames = list(group)
        wrong[clip] = (
            f"{len(frames)} unreadable crops count as missing, the first is frame {frames[0].frame}:"
            f" {frames[0].reason}; replace them and run facets features again, or leave it so"
        )
    for failed in report.failed:
        wrong[failed.clip] = f"not extracted: {failed.reason}"
        if store.has(failed.clip):
            wrong[failed.clip] += (
                "; the features of its earlier crops are still in the store, and a sweep would train on them:"
                f" delete {store.path}/clips/{failed.clip}.* if they should not count"
            )
    return wrong


def use_features(place: WorkDir, name: str) -> dict[str, str]:
    """Checks that a feature store that was given fits the labels.

    Returns:
        Clip -> what is wrong with it: labels without features or of another number of frames.

    Raises:
        FacetsError: a store cannot be used, such as one that is not of features.
    """
    features, _ = open_stream(place, name)
    read = records_of(stores.open(place.labels))
    sources = {clip: features.record(clip) for clip in read if features.has(clip)}
    logger.info("%s: used as it is, %d of %d labelled clips", features.path, len(sources), len(read))
    return disagreements(sources, read, place, name)


def make_labels(config: Config, place: WorkDir, progress: Progress) -> "tuple[Corpus, LabelReport]":
    """Makes whatever is missing of the corpus and the label store."""
    from extract.labels import write_labels

    if config.corpus.kind == "rendered" and config.corpus.root is None:
        make_corpus(config, place.corpus, progress)
    corpus, reports = read_corpus(config, place.corpus)
    report = write_labels(corpus, place.labels, next(iter(config.streams.values())).backend, progress)
    for path, document in (
        (place.mapping, {part: mapped.to_json() for part, mapped in reports.items()}),
        (place.corpus_section, section(config)),
    ):
        content = documents.render(document)
        if not path.exists() or path.read_bytes() != content:
            replace_file(path, content)
    return corpus, report


def departed(report: "LabelReport", paths: Sequence[Path]) -> dict[str, str]:
    """Returns the clips of the stores at ``paths`` that the corpus no longer has, with what to do.

    Nothing committed is deleted behind the user's back, but nobody should train on it unawares either.
    """
    return {
        clip: (
            "still in the stores, but no longer in the corpus, and a sweep would train on it: delete"
            f" {' and '.join(f'{path}/clips/{clip}.*' for path in paths)}, or use another --work"
        )
        for clip in report.extra
    }
