"""What a reader notes about a corpus: how it differs from the release, and what it means for splits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from extract.corpora.clip import Clip
from extract.parsing.faults import some

_FULL = 0.9
"""A tree that has this share of most counts is taken for a full release."""


def differences(release: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """What to note about a tree that looks like a full release and is not quite that.

    Args:
        release: counts of the release.
        found: counts of the tree, by the same names; what it lacks was not there to be counted.
    """
    shared = [name for name in release if name in found]
    near = [name for name in shared if found[name] >= _FULL * release[name]]
    wrong = [name for name in shared if found[name] != release[name]]
    if not wrong or 2 * len(near) <= len(shared):
        return []
    said = "; ".join(f"{name}: {found[name]:,}, released {release[name]:,}" for name in wrong)
    return [f"this looks like the full release, but its counts differ: {said}; a file may be cut short"]


def count(found: int, released: int, what: str) -> list[str]:
    """Says if there are fewer or more of something than the release has."""
    return [] if found == released else [f"{found} {what}, where the release has {released}"]


def divided(clips: Sequence[Clip]) -> list[str]:
    """Notes the videos that have people in different splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        splits[clip.subject].add(clip.split)
    videos = [name for name, found in splits.items() if len(found) > 1]
    return [f"{len(videos)} videos have people in different splits: {some(videos)}"] if videos else []
