"""Labels without training: the scores are those that the library computes from photos and texts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from polytag.errors import SettingsError, WeightsError
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.zero_shot import CLIP_THRESHOLD, PROMPTS, zero_shot
from tiny_encoders import TINY, TOLERANCE, expected, write_photos

pytest.importorskip("tokenizers")


@pytest.mark.parametrize("family", ["clip", "siglip2"])
def test_scores_equal_those_of_the_library(family: str, tmp_path: Path) -> None:
    with np.load(TINY / family / "scores.npz") as arrays:
        scores, texts = arrays["scores"], arrays["texts"].tolist()
    bundle = zero_shot(str(TINY / family), texts, prompts=["{}"])
    wanted = scores.clip(0, 1)  # a negative cosine is 0
    assert np.ptp(wanted) > 0.1
    assert np.abs(bundle.run(expected(family)[0]) - wanted).max() < TOLERANCE
    saved = bundle.save(tmp_path / "bundle")
    found = np.stack(list(Bundle(saved.path).stream(write_photos(tmp_path / "photos", family))))
    assert np.abs(found - wanted).max() < TOLERANCE
    assert "never trained" in (saved.path / "MODEL_CARD.md").read_text()


def test_prompts_are_averaged_as_directions() -> None:
    texts = ["a photo of two people.", "two people"]
    alone = [zero_shot(str(TINY / "clip"), ["two people"], prompts=[prompt]) for prompt in (PROMPTS[0], "{}")]
    both = zero_shot(str(TINY / "clip"), ["two people"], prompts=[PROMPTS[0], "{}"])
    photos = expected("clip")[0]
    from polytag.models.encoders.text import find_text_encoder

    length = np.linalg.norm(find_text_encoder(str(TINY / "clip"))(texts).mean(axis=0))
    raw = [bundle.run(photos) for bundle in alone]
    inside = (raw[0] > 0) & (raw[1] > 0)
    assert inside.any()
    np.testing.assert_allclose(both.run(photos)[inside], ((raw[0] + raw[1]) / 2 / length)[inside], atol=TOLERANCE)


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path: Path) -> None:
    for labels in ([], ["boat", "boat"], [" "]):
        with pytest.raises(SettingsError, match="name each label once"):
            zero_shot(str(TINY / "clip"), labels)
    with pytest.raises(WeightsError, match=r"has no text encoder \(onnx/text_model\.onnx is missing\)"):
        zero_shot(str(TINY / "dinov2"), ["boat"])
    shutil.copytree(TINY / "siglip2", tmp_path / "siglip")
    (tmp_path / "siglip" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="scale of the scores"):
        zero_shot(str(tmp_path / "siglip"), ["boat"])
    shutil.copyfile(TINY / "clip" / "onnx" / "text_model.onnx", tmp_path / "siglip" / "onnx" / "text_model.onnx")
    shutil.copyfile(TINY / "siglip2" / "model.safetensors", tmp_path / "siglip" / "model.safetensors")
    with pytest.raises(SettingsError, match="have 16 features, but its texts 12"):
        zero_shot(str(tmp_path / "siglip"), ["boat"])


def test_tag_needs_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from polytag.cli import app

    write_photos(tmp_path / "photos", "clip")
    base = ["tag", str(tmp_path / "photos"), "--format", "csv", "-q"]
    with pytest.raises(SystemExit) as ended:
        app([*base, "--labels", "boat,two people", "--encoder", str(TINY / "clip")])
    assert ended.value.code == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "image,labels,error,boat,two people" and len(rows) == 6
    for row in rows[1:]:
        _, labels, _, boat, people = row.split(",")
        assert ("boat" in labels) == (float(boat) >= CLIP_THRESHOLD)
        assert ("two people" in labels) == (float(people) >= CLIP_THRESHOLD)
    for arguments, message in (
        ([*base, "--labels", "boat"], "--labels and --encoder belong together"),
        ([*base[:1], str(tmp_path), *base[2:]], "is not a bundle"),
    ):
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert ended.value.code == 2 and message in capsys.readouterr().err
