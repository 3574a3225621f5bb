"""Image encoders that users bring as ONNX files, and the text encoders that belong to them."""
