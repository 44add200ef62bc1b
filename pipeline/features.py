"""Stage 1 of an experiment: the corpus, drawn where none is given, becomes a label store and a feature store.

Not the extractor, which is ``extract.engine``: this module calls it with what the configuration says.
"""

import logging
from itertools import groupby
from pathlib import Path

import stores
from pipeline.config import Config
from pipeline.workdir import WorkDir
from stores.errors import ConfigError
from stores.progress import Progress, silent

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


def make_features(config: Config, place: WorkDir, progress: Progress = silent) -> dict[str, str]:
    """Makes whatever is missing of corpus, label store and feature store.

    Returns:
        Clip -> what is wrong with it: clips that could not be extracted, clips that are committed without
        their unreadable crops, and clips of the stores that left the corpus. All other clips are committed.

    Raises:
        FacetsError: the corpus, the backbone or a store cannot be used; what was committed stays.
    """
    from extract import corpora
    from extract.backbones import registry
    from extract.engine import extract
    from extract.labels import write_labels

    settings = config.features
    # First what fails fast: drawing and reading a corpus may take minutes.
    backbone = registry.load(settings.backbone, settings.weights, settings.image_size)
    if config.corpus.kind == "rendered" and config.corpus.root is None:
        make_corpus(config, place.corpus, progress)
    corpus = corpora.load(config.corpus.kind, place.corpus, config.corpus.edition)
    labels = write_labels(corpus, place.labels, settings.backend, progress)
    store = stores.create(place.features, backbone.feature_spec(settings.dtype), settings.backend)
    report = extract(
        corpus,
        backbone,
        store,
        device=settings.device,
        batch_size=settings.batch_size,
        progress=progress,
    )
    logger.info(
        "%s: %d clips written (%d crops, %.0f/s), %d unchanged, %d failed",
        place.features,
        len(report.written),
        report.images,
        report.images_per_second,
        len(report.unchanged),
        len(report.failed),
    )
    wrong = {}
    for clip, group in groupby(report.bad_frames, key=lambda bad: bad.clip):
        frames = list(group)
        wrong[clip] = (
            f"{len(frames)} unreadable crops count as missing, the first is frame {frames[0].frame}:"
            f" {frames[0].reason}; replace them and run facets features again, or leave it so"
        )
    wrong |= {failed.clip: f"not extracted: {failed.reason}" for failed in report.failed}
    # Nothing committed is deleted behind the user's back, but nobody should train on it unawares either.
    return wrong | {
        clip: (
            "still in the stores, but no longer in the corpus, and a sweep would train on it: delete"
            f" {place.labels}/clips/{clip}.* and {place.features}/clips/{clip}.*, or use another --work"
        )
        for clip in labels.extra
    }
