"""Labels without training: the scores are those that the library computes from photos and texts."""

import hashlib
import io
import json
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from polytag.cli import app
from polytag.errors import SettingsError, WeightsError
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.text import find_text_encoder, read_scalars
from polytag.models.encoders.zero_shot import CLIP_THRESHOLD, PROMPTS, zero_shot
from polytag.photos.cache_room import cache_folder
from polytag.serving.tagging.tag import settings_of
from polytag.serving.tagging.unfinished import UnfinishedRows
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


def test_the_card_claims_no_training(tmp_path: Path) -> None:
    bundle = zero_shot(str(TINY / "clip"), ["boat", "sunset"]).save(tmp_path / "bundle")
    card = (bundle.path / "MODEL_CARD.md").read_text()
    for told in (
        "It is a pretrained image encoder whose embeddings are compared with texts about the labels",
        "- Output: a score for each label",
        "polytag trained none of them",
        "Photos: none. No photos trained or validated this model.",
        "a photo of {}.",
        "No photos were used to choose thresholds: each is 0.25 unless it was set by hand.",
        "The score is a cosine similarity, which is not a probability.",
    ):
        assert told in card, told
    for untrue in ("was trained on", "validation photos were", "Training time", "Output: a probability"):
        assert untrue not in card, untrue


def test_labelled_photos_choose_thresholds_though_none_trained_the_model(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", "clip")
    bundle = zero_shot(str(TINY / "clip"), ["boat", "sunset"]).save(tmp_path / "bundle")
    boat = np.stack(list(bundle.stream(paths)))[:, 0]
    limit = float(np.sort(boat)[2])
    rows = [f"{path},{'boat' if score >= limit else ''}" for path, score in zip(paths, boat, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    result = CliRunner().invoke(
        app, ["thresholds", str(bundle.path), str(tmp_path / "labels.csv"), "--objective", "f1"]
    )
    assert result.exit_code == 0, result.output
    again = Bundle(bundle.path)
    assert again.manifest["objective"] == "f1" and again.manifest["chosen"]["photos"] == 5
    assert again.thresholds[0] != pytest.approx(CLIP_THRESHOLD) and again.thresholds[1] == pytest.approx(CLIP_THRESHOLD)
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "Photos: 5 for thresholds. No photos trained" in card
    assert "Thresholds were chosen on 5 photos (all photos of" in card
    assert "0.25" not in card.replace("0.250", "") and "were used to choose" not in card


def test_the_sigmoid_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    commit = hashlib.sha1(str(tmp_path).encode()).hexdigest()
    repository = tmp_path / "models--some--siglip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(TINY / "siglip2", snapshot := repository / "snapshots" / commit)
    (snapshot / "model.safetensors").unlink()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    opened = []

    class Online:
        def open(self, path: str, mode: str, revision: str, **_: object) -> BinaryIO:
            opened.append((path, revision))
            return (TINY / "siglip2" / "model.safetensors").open("rb")

    class Offline:
        def open(self, *_: object, **__: object) -> BinaryIO:
            raise RuntimeError("no connection")  # an error of the HTTP library, which is not an `OSError`

    monkeypatch.setattr(hub, "HfFileSystem", Offline)
    with pytest.raises(WeightsError, match=r"cannot be read: check the connection, or put model\.safe"):
        find_text_encoder("hf:some/siglip")
    monkeypatch.setattr(hub, "HfFileSystem", Online)
    first = find_text_encoder("hf:some/siglip")
    assert first.scale == pytest.approx(np.exp(1.1)) and first.bias == pytest.approx(-0.4)
    monkeypatch.setattr(hub, "HfFileSystem", Offline)
    assert find_text_encoder("hf:some/siglip") == first
    assert opened == [("some/siglip/model.safetensors", commit)]
    (kept,) = (cache_folder() / "encoders").glob(f"some--siglip-{commit}.json")
    kept.write_text('{"logit_scale": "much"')
    monkeypatch.setattr(hub, "HfFileSystem", Online)
    assert find_text_encoder("hf:some/siglip") == first and len(opened) == 2
    kept.unlink()

    class Exported(Online):
        """Repositories with ONNX files often contain no others."""

        def open(self, path: str, mode: str, revision: str, **_: object) -> BinaryIO:
            if path.startswith("some/"):
                raise FileNotFoundError(path)
            return super().open(path, mode, revision)

    monkeypatch.setattr(hub, "HfFileSystem", Exported)
    with pytest.raises(WeightsError, match="scale of the scores"):
        find_text_encoder("hf:some/siglip")
    (snapshot / "README.md").write_text("---\nbase_model: google/siglip\n---\n")
    assert find_text_encoder("hf:some/siglip") == first
    assert opened[-1] == ("google/siglip/model.safetensors", None)


def test_texts_are_filled_with_the_token_that_the_model_knows(tmp_path: Path) -> None:
    shutil.copytree(TINY / "siglip2", tmp_path / "siglip")
    (tmp_path / "siglip" / "tokenizer_config.json").unlink()
    with pytest.raises(WeightsError, match="with its pad_token beside"):
        find_text_encoder(str(tmp_path / "siglip"))
    (tmp_path / "siglip" / "tokenizer_config.json").write_text('{"pad_token": "no such token"}')
    with pytest.raises(WeightsError, match="with its pad_token beside"):
        find_text_encoder(str(tmp_path / "siglip"))


@pytest.mark.parametrize("family", ["clip", "siglip2"])
def test_a_graph_that_takes_no_texts_is_refused_in_one_line(family: str, tmp_path: Path) -> None:
    shutil.copytree(TINY / family, tmp_path / "encoder")
    path = tmp_path / "encoder" / "onnx" / "text_model.onnx"
    model = onnx.load(path)
    output = next(value for value in model.graph.output if len(value.type.tensor_type.shape.dim) == 2)
    model.graph.node.append(onnx.helper.make_node("Flatten", [output.name], ["flat"], axis=0))
    model.graph.node.append(onnx.helper.make_node("Squeeze", ["flat"], ["all"]))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("all", onnx.TensorProto.FLOAT, None))
    onnx.save(model, path)
    with pytest.raises(WeightsError, match="has no vector as output"):
        find_text_encoder(str(tmp_path / "encoder"))(["boat"])
    model.graph.input.append(onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1, 3]))
    model.graph.node.append(onnx.helper.make_node("Identity", ["pixels"], ["more"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1, 3]))
    onnx.save(model, path)
    with pytest.raises(WeightsError, match="does not take texts"):
        find_text_encoder(str(tmp_path / "encoder"))(["boat"])


@pytest.mark.parametrize(
    ("dtype", "content"), [("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", None)], ids=lambda one: str(one)
)
def test_single_numbers_are_read_in_every_type(dtype: str, content: str | None) -> None:
    values = np.array([4.71875, -16.5])  # exact in all these types
    if content is None:
        raw = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        raw = values.astype(content).tobytes()
    half = len(raw) // 2
    header = {
        "logit_scale": {"dtype": dtype, "shape": [1], "data_offsets": [0, half]},
        "logit_bias": {"dtype": dtype, "shape": [1], "data_offsets": [half, 2 * half]},
    }
    text = json.dumps(header).encode()
    file = io.BytesIO(struct.pack("<Q", len(text)) + text + raw)
    assert read_scalars(file, ("logit_scale", "logit_bias")) == {"logit_scale": 4.71875, "logit_bias": -16.5}
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_scalars(io.BytesIO(b"<!doctype html> and more"), ("logit_scale",))


def test_a_bundle_is_saved_once_and_only_if_photos_can_be_tagged(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "clip")
    saved, out = tmp_path / "saved", tmp_path / "tags.jsonl"

    def tag(photos: str, *more: object, labels: str = "boat,sea") -> Result:
        words = ["tag", tmp_path / photos, "--labels", labels, "--encoder", TINY / "clip", "--out", out]
        return CliRunner().invoke(app, [*map(str, [*words, "--save-bundle", saved, *more])])

    assert "omit --engine int8" in tag("photos", "--engine", "int8").stderr
    assert tag("typo*.png").exit_code == 2 and not saved.exists()
    assert tag("photos").exit_code == 0 and saved.exists()
    out.unlink()
    assert "saved exists already" in tag("photos").stderr
    rows = UnfinishedRows(out, settings_of(Bundle(saved), Bundle(saved).thresholds, None), "bundle", False, False)
    del rows
    assert tag("photos", "--resume").exit_code == 0 and len(out.read_text().splitlines()) == 5
    out.unlink()
    assert "saved exists already" in tag("photos", "--resume", labels="boat,sky").stderr


def test_tag_needs_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
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
