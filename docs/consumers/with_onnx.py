"""Tag photos with an ONNX export:  python with_onnx.py EXPORT PHOTO..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

folder = Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(folder / about["file"])
for name in sys.argv[2:]:
    photo = Image.open(name).convert("RGB").resize(about["input"]["shape"][1:3], Image.Resampling.BILINEAR)
    probabilities = session.run(None, {"photo": np.array(ImageOps.exif_transpose(photo))[None]})[0][0]
    for label, probability, threshold in zip(about["labels"], probabilities, about["thresholds"], strict=True):
        if probability >= threshold:
            print(f"{name}: {label} {probability:.5f}")
