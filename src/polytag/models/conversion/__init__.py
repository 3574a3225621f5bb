"""Convert Keras networks to ONNX."""
