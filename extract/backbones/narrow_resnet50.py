"""The bundled backbone's network: ResNet-50 at a quarter of the inner width, 2048 features.

Its weights were trained on rendered faces and have seen no photograph; every table says so.
"""

from functools import partial

from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from extract.backbones.resnet import trunk

# The narrow mirror of torchvision's wide_resnet50_2, which doubles the inner width of 64.
ARCHITECTURE = partial(ResNet, Bottleneck, [3, 4, 6, 3], width_per_group=16)

network = partial(trunk, ARCHITECTURE)
