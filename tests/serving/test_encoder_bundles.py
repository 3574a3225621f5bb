"""Bundles with an encoder in ONNX: one graph, whose probabilities are the same wherever it runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

import polytag as pt
from polytag.errors import BundleError, SettingsError
from polytag.evaluation.calibration import Calibration
from polytag.models.backend import keras
from polytag.models.bundle.seen import PHOTO
from polytag.models.bundle.write import write_bundle
from polytag.models.classical.methods import fit_head
from polytag.models.encoders.embedder import open_embedder
from polytag.models.encoders.encoder import Encoder, find_encoder
from polytag.models.networks.architectures import head
from polytag.models.networks.calibrated import calibrated
from polytag.serving.explaining.explain import explain
from polytag.serving.export import export
from polytag.serving.server.server import tagging_app
from tiny_encoders import FAMILIES, TINY, TOLERANCE, expected, write_photos

LABELS = ("boat", "sunset", "tree")
CURVE = Calibration("linear", np.array([1.5, 0.7, 1.0]), np.array([0.1, -0.2, 0.0]), np.zeros((3, 0)), np.zeros((3, 0)))


def random_head(width: int) -> keras.Model:
    keras.utils.set_random_seed(1)
    return calibrated(head(width, len(LABELS), dense=8), CURVE)


def bundled(network: keras.Model, encoder: Encoder, folder: Path) -> pt.Bundle:
    facts = {"history": [], "fit_seconds": 1.0, "parameters": 1, "trainable_parameters": 1, "encoder": encoder.facts}
    recipe = {"model": "transfer", "image_size": encoder.image_size, "backbone": encoder.backbone}
    manifest = {"labels": list(LABELS), "recipe": recipe, **facts}
    return write_bundle(network, manifest, np.zeros(0, PHOTO), encoder.path).save(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_same_probabilities_in_tag_and_server(family: str, tmp_path: Path) -> None:
    encoder, (_, features) = find_encoder(str(TINY / family)), expected(family)
    network, paths = random_head(encoder.width), write_photos(tmp_path / "photos", family)
    wanted = network.predict(features, verbose=0)
    bundle = bundled(network, encoder, tmp_path / "bundle")
    assert np.abs(np.stack(list(bundle.stream(paths))) - wanted).max() < TOLERANCE
    client = TestClient(tagging_app({"tiny": bundle}), "http://127.0.0.1:8000")
    with client:
        (image,) = client.post("/v1/tag", content=Path(paths[2]).read_bytes()).json()["images"]
    answer = {label["label"]: label["probability"] for label in image["labels"]}
    assert np.abs(np.array([answer[label] for label in LABELS]) - wanted[2]).max() < TOLERANCE
    embedded = np.stack(list(open_embedder(str(bundle.path)).stream(paths)))
    assert np.abs(embedded - features).max() < TOLERANCE


@pytest.mark.parametrize("method", ["binary_relevance", "chains", "powerset", "rakel", "mlknn"])
@pytest.mark.parametrize("family", ["convnextv2", "dinov2-registers"])  # opsets 13 and 18
def test_every_classical_method_joins_the_encoder(method: str, family: str, tmp_path: Path) -> None:
    encoder, rng = find_encoder(str(TINY / family)), np.random.default_rng(0)
    embeddings = rng.normal(size=(60, encoder.width)).astype(np.float32)
    targets = (embeddings[:, :3] > 0.2).astype(np.int8)
    network = fit_head(method, embeddings, targets, embeddings, targets)[0]
    bundle = bundled(network, encoder, tmp_path / "bundle")
    photos, features = expected(family)
    assert np.abs(bundle.run(photos) - network.predict(features, verbose=0)).max() < TOLERANCE
    if method == "mlknn":  # Grad-CAM would find no gradients.
        (found,) = explain(bundle, write_photos(tmp_path / "photos", family)[0], ["boat"])
        assert found.heat.shape == (32, 32) and np.isfinite(found.heat).all()


@pytest.fixture
def bundle(tmp_path: Path) -> pt.Bundle:
    encoder = find_encoder(str(TINY / "clip"))
    return bundled(random_head(encoder.width), encoder, tmp_path / "bundle")


def test_exports_that_need_keras_are_refused(bundle: pt.Bundle, tmp_path: Path) -> None:
    for form in ("keras", "savedmodel", "litert"):
        with pytest.raises(SettingsError, match=f"cannot become {form}: export to onnx or openvino"):
            export(bundle, form, tmp_path / form)
    with pytest.raises(SettingsError, match="is an ONNX graph, which Keras cannot run"):
        bundle.keras_model()


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_other_exports_are_compared_with_the_bundle(form: str, bundle: pt.Bundle, tmp_path: Path) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    facts = export(bundle, form, tmp_path / form)
    assert max(facts["parity"]["largest_difference"].values()) < TOLERANCE
    if form == "onnx":
        stored = {one.key: one.value for one in onnx.load(tmp_path / form / "model.onnx").metadata_props}
        assert json.loads(stored["labels"]) == list(LABELS)


def test_weights_in_another_file_are_copied_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "big" / "model.onnx"
    path.parent.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (path.parent / name).write_bytes((TINY / "vit" / name).read_bytes())
    onnx.save(
        onnx.load(TINY / "vit" / "onnx" / "model.onnx"),
        path,
        save_as_external_data=True,
        location="data",
        size_threshold=0,
    )
    encoder = find_encoder(str(path))
    network = random_head(encoder.width)
    bundle = bundled(network, encoder, tmp_path / "bundle")
    photos, features = expected("vit")
    assert np.abs(bundle.run(photos) - network.predict(features, verbose=0)).max() < TOLERANCE
    assert np.abs(open_embedder(str(bundle.path)).run(photos) - features).max() < TOLERANCE
    assert export(bundle, "onnx", tmp_path / "onnx")["parity"]
    with (bundle.path / "encoder-0.bin").open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(BundleError, match=r"encoder-0\.bin is damaged"):
        _ = pt.Bundle(bundle.path).run


class _ByColour(pt.Bundle):
    """A model without gradients, for which only red counts."""

    def __init__(self) -> None:
        self.labels, self.image_size, self.thresholds = ("red",), 32, np.array([0.5], np.float32)

    in_keras, threads = False, 2

    @property
    def run(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:  # type: ignore[override]
        return lambda photos: photos[..., 0].mean(axis=(1, 2))[:, None].astype(np.float32) / 256


def test_covering_shows_where_a_label_is_seen() -> None:
    import io

    from PIL import Image

    photo, file = np.zeros((32, 32, 3), np.uint8), io.BytesIO()
    photo[4:12, 20:28] = 255, 0, 0
    Image.fromarray(photo).save(file, "PNG")
    (found,) = explain(_ByColour(), file.getvalue(), ["red"])
    row, column = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert 4 <= row < 12 and 20 <= column < 28
    assert found.heat[16:, :16].max() < 0.1
