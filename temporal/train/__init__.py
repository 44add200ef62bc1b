"""Training: the losses, the fused stack of replicas, and the fit from the first epoch to the last result."""
