"""What a bundle can be exported to, by name; apart from the exports, which need libraries that take seconds to load."""

from enum import StrEnum


class Format(StrEnum):
    """What a bundle can be exported to."""

    keras = "keras"
    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"
    litert_int8 = "litert-int8"
    openvino = "openvino"
