"""A table of latencies from a device that is not here."""
