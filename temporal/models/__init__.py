"""Plain modules for ONE model: sequence models, multi-task attention, heads, and the network that joins them.

Not the stacked training of many replicas: that is ``temporal.train.fused``, which maps these modules over
replicas.
"""

from temporal.models.attention import TaskAttention
from temporal.models.heads import Heads
from temporal.models.network import Network, initialise
from temporal.models.trunk import Trunk

__all__ = ["Heads", "Network", "TaskAttention", "Trunk", "initialise"]
