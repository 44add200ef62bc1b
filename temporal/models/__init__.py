"""Plain modules for one model: sequence models, multi-task attention, heads and the network of them."""

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.models.network import Network, initialise
from temporal.models.trunk import Trunk

__all__ = ["Heads", "Network", "TaskAttention", "Trunk", "initialise"]
