"""Tag photos with an OpenVINO export:  python with_openvino.py EXPORT PHOTO..."""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

folder = Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
model = openvino.Core().compile_model(folder / about["file"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for name in sys.argv[2:]:
    photo = Image.open(name).convert("RGB").resize(about["input"]["shape"][1:3], Image.Resampling.BILINEAR)
    probabilities = model(np.array(ImageOps.exif_transpose(photo))[None])[0][0]
    for label, probability, threshold in zip(about["labels"], probabilities, about["thresholds"], strict=True):
        if probability >= threshold:
            print(f"{name}: {label} {probability:.5f}")
