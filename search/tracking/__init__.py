"""MLflow as a view of a study; never its record."""
