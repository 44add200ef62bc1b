"""The readers of corpora, one module or folder each; ``extract.corpora.KINDS`` names them."""
