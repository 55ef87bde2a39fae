"""Latency without a stop-watch in every trial: priced operators, a fitted correction, one sum."""
