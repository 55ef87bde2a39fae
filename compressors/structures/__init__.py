"""What of a model can be compressed: its layers, channel groups, heads and blocks, found live."""
