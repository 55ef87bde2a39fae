"""Taking away: blocks, channels, attention heads and single weights; knows nothing of bits."""
