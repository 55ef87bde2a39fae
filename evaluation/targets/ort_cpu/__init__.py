"""ONNX Runtime on this machine's CPU."""
