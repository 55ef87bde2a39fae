"""ExecuTorch with the XNNPACK backend, on this machine's CPU."""
