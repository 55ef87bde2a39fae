"""A device's layers, timed there and written down, so that policies can be priced elsewhere."""
