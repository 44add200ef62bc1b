"""Networks with random values that behave like trained ones, saved under their own tensor names.

Batch norm has the statistics of one batch of noise, so that neither vanishing nor overflowing
activations hide a difference.
"""

import math
import zlib

import numpy as np
import torch
from torch import nn


def noise(count, size, seed=0):
    """(count, 3, size, size) float32 in [-2, 2]."""
    pixels = np.random.default_rng(seed).uniform(-2, 2, (count, 3, size, size))
    return torch.from_numpy(pixels.astype(np.float32))


def calibrated(architecture, size):
    """The network of ``architecture()`` in eval mode, every value of it random."""
    torch.manual_seed(zlib.crc32(str(architecture).encode()[:16]))
    with torch.device("meta"):  # the usual initialisation would be thrown away
        network = architecture()
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=math.sqrt(2 / parameter[0].numel()))
        else:
            nn.init.normal_(parameter, 0.3, 0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain average over batches, of which there is one
    with torch.no_grad():
        network.train()(noise(3, size, seed=1))
    return network.eval()


def counted(name, shape):
    """A float32 tensor that only its name and shape decide, the same with every version of every library."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = random.uniform(0.5, 2, shape)
    elif len(shape) > 1:
        values = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    elif name.endswith("weight"):
        values = random.uniform(0.2, 0.8, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return torch.from_numpy(np.asarray(values, np.float32))


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def cosine(a, b):
    """The smallest over the rows, in float64."""
    return float(nn.functional.cosine_similarity(a.double(), b.double()).min())
