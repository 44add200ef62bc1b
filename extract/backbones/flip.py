"""The mean of what a network says of a crop and of its mirror image."""

from torch import Tensor, nn


class FlipAverage(nn.Module):
    """Averages the vectors that a network gives for a crop and for its mirror image."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, S, S) to (B, D)."""
        features: Tensor = (self.module(images) + self.module(images.flip(3))) / 2
        return features
