"""Published weights by URL: where torch keeps its downloads, fetched and hash-checked when absent.

Not a mirror: without a network the error says which file to bring along.
"""

from pathlib import Path
from urllib.parse import urlparse

import torch

from extract.backbones import weights_file
from stores.errors import ConfigError


def cached(url: str) -> Path:
    """Where the file of ``url`` is, or will be, in torch's own cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def read(url: str) -> weights_file.Weights:
    """The weights at ``url``, downloaded once.

    Raises:
        ConfigError: no network, or a damaged file.
    """
    path = cached(url)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix(path.name), progress=False)
        except (OSError, RuntimeError) as error:
            msg = (
                f"cannot download {url} ({error}): without network, get that file elsewhere and either put "
                f"it at {path} or set features.weights to its path"
            )
            raise ConfigError(msg) from error
    file = weights_file.read(path)
    digest = hash_prefix(path.name)
    if not file.sha256.startswith(digest):
        msg = f"{path}: SHA-256 {file.sha256}, expected {digest}...: delete it to fetch it again"
        raise ConfigError(msg)
    return file


def hash_prefix(name: str) -> str:
    """Torch's file names end in the first hex digits of the SHA-256: ``resnet50-0676ba61.pth``."""
    return Path(name).stem.rpartition("-")[2]
