"""``facets doctor``: checks an experiment's environment, configuration and corpus before hours are spent.

It writes one picture into the work directory, repairs nothing and downloads nothing.
"""

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import stores
from pipeline.config import Config, Features
from pipeline.doctor import cost, duplicates, environment
from pipeline.doctor import judgement as checks
from pipeline.doctor.census import Census, take, visible
from pipeline.doctor.finding import Finding
from pipeline.stage1.extraction import load_backbone, name_backbone
from pipeline.stage1.reading import read_divided
from pipeline.workdir import WorkDir
from stores.documents import Json
from stores.errors import CorpusError, FacetsError
from stores.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from extract.backbones.backbone import Named
    from extract.corpora import Clip, Corpus
    from extract.corpora.labelspace import MappingReport

__all__ = ["Examination", "Finding", "examine"]

SCHEMA = "facets-doctor-1"
PICTURE = "doctor.png"
ENVIRONMENT = "make a fresh environment: rm -r .venv, then make features"
AGAIN = "mend this, then run facets doctor again"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """The findings of an examination, and the counts behind them.

    Attributes:
        name: of the experiment.
        findings: in the order of the checks.
        census: counts of the corpus; None if it could not be read.
        mapping: part of the corpus -> how its labels were mapped.
        picture: file of the drawn distributions; None if there is none.
    """

    name: str
    findings: tuple[Finding, ...]
    census: Census | None
    mapping: "dict[str, MappingReport]"
    picture: Path | None

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(finding.status == "FAIL" for finding in self.findings)

    def to_json(self) -> str:
        """Returns the examination as one JSON document, described in ``docs/RECIPES.md``."""
        value: dict[str, Json] = {
            "schema": SCHEMA,
            "experiment": self.name,
            "ok": not self.failed,
            "findings": [asdict(finding) for finding in self.findings],
            "corpus": None if self.census is None else self.census.to_json(),
            "mapping": {part: report.to_json() for part, report in self.mapping.items()},
            "picture": None if self.picture is None else str(self.picture),
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def examine(
    config: Config,
    place: WorkDir,
    tell: Callable[[Finding], object],
    *,
    every_image: bool = False,
    progress: Progress = silent,
) -> Examination:
    """Makes every check; one that breaks is itself a FAIL, and those that do not need it still run.

    Args:
        config: the experiment.
        place: its paths.
        tell: called with each finding as soon as it is there.
        every_image: whether to look for repeated images among all of them instead of a sample.
        progress: called as images are looked at.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        tell(finding)

    def attempt(name: str, work: Callable[[], Result], remedy: str = AGAIN) -> Result | None:
        try:
            return work()
        except (FacetsError, ImportError, OSError, RuntimeError) as error:
            note(Finding(name, "FAIL", _words(error), remedy))
            return None

    def check(name: str, work: Callable[[], Iterable[Finding] | Finding], remedy: str = AGAIN) -> None:
        for finding in attempt(name, lambda: _listed(work()), remedy) or ():
            note(finding)

    check("python", environment.check_python, ENVIRONMENT)
    check("libraries", environment.check_libraries, ENVIRONMENT)
    check("device", lambda: environment.check_device(config), ENVIRONMENT)
    check("threads", environment.check_threads, ENVIRONMENT)
    check("decoder", environment.check_decoder, ENVIRONMENT)
    for name, stream in config.streams.items():
        check("weights", functools.partial(_of, name, config, environment.check_weights, name, stream))
    origins = {name: _origin(stream, place, name) for name, stream in config.streams.items()}
    read = None
    if absent := environment.absent_corpus(config, place):
        note(absent)
    else:
        read = attempt("corpus", lambda: _read(config, place))
    if read is None:
        note(_skipped(config, findings))
        check("disk", lambda: environment.check_disk(place))
        return Examination(config.name, tuple(findings), None, {}, None)
    corpus, mapping, census, found = read
    note(found)
    check("mapping", lambda: checks.check_mapping(mapping))
    check("clips", lambda: checks.check_parts(census))
    check("crops", lambda: checks.check_crops(census))
    check("rows", lambda: checks.check_rows(census))
    check("labels", lambda: checks.check_coverage(config, census))
    check("AU cells", lambda: checks.check_cells(census))
    check("classes", lambda: checks.check_distributions(config, census))
    check("people", lambda: checks.check_people(config, corpus, census))
    trained_on = list(dict.fromkeys(one for _, seen in origins.values() for one in seen))
    check("rules", lambda: checks.check_rules(config, census, trained_on))
    if config.streams.keys() > place.given:
        check("images", lambda: duplicates.check_images(corpus, every_image=every_image, progress=progress))
    for name, (named, _) in origins.items():
        work = functools.partial(_of, name, config, _extraction, config, place, name, corpus, named)
        check("extraction", work)
    dims = {name: named.dim if named else None for name, (named, _) in origins.items()}
    check("disk", lambda: environment.check_disk(place, cost.room(config, place, corpus, dims)))
    picture = attempt("picture", lambda: _draw(census, config.name, place.table / PICTURE))
    if picture is not None:
        note(Finding("picture", "PASS", f"distributions in {picture}"))
    return Examination(config.name, tuple(findings), census, mapping, picture)


def _of(stream: str, config: Config, work: Callable[..., Finding], *given: object) -> Finding:
    """Returns the finding of ``work``, which says which stream it is about if there are several."""
    finding = work(*given)
    return finding if len(config.streams) == 1 else replace(finding, found=f"{stream}: {finding.found}")


def _origin(settings: Features, place: WorkDir, name: str) -> "tuple[Named | None, Sequence[str]]":
    """Returns the backbone without its network, and what its weights have seen, if known without a download.

    Weights that are at fault have a check of their own; here less is known for it.
    """
    from extract.backbones import registry

    try:
        if name in place.given:
            spec = stores.open(place.streams[name]).spec
            return None, getattr(spec, "weights_trained_on", ())
        if registry.to_download(settings.backbone, settings.weights):
            return None, ()
        named = name_backbone(settings)
    except (FacetsError, ImportError, OSError, RuntimeError):
        return None, ()
    return named, named.weights_trained_on


def _read(config: Config, place: WorkDir) -> "tuple[Corpus, dict[str, MappingReport], Census, Finding]":
    """Returns the corpus, how its labels were mapped, its census and the finding about it."""
    began = time.perf_counter()
    with _quiet():
        corpus, mapping = read_divided(config, place.corpus)
    if not corpus.clips:
        msg = f"{corpus.name} in {place.corpus} has no clip"
        raise CorpusError(msg)
    census = take(corpus, valid_of(place))
    frames = sum(tally.frames for tally in census.parts)
    seconds = time.perf_counter() - began
    found = f"{corpus.name}: {len(corpus.clips):,} clips, {frames:,} frames, read in {seconds:.1f} s"
    if corpus.notes:
        found += f"; notes of the reader: {len(corpus.notes)}, listed below"
    return corpus, mapping, census, Finding("corpus", "PASS", found)


def valid_of(place: WorkDir) -> "Callable[[Clip], NDArray[np.bool_]] | None":
    """Returns which rows of a clip a run can see by any stream; None if crops alone decide.

    A crop counts if a stream is still to be made of it. A stream that is given counts by its own flags.
    """
    paths = [place.streams[name] for name in sorted(place.given)]
    given = [stores.open(path) for path in paths if (path / "store.json").exists()]
    if not given:
        return None
    return functools.partial(visible, given, crops=place.streams.keys() > place.given)


def _skipped(config: Config, findings: list[Finding]) -> Finding:
    what = "labels, crops, people, rules, images and extraction are not checked: "
    if any(finding.name == "corpus" and finding.status == "FAIL" for finding in findings):
        return Finding("skipped", "WARN", what + "they need the corpus, which failed", AGAIN)
    return Finding(
        "skipped", "WARN", what + f"the corpus of {config.name} is not drawn yet", "run facets features"
    )


def _extraction(
    config: Config, place: WorkDir, name: str, corpus: "Corpus", named: "Named | None"
) -> Finding:
    if name in place.given:
        return cost.check_given_features(place, name, corpus)
    if named is None:
        found = "its time and room cannot be estimated without the weights"
        return Finding("extraction", "WARN", found, "see weights above")
    settings = config.streams[name]
    return cost.check_extraction(settings, place.streams[name], corpus, lambda: load_backbone(settings))


def _draw(census: Census, name: str, path: Path) -> Path:
    from pipeline.doctor.figure import as_png
    from stores.commit import replace_file

    content = as_png(census, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    return path


def _listed(found: Iterable[Finding] | Finding) -> list[Finding]:
    return [found] if isinstance(found, Finding) else list(found)


def _words(error: BaseException) -> str:
    told = "; ".join([str(error), *getattr(error, "__notes__", [])])
    return " ".join(f"{type(error).__name__}: {told}".split())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps readers from logging the notes that are listed later."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
