"""The Pareto front: found, measured again on the exported files, written down."""
