"""Results that come from a record or a formula, so that searches can be tried out in seconds."""
