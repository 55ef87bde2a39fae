"""LiteRT (TensorFlow Lite): .tflite files, written from the graph and run by its interpreter."""
