"""Predicting latencies."""
