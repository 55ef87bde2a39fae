"""A packed file: every weight in the bits that its record says, unpacked to a float model."""
