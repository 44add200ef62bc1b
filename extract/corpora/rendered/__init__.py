"""The embedded corpus: rendered faces in Aff-Wild2's exact layout, with its warts and the complete truth.

Not a substitute for real data: it shows that the pipeline works and what it costs, not what faces mean.
"""

from pathlib import Path

from extract.corpora import affwild2
from extract.corpora.clip import Corpus
from extract.corpora.rendered.cast import RenderSettings
from extract.corpora.rendered.tree import is_rendered, render
from stores.errors import CorpusError

__all__ = ["RenderSettings", "is_rendered", "load", "render"]


def load(root: Path, edition: str) -> Corpus:
    """Reads a rendered tree with the Aff-Wild2 reader.

    Args:
        root: folder that ``render`` filled.
        edition: must be ``abaw2``, the layout that is rendered.

    Raises:
        CorpusError: the tree is absent or its rendering was interrupted, or another edition was asked for.
    """
    if edition != "abaw2":
        msg = f"the embedded corpus has the layout of abaw2, found corpus.edition {edition!r}: set abaw2"
        raise CorpusError(msg)
    if not is_rendered(root):
        msg = f"no finished rendering in {root}: run 'facets render {root}' (it takes up where it stopped)"
        raise CorpusError(msg)
    corpus = affwild2.load(root, edition)
    return Corpus(
        "rendered",
        corpus.root,
        corpus.edition,
        corpus.expression_names,
        corpus.au_names,
        corpus.clips,
        corpus.notes,
    )
