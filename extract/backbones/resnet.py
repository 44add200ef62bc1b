"""Turns a torchvision ResNet and a weights file into an inference trunk: pooled features, batch norm folded.

Not a definition of ResNet: torchvision's own classes are used, so that its tensor names are the file's.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet

from extract.backbones.weights_file import Weights, some
from stores.errors import ConfigError

FEATURES = 2048
"""Length of the global average pool of a ResNet of four Bottleneck stages."""

_HEAD = ("fc.weight", "fc.bias")
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))  # "0", "1": downsample


def trunk(architecture: Callable[[], ResNet], weights: Weights) -> ResNet:
    """The network up to its global average pool, in eval mode and channels_last, with batch norm folded.

    The classifier may be in the file or not; every other name and shape must be the architecture's.

    Args:
        architecture: makes the torchvision network.
        weights: tensors named as torchvision names them; any float dtype.

    Returns:
        A module (B, 3, S, S) -> (B, 2048), float32.

    Raises:
        ConfigError: names or shapes differ; the message lists them.
    """
    with torch.device("meta"):  # no random initialisation: every tensor comes from the file
        network = architecture()
    network.fc = nn.Identity()
    # Batch counters steer training only, and some exporters leave them out.
    expected = {
        name: value.shape
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    found = {
        name: value
        for name, value in weights.tensors.items()
        if name not in _HEAD and not name.endswith("num_batches_tracked")
    }
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name])}"
        for name, value in found.items()
        if name in expected and value.shape != expected[name]
    ]
    if missing or unexpected or misshapen:
        lists = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        problems = "; ".join(f"{title}: {some(names)}" for title, names in lists.items() if names)
        msg = (
            f"{weights.path}: tensors do not fit ({problems}); expected torchvision's own names, without a "
            "prefix: rename them and save again, or choose the backbone these weights are of"
        )
        raise ConfigError(msg)
    network.load_state_dict({name: value.float() for name, value in found.items()}, strict=False, assign=True)
    network.eval().requires_grad_(requires_grad=False)
    _fold_batch_norm(network)
    return network.to(memory_format=torch.channels_last)


def _fold_batch_norm(network: nn.Module) -> None:
    for parent in list(network.modules()):
        children = dict(parent.named_children())
        for conv_name, norm_name in _PAIRS:
            conv, norm = children.get(conv_name), children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
