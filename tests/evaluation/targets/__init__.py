"""Each built-in target on its own."""
