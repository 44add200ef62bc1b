"""Plain modules for ONE model: TCN, multi-task attention, heads, and the network that joins them.

Not the stacked training of many replicas: that is ``temporal.fused``, which maps these modules over replicas.
"""

from temporal.models.attention import MultiTaskAttention
from temporal.models.heads import Heads
from temporal.models.network import Network, initialise
from temporal.models.tcn import TCN

__all__ = ["TCN", "Heads", "MultiTaskAttention", "Network", "initialise"]
