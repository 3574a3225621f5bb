"""Run models with ONNX Runtime, OpenVINO and LiteRT."""
