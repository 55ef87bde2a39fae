"""What is asked for: policies as frozen data, their YAML, and their rules. Knows no torch."""
