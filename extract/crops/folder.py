"""The tree that crops are written to: a video's clips appear in it together, with a record of their making.

A clip is a folder of JPEG files, ``cropped_aligned/<clip>/00001.jpg`` for frame 0.

Everything of a video is written to one hidden folder. Then, under a lock, its record says which clips are
being replaced, the old ones move out, the new ones move in, and the record says what they are. Whoever is
killed in between leaves a record that is not complete, which readers refuse and the next run makes good.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.crops import journal
from stores import commit
from stores.documents import Json
from stores.errors import CorpusError

LOCK = ".lock"


class Tree:
    """The folders ``cropped_aligned`` and ``crops`` of one target."""

    def __init__(self, target: Path) -> None:
        """Makes the folders where they are not there, and removes what killed runs left behind.

        Raises:
            OSError: they cannot be made.
        """
        self.target = target
        self.crops = target / journal.CROPS
        self.records = target / journal.FOLDER
        for folder in (self.crops, self.records):
            folder.mkdir(parents=True, exist_ok=True)
            commit.remove_abandoned(folder)
        self._lock = self.records / LOCK
        self._lock.touch()

    def read(self, video: str) -> dict[str, Any] | None:
        """Returns the record of a video, or None; see ``journal.read``."""
        return journal.read(journal.path_of(self.target, video))

    def check_free(self, video: str, clips: Sequence[str]) -> None:
        """Passes if no clip called so is there but those that were cut from this video.

        Raises:
            CorpusError: one is; it is never overwritten.
        """
        own = _own(self.read(video))
        for clip in clips:
            if clip not in own and (self.crops / clip).exists():
                msg = (
                    f"{self.crops / clip} is there and was not cut from this video: choose another TARGET, "
                    "rename the video, or take the folder away"
                )
                raise CorpusError(msg)

    def holds(self, clips: Sequence[Mapping[str, Any]]) -> bool:
        """Says whether the clips of a record have all their files, by name and number alone."""
        for clip in clips:
            folder = self.crops / clip["id"]
            if not folder.is_dir() or sum(1 for _ in folder.iterdir()) != clip["crops"]:
                return False
        return True

    @contextmanager
    def staging(self, video: str) -> Iterator[Path]:
        """Yields a hidden folder for the clips of a video; it is removed afterwards, whatever happens."""
        with commit.temporary(self.crops, video, tree=True) as folder:
            yield folder
            commit.remove(folder)

    def publish(self, video: str, staged: Path, clips: Sequence[str], content: Mapping[str, Json]) -> None:
        """Puts the clips in ``staged`` in the place of all that were cut from the video before.

        Raises:
            CorpusError: another program has made a clip of that name meanwhile.
            OSError: something could not be moved; the record then says that it is not complete.
        """
        path = journal.path_of(self.target, video)
        old = staged / ".old"
        with commit.exclusive(self._lock):
            self.check_free(video, clips)
            own = sorted(_own(self.read(video)) | set(clips))
            journal.write(path, {**content, "complete": False, "replacing": own})
            old.mkdir()
            for clip in own:
                if (self.crops / clip).exists():
                    (self.crops / clip).rename(old / clip)
            for clip in clips:
                (staged / clip).rename(self.crops / clip)
            commit.sync_folder(self.crops)
            journal.write(path, {**content, "complete": True})


def _own(document: Mapping[str, Any] | None) -> set[str]:
    if document is None:
        return set()
    return {clip["id"] for clip in document["clips"]} | set(document.get("replacing", ()))
