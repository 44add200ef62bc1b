"""Where an experiment keeps its files: corpus, features, labels, runs and table; creates none of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config, Features


@dataclass(frozen=True, slots=True)
class WorkDir:
    """The paths of one experiment.

    Attributes:
        table: folder of ``table.md`` and its siblings.
        corpus: root of the corpus, made or given.
        streams: stream -> its feature store.
        given: the streams whose store was given as it is, instead of being made by ``facets features``.
        reductions: folder of the stores of features reduced to principal axes.
        labels: the label store.
        corpus_section: the configuration that the labels were made by, see
        ``pipeline.stage1.reading.section``. mapping: how the names of its labels were mapped, see
        ``extract.corpora.labelspace``. runs: one folder per run id.
        plan: the plan of the sweep, see ``pipeline.plan``.
    """

    table: Path
    corpus: Path
    streams: Mapping[str, Path] = field(hash=False)
    labels: Path
    corpus_section: Path
    mapping: Path
    runs: Path
    plan: Path
    reductions: Path
    given: frozenset[str] = frozenset()


def work_dir(config: Config, work: Path | None = None) -> WorkDir:
    """Returns the paths of ``config`` below ``work``, by default ``work/<name>``.

    An experiment that shares another one's data finds it in the folder of that name beside its own.
    """
    own = work or Path("work") / config.name
    data = own if config.shares is None else own.parent / config.shares
    return WorkDir(
        table=own,
        corpus=config.corpus.root or data / "corpus",
        streams={
            name: stream.store or data / "features" / folder_name(stream)
            for name, stream in config.streams.items()
        },
        labels=data / "labels",
        corpus_section=data / "corpus.json",
        mapping=data / "mapping.json",
        runs=data / "runs",
        plan=own / "plan.json",
        reductions=data / "features",
        given=frozenset(name for name, stream in config.streams.items() if stream.store is not None),
    )


def folder_name(features: Features) -> str:
    """Returns the name of a feature store that is made, such as ``narrow_resnet50.rendered-112``.

    Weights given as a file lend it their stem; which file it was is in the store's specification, in full.
    """
    weights = Path(features.weights)
    name = weights.stem if weights.suffix in {".safetensors", ".pth", ".pt"} else features.weights
    flip = "+flip" if features.flip_average else ""
    stream = f"{features.backbone}{flip}.{name}-{features.image_size}"
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", stream)  # such as the colon of timm:...
