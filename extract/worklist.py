"""Which clips of a corpus must be extracted: those that the store lacks, or holds from other crops."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from extract.corpora import Crops
from extract.extracted import FailedClip, Report
from extract.fingerprint import Source, inspect
from stores import Store
from stores.errors import CorpusError
from stores.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Worklist:
    """What an extraction has to do.

    Attributes:
        pending: the clips that must be extracted, with their crops as found on disk.
        unchanged: ids of the clips whose committed features are of the same crops.
        failed: clips that cannot be extracted.
        images: crops of the pending clips.
        frames: their frames.
    """

    pending: tuple[tuple[Crops, Source], ...]
    unchanged: tuple[str, ...]
    failed: tuple[FailedClip, ...]
    images: int = field(init=False)
    frames: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", sum(int(source.present.sum()) for _, source in self.pending))
        object.__setattr__(self, "frames", sum(len(source.present) for _, source in self.pending))

    def report(self, seconds: float = 0.0) -> Report:
        """What an extraction that had nothing to do but look did."""
        return Report((), self.unchanged, self.failed, (), 0, 0, seconds)


def look(clips: Sequence[Crops], store: Store, progress: Progress = silent) -> Worklist:
    """Looks at the crops of every clip, at the cost of one stat each.

    Raises:
        CorpusError: a clip has no frames.
        StoreError: a commit record of the store is damaged.
    """
    pending: list[tuple[Crops, Source]] = []
    unchanged: list[str] = []
    failed: list[FailedClip] = []
    for index, clip in enumerate(clips):
        progress("sources", len(clips), index)
        if not len(clip.frames):
            msg = f"clip {clip.id} has no frames: expected at least one; take it out of the corpus"
            raise CorpusError(msg)
        source = inspect(clip)
        if store.has(clip.id) and store.record(clip.id).source_digest == source.digest:
            unchanged.append(clip.id)
        elif not source.present.any():
            failed.append(FailedClip(clip.id, f"none of its {len(clip.frames)} frames has a crop"))
            logger.warning("clip %s is not written: none of its frames has a crop", clip.id)
        else:
            pending.append((clip, source))
    progress("sources", len(clips), len(clips))
    return Worklist(tuple(pending), tuple(unchanged), tuple(failed))
