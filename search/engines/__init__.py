"""What runs trials: processes on this machine, or Ray Tune."""
