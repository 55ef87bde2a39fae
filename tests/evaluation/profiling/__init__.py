"""Profiles: what is timed, the file that it is written to, and what is made of it."""
