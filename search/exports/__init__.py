"""A policy and its deployable model to take away, and the check that they keep their promise."""
