"""What the tests of stage 1 share: Aff-Wild2 trees of any shape, a ResNet-50 and its weights, the scripts."""

import sys
from pathlib import Path

import pytest
import torch
from affwild2_tree import Tree
from torchvision.models import resnet50

sys.path.append(str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / "corpus")


@pytest.fixture(scope="session")
def reference_network():
    """A ResNet-50 whose batch norm has statistics of its own, so that folding has something to fold."""
    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network


@pytest.fixture(scope="session")
def weights_path(reference_network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(reference_network.state_dict(), path)
    return path
