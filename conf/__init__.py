"""The Hydra config tree; data only."""
