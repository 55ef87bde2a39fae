"""TensorRT: ONNX with explicit Q/DQ pairs where its kernels want them."""
