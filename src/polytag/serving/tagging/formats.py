"""Export formats by name. They are apart from the exports, whose libraries take seconds to load."""

from enum import StrEnum


class Format(StrEnum):
    """Export format."""

    keras = "keras"
    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"
    litert_int8 = "litert-int8"
    openvino = "openvino"
