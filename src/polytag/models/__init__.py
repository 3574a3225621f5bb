"""Models: training, quantization, conversion to other formats, and inference."""
