"""What a sequence model is to the rest of the network: (B, C_in, T) to (B, C, T), a pure function."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Trunk(nn.Module, ABC):
    """Base of every sequence model.

    A trunk must treat the windows of a batch independently of one another, and must run under ``torch.vmap``:
    no branch on values, no buffer that it updates, no random number of its own.

    Args:
        channels: channels C of its output.
        dropout_shape: (layers, width): how many sets of channel factors a call takes, and the most channels
            that a set has. The factors are drawn outside, so that every replica has its own stream of them.
    """

    def __init__(self, channels: int, dropout_shape: tuple[int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.dropout_shape = dropout_shape

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """Runs the model over a batch of windows.

        Args:
            x: (B, C_in, T) float32.
            mask: (B, T) float32, 1 on frames, 0 on the padding that follows them; None where nothing is
                padded. What lies in the padding must not reach a frame.
            dropout: (layers, B, width) float32 channel factors, 0 or 1 / (1 - p); None for no dropout.

        Returns:
            (B, C, T); values at padded frames are meaningless.
        """
