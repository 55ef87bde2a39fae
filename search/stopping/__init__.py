"""Which trials are evaluated further: rungs of growing fidelity, for any number of objectives."""
