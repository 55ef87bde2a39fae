"""From a compressed model to an ONNX graph that says the same: the form most runtimes read."""
