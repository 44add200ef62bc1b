"""Fits the tensors of a weights file to a network, strictly, and makes it ready for inference."""

from collections.abc import Collection
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from extract.backbones.weights_file import Weights, some
from stores.errors import ConfigError

_COUNTER = "num_batches_tracked"  # steers training only, and some exporters leave it out


def fit(network: nn.Module, weights: Weights, names: str, unused: Collection[str] = ()) -> None:
    """Fills ``network`` and makes it eval, float32, free of gradients, channels_last, with batch norm folded.

    Args:
        network: made on the meta device: every value comes from the file.
        weights: tensors by name; any float dtype.
        names: whose names are expected, such as ``torchvision's``, for the message.
        unused: names that may be in the file and are not used, such as those of a classifier.

    Raises:
        ConfigError: other names or shapes differ; the message lists them.
    """
    expected = {
        name: value.shape for name, value in network.state_dict().items() if not name.endswith(_COUNTER)
    }
    found = {
        name: value
        for name, value in weights.tensors.items()
        if name not in unused and not name.endswith(_COUNTER)
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
            f"{weights.path}: tensors do not fit ({problems}); expected {names} own names, without a "
            "prefix: rename them and save again, or choose the backbone these weights are of"
        )
        raise ConfigError(msg)
    network.load_state_dict({name: value.float() for name, value in found.items()}, strict=False, assign=True)
    network.eval().requires_grad_(requires_grad=False)
    fold_batch_norm(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_batches_tracked = None  # still on the meta device, from where nothing can be moved
    network.to(memory_format=torch.channels_last)


def fold_batch_norm(network: nn.Module) -> None:
    """Folds each batch norm into the convolution before it, in place; both in eval mode.

    Pairs are known by their place in an ``nn.Sequential`` and elsewhere by their names: ``conv2`` and
    ``bn2``, ``conv`` and ``bn``. A batch norm before a convolution stays: zero padding comes between the two.
    """
    for parent in list(network.modules()):
        children = dict(parent.named_children())
        names = list(children)
        if isinstance(parent, nn.Sequential):
            pairs = list(pairwise(names))
        else:
            pairs = [(name, name.replace("conv", "bn")) for name in names]
        for conv_name, norm_name in pairs:
            conv, norm = children[conv_name], children.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
