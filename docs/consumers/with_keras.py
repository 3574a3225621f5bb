"""Tag photos with a Keras export:  python with_keras.py EXPORT PHOTO..."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageOps

folder = Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
model = keras.saving.load_model(folder / about["file"])
for name in sys.argv[2:]:
    photo = Image.open(name).convert("RGB").resize(about["input"]["shape"][1:3], Image.Resampling.BILINEAR)
    probabilities = model.predict_on_batch(np.array(ImageOps.exif_transpose(photo))[None])[0]
    for label, probability, threshold in zip(about["labels"], probabilities, about["thresholds"], strict=True):
        if probability >= threshold:
            print(f"{name}: {label} {probability:.5f}")
