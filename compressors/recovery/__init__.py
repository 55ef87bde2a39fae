"""Training after the cuts: distillation from a teacher, through the rounding."""
