"""Honest timing: files run in a process of their own, alone, in turns, and remembered."""
