"""Published weights by URL: where torch keeps its downloads, fetched when absent."""

import os
from pathlib import Path
from urllib.parse import urlparse

from stores.errors import ConfigError


def cached(url: str) -> Path:
    """Where the file of ``url`` is, or will be, in torch's own cache, which ``TORCH_HOME`` moves."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")  # as torch.hub.get_dir, without torch
    home = Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser()
    return home / "hub" / "checkpoints" / Path(urlparse(url).path).name


def fetch(url: str) -> Path:
    """The file of ``url``, downloaded once; torch compares it with the digits of SHA-256 in its name.

    Raises:
        ConfigError: no network.
    """
    path = cached(url)
    if not path.is_file():
        import torch

        digits = path.stem.rpartition("-")[2]  # resnet50-0676ba61.pth
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digits, progress=False)
        except (OSError, RuntimeError) as error:
            msg = (
                f"cannot download {url} ({error}): without network, get that file elsewhere and either put "
                f"it at {path} or set 'weights' to its path"
            )
            raise ConfigError(msg) from error
    return path
