"""Runs of every kind, and training small enough for all models: what tests of stacks share.

Not a test.
"""

from temporal.settings import Run, Training

SIZES = {"V": 1, "A": 1, "AU": 12, "EXPR": 7}
TINY = Training(
    window=12,
    hop=12,
    batch_size=3,
    epochs=1,
    causal=False,
    channels=8,
    levels=1,
    kernel_size=3,
    projection=4,
    attention_heads=2,
)
RUNS = [
    Run(("A", "AU", "EXPR"), attention=True, seed=1, lr=2e-3, dropout=0.0, loss_weights={"AU": 0.5}),
    Run(("V", "A"), attention=True, seed=2, dropout=0.3),
    Run(("V", "AU", "EXPR"), attention=False, seed=0, lr=3e-3, dropout=0.1),
]
