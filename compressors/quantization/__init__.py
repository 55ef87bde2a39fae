"""Fewer bits, simulated: number formats, ranges, rounding, and the layers that hold them."""
