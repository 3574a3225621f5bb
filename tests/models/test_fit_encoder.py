"""Training on an ONNX encoder: the head learns, the encoder stays, and the bundle says where it comes from."""

from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.errors import SettingsError
from polytag.models.encoders.encoder import find_encoder
from polytag.models.options import TrainOptions, check_training
from polytag.models.runtimes.onnx import OnnxModel
from polytag.photos.decode import decode
from tiny_encoders import TINY, TOLERANCE

DINO = str(TINY / "dinov2")


@pytest.mark.parametrize(
    ("model", "settings"), [("transfer", {"epochs": 3}), ("best", {"epochs": 3}), ("binary_relevance", {})]
)
def test_the_bundle_is_the_encoder_with_the_trained_head(
    model: str, settings: dict, squares: tuple, tmp_path: Path
) -> None:
    train, validation, test = squares
    bundle = pt.fit(
        train, validation, model, out=tmp_path / "bundle", backbone=DINO, show_progress=False, seed=1, **settings
    )
    facts, encoder = bundle.manifest["encoder"], find_encoder(DINO)
    assert (facts["source"], facts["pooling"]) == (DINO, "CLS token and mean of the patches")
    assert bundle.image_size == 32 and bundle.manifest["parameters"] > facts["parameters"] > 3000
    assert "Licence: not stated" in (bundle.path / "MODEL_CARD.md").read_text()
    from polytag.models.backend import keras

    head = keras.saving.load_model(bundle.path / "head.keras", compile=False)
    photos = np.stack([decode(path, 32) for path in test.paths])
    assert encoder.path is not None
    wanted = head.predict(OnnxModel(encoder.path)(photos), verbose=0)
    assert np.abs(bundle.predict(test.paths)[0] - wanted).max() < TOLERANCE
    assert wanted.std(axis=0).min() > 1e-3


def test_options_that_do_not_fit_an_encoder_are_refused(tmp_path: Path) -> None:
    for options, message in (
        ({"fine_tune": 2}, "fine tune does not apply to an encoder"),
        ({"weights": tmp_path}, "weights does not apply to an encoder"),
        ({"image_size": 64}, "needs photos at 32 px, not 64"),
        ({"encoder_output": "nothing"}, "has no output 'nothing': choose from last_hidden_state"),
    ):
        with pytest.raises(SettingsError, match=message):
            check_training("transfer", TrainOptions(backbone=DINO, **options))
    with pytest.raises(SettingsError, match="mobilenet_v2 has only one output"):
        check_training("transfer", TrainOptions(encoder_output="x"))
    with pytest.raises(SettingsError, match="encoder output has no effect on baseline"):
        check_training("baseline", TrainOptions(encoder_output="x"))
    assert TrainOptions(backbone=DINO, encoder_output="x").of_use_to("baseline") == TrainOptions()
