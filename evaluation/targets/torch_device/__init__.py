"""Torch itself as the runtime, on a CPU or a GPU: torch.export programs with integer layers."""
