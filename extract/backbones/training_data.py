"""Whether weights have seen a corpus, by the names in ``weights_trained_on``: competitions ask for it."""

from collections.abc import Iterable

UNKNOWN = "unknown"
"""The name that stands for training data nobody has told."""


def saw(trained_on: Iterable[str], corpus: str = "Aff-Wild2") -> bool | None:
    """Whether weights were trained on ``corpus`` or a part of it.

    Names are compared by their letters and digits alone: ``Aff-Wild2``, ``affwild2``, ``aff_wild 2`` and
    ``s-Aff-Wild2`` are all of Aff-Wild2.

    Args:
        trained_on: as in ``Backbone`` and ``FeatureSpec``.
        corpus: name of the corpus.

    Returns:
        None where it cannot be told: no name, or ``unknown`` among others than ``corpus``.
    """
    names = [_plain(name) for name in trained_on]
    if any(_plain(corpus) in name for name in names):
        return True
    return None if not names or UNKNOWN in names else False


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
