"""Tasks (model, data, quality), targets (runtimes, capabilities, timing) and their costs.

Knows the compressors; knows nothing of searches, samplers or storages.
"""
