"""ResNet-50 as torchvision defines it, with its ImageNet weights or a file of your own; 2048 features.

Not a trainer: weights come from torchvision's hashed download or from a local file with torchvision's names.
"""

from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision.models import ResNet50_Weights, resnet50

from extract.backbones import resnet, weights_file
from extract.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, check_image_size
from stores.errors import ConfigError

PUBLISHED = {
    "imagenet1k_v1": ResNet50_Weights.IMAGENET1K_V1,
    "imagenet1k_v2": ResNet50_Weights.IMAGENET1K_V2,
}


def load(name: str, image_size: int) -> Backbone:
    """Loads ResNet-50.

    Args:
        name: ``imagenet1k_v1`` or ``imagenet1k_v2`` (downloaded once by torch, hash checked), or the path
            of a ``.safetensors`` or ``.pth`` file. A local file is normalised as ImageNet unless a card
            ``<file stem>.json`` beside it says otherwise (keys mean, std, trained_on, sha256, all optional).
        image_size: input side in pixels.

    Raises:
        ConfigError: unknown name, no network, a damaged file, or tensors that do not fit.
    """
    check_image_size(image_size)
    if name in PUBLISHED:
        file = weights_file.read(_download(PUBLISHED[name]))
        card = weights_file.Card(IMAGENET_MEAN, IMAGENET_STD, ("ImageNet-1k",))
        digest = _hash_prefix(file.path.name)
        if not file.sha256.startswith(digest):
            msg = f"{file.path}: SHA-256 {file.sha256}, expected {digest}...: delete it to fetch it again"
            raise ConfigError(msg)
    elif Path(name).suffix:
        file = weights_file.read(Path(name))
        card = weights_file.read_card(file, weights_file.Card(IMAGENET_MEAN, IMAGENET_STD, ("unknown",)))
        name = file.path.stem
    else:
        msg = f"unknown weights {name!r} of resnet50: expected {', '.join(PUBLISHED)} or a path"
        raise ConfigError(msg)
    network = resnet.trunk(resnet50, file)
    return Backbone(
        name="resnet50",
        weights=name,
        weights_sha256=file.sha256,
        weights_trained_on=card.trained_on,
        module=network,
        image_size=image_size,
        mean=card.mean,
        std=card.std,
        dim=resnet.FEATURES,
    )


def _download(published: ResNet50_Weights) -> Path:
    """The file of torchvision's weights in torch's own cache, downloaded and hash-checked when absent."""
    url = published.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), _hash_prefix(path.name), progress=False)
    except (OSError, RuntimeError) as error:
        msg = (
            f"cannot download {url} ({error}): without network, get that file elsewhere and either put it at "
            f"{path} or set features.weights to its path"
        )
        raise ConfigError(msg) from error
    return path


def _hash_prefix(name: str) -> str:
    """Torch's file names end in the first hex digits of the SHA-256: ``resnet50-0676ba61.pth``."""
    return Path(name).stem.rpartition("-")[2]
