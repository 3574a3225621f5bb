"""Tag photos with a LiteRT export, of 32 or of 8 bits:  python with_litert.py EXPORT PHOTO..."""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

folder = Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
model = Interpreter(model_path=str(folder / about["file"])).get_signature_runner()
for name in sys.argv[2:]:
    photo = Image.open(name).convert("RGB").resize(about["input"]["shape"][1:3], Image.Resampling.BILINEAR)
    probabilities = model(photo=np.array(ImageOps.exif_transpose(photo))[None])["output_0"][0]
    for label, probability, threshold in zip(about["labels"], probabilities, about["thresholds"], strict=True):
        if probability >= threshold:
            print(f"{name}: {label} {probability:.5f}")
