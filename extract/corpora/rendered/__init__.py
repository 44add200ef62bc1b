"""The embedded corpus: rendered faces in Aff-Wild2's exact layout, with its warts and the complete truth.

It shows that the pipeline works and what it costs; it says nothing about real faces.
"""

from dataclasses import replace
from pathlib import Path

from extract.corpora.clip import Corpus
from extract.corpora.readers.affwild2 import challenge
from extract.corpora.rendered.cast import RenderSettings
from extract.corpora.rendered.tree import drawn_people, is_rendered, render
from stores.errors import ConfigError, CorpusError

__all__ = ["RenderSettings", "is_rendered", "load", "render"]


def load(root: Path, edition: str) -> Corpus:
    """Reads a rendered tree with the Aff-Wild2 reader; the subject of a clip is the person who was drawn.

    Args:
        root: folder that ``render`` filled.
        edition: must be ``abaw2``, the layout that is rendered.

    Raises:
        ConfigError: another edition was asked for.
        CorpusError: the tree is absent, its rendering was interrupted, or it was changed since.
    """
    if edition != "abaw2":
        msg = f"the embedded corpus has the layout of abaw2, found corpus.edition {edition!r}: set abaw2"
        raise ConfigError(msg)
    if not is_rendered(root):
        msg = f"no finished rendering in {root}: run 'facets render {root}' (it takes up where it stopped)"
        raise CorpusError(msg)
    people = drawn_people(root)
    corpus = challenge.load(root, edition)
    clips = tuple(replace(clip, subject=people.get(clip.id, "")) for clip in corpus.clips)
    return replace(corpus, name="rendered", clips=clips)
