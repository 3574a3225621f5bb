"""Tag photos with a SavedModel export:  python with_savedmodel.py EXPORT PHOTO..."""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

folder = Path(sys.argv[1])
about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
model = tf.saved_model.load(str(folder / about["file"]))
for name in sys.argv[2:]:
    photo = Image.open(name).convert("RGB").resize(about["input"]["shape"][1:3], Image.Resampling.BILINEAR)
    probabilities = model.serve(np.array(ImageOps.exif_transpose(photo))[None]).numpy()[0]
    for label, probability, threshold in zip(about["labels"], probabilities, about["thresholds"], strict=True):
        if probability >= threshold:
            print(f"{name}: {label} {probability:.5f}")
