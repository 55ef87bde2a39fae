"""What calibration data says of a model, and a cache of it by content."""
