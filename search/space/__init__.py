"""What may be decided: knobs from a model and a target, their policies, the uniform baselines."""
