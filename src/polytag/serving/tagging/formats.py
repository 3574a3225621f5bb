"""Names of the export formats. They are separate from the export code because its libraries take seconds to load."""

from enum import StrEnum


class Format(StrEnum):
    """A format for exporting a bundle's network."""

    keras = "keras"
    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"
    litert_int8 = "litert-int8"
    openvino = "openvino"
