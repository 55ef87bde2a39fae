"""Lowering, checked: what a file computes, against the simulated model; by layer where it tells."""
