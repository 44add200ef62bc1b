"""The cast list of the embedded corpus: its clips, who is in them, what is annotated, which warts.

Everything here is decided from the seed before the first picture is made.
"""

from dataclasses import dataclass
from typing import Literal

from extract.corpora.rendered.identity import generator

Task = Literal["VA", "EXPR", "AU"]

# Clips are annotated for these tasks in turn, so that sets differ and overlap as they do in Aff-Wild2.
_ANNOTATED: tuple[tuple[Task, ...], ...] = (
    ("VA", "EXPR", "AU"),
    ("VA", "AU"),
    ("VA", "EXPR", "AU"),
    ("EXPR", "AU"),
    ("VA", "EXPR"),
    ("VA", "EXPR", "AU"),
    ("VA", "EXPR"),
    ("EXPR", "AU"),
)


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """What the embedded corpus consists of; equal settings give equal files.

    Attributes:
        seed: names all random streams.
        train_people, validation_people, test_people: identities of each split; no identity is in two splits.
        clips_per_person: clips that each person appears in.
        min_frames, max_frames: range of clip lengths, frames at 30 per second.
        rater_lag: reaction time of the valence and arousal raters, in frames.
        rater_noise: standard deviation of their slow drift.
        warts: whether to write the defects of the real corpus (missing crops, unknown labels, row counts).
    """

    seed: int = 0
    train_people: int = 32
    validation_people: int = 14
    test_people: int = 1
    clips_per_person: int = 2
    min_frames: int = 60
    max_frames: int = 150
    rater_lag: int = 8
    rater_noise: float = 0.08
    warts: bool = True

    def __post_init__(self) -> None:
        if min(self.train_people, self.validation_people, self.clips_per_person) < 1 or self.test_people < 0:
            msg = "expected at least one training person, one validation person and one clip per person"
            raise ValueError(msg)
        if not 30 <= self.min_frames <= self.max_frames <= 99_999:
            found = f"found {self.min_frames} and {self.max_frames}"
            msg = f"expected 30 <= min_frames <= max_frames <= 99999, {found}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Role:
    """One clip to be rendered.

    Attributes:
        id: clip name; ``_left`` and ``_right`` where two people share a video.
        split: ``train``, ``validation`` or ``test``.
        person: number of the identity, unique over the corpus.
        frames: length T.
        tasks: which tasks are annotated; none for a test clip.
        row_offsets: rows of each task's file minus T, -1 .. 2.
    """

    id: str
    split: Literal["train", "validation", "test"]
    person: int
    frames: int
    tasks: tuple[Task, ...]
    row_offsets: tuple[int, ...]


def cast(settings: RenderSettings) -> tuple[Role, ...]:
    """Lists every clip of the embedded corpus in the order of its ids' numbers."""
    rng = generator("corpus", settings.seed, "cast")
    roles: list[Role] = []
    video, person = 0, 0
    sizes: tuple[tuple[Literal["train", "validation", "test"], int], ...] = (
        ("train", settings.train_people),
        ("validation", settings.validation_people),
        ("test", settings.test_people),
    )
    for split, people in sizes:
        # Whoever appears alone gets a video of their own; every third pair of people shares one.
        appearances = [(person + p, c) for c in range(settings.clips_per_person) for p in range(people)]
        person += people
        at, in_split = 0, 0
        while at < len(appearances):
            video += 1
            shared = (
                at + 1 < len(appearances) and video % 3 == 0 and appearances[at][0] != appearances[at + 1][0]
            )
            name = f"{video}-30-1280x720" if video % 5 == 0 else f"video{video}"
            frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
            for suffix in ("_left", "_right") if shared else ("",):
                length = frames
                if in_split == 1:  # a clip shorter than any window
                    length = max(30, settings.min_frames // 2)
                tasks = _ANNOTATED[in_split % len(_ANNOTATED)] if split != "test" else ()
                base = int(rng.choice([0, 0, -1]))  # files of one clip differ by two rows at most
                offsets = tuple(base + int(o) for o in rng.choice([0, 0, 0, 1, 2], len(tasks)))
                if not settings.warts:
                    offsets = (0,) * len(tasks)
                roles.append(Role(name + suffix, split, appearances[at][0], length, tasks, offsets))
                at += 1
                in_split += 1
    return tuple(roles)
