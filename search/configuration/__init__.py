"""From Hydra's YAML and the command line to typed settings; classes beyond take plain arguments."""
