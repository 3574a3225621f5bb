"""Encoders give the features that their own libraries compute, wherever their files come from."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from polytag.errors import SettingsError, WeightsError
from polytag.models.encoders.embedder import open_embedder
from polytag.models.encoders.encoder import find_encoder
from polytag.models.encoders.outputs import choose_output
from polytag.models.encoders.preprocessing import read_preprocessing
from polytag.models.encoders.source import Source, find_source
from polytag.models.encoders.text import find_text_encoder
from polytag.models.runtimes.onnx import OnnxModel
from tiny_encoders import FAMILIES, TINY, TOLERANCE, expected, write_photos


def assert_features(path: Path, family: str) -> None:
    photos, features = expected(family)
    assert np.abs(OnnxModel(path)(photos) - features).max() < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_features_equal_those_of_the_library(family: str) -> None:
    encoder = find_encoder(str(TINY / family))
    assert encoder.path is not None and encoder.width == expected(family)[1].shape[1]
    assert_features(encoder.path, family)


@pytest.mark.parametrize("family", ["dinov2-registers", "hgnetv2"])
def test_photos_become_the_same_features(family: str, tmp_path: Path) -> None:
    paths = write_photos(tmp_path, family)
    found = np.stack(list(open_embedder(str(TINY / family)).stream(paths)))
    assert np.abs(found - expected(family)[1]).max() < TOLERANCE


def test_the_summary_says_what_was_chosen() -> None:
    summary = find_encoder(str(TINY / "dinov2-registers")).summary
    assert "output last_hidden_state (CLS token and mean of the patches; 4 register tokens left out" in summary
    assert find_encoder(str(TINY / "mobilenetv4")).facts["licence"] == "apache-2.0"


def test_another_output_can_be_chosen() -> None:
    encoder = find_encoder(str(TINY / "clip"), output="last_hidden_state")
    assert (encoder.facts["pooling"], encoder.width) == ("CLS token and mean of the patches", 32)
    with pytest.raises(SettingsError, match="no output 'nothing': choose from image_embeds, last_hidden_state"):
        find_encoder(str(TINY / "clip"), output="nothing")


def test_a_name_of_the_hub_is_found_in_its_cache_without_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(TINY / "siglip2", repository / "snapshots" / ("0" * 40))
    (repository / "snapshots" / ("0" * 40) / "README.md").write_text(
        "---\ntags: [x]\nlicense: apache-2.0\n---\n# Hello"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    encoder = find_encoder("hf:some/encoder")
    assert (encoder.facts["revision"], encoder.facts["licence"]) == ("0" * 40, "apache-2.0")
    assert encoder.path is not None
    assert_features(encoder.path, "siglip2")
    assert find_source(f"hf:some/encoder@{'0' * 40}").model == find_source("hf:some/encoder").model
    with pytest.raises(WeightsError, match="hf:some/other has no encoder in ONNX, or it cannot be downloaded"):
        find_encoder("hf:some/other")
    with pytest.raises(SettingsError, match="write hf:OWNER/REPO"):
        find_encoder("hf:other")


def test_every_file_that_a_graph_names_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import EntryNotFoundError

    published, local = tmp_path / "published", tmp_path / "local"
    shutil.copytree(TINY / "dinov2", published)
    model = onnx.load(path := published / "onnx" / "model.onnx")
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    # As in large repositories: the second half of the weights is in a file of its own.
    external = [one for one in model.graph.initializer if one.external_data]
    for one in external[len(external) // 2 :]:
        next(entry for entry in one.external_data if entry.key == "location").value = "model.onnx_data_1"
    path.write_bytes(model.SerializeToString())
    shutil.copyfile(path.with_name("model.onnx_data"), path.with_name("model.onnx_data_1"))

    def download(repository: str, place: str, revision: str | None = None) -> str:
        if not (published / place).is_file():
            raise EntryNotFoundError(place)
        (local / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published / place, local / place)
        return str(local / place)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    encoder = find_encoder("hf:some/encoder")
    assert encoder.path is not None
    assert_features(encoder.path, "dinov2")
    (published / "onnx" / "model.onnx_data_1").unlink()
    with pytest.raises(WeightsError, match=r"model\.onnx_data_1 of some/encoder cannot be downloaded: check"):
        find_encoder("hf:some/encoder")


def test_any_error_of_the_connection_is_one_line_unless_the_cache_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, constants = pytest.importorskip("huggingface_hub"), pytest.importorskip("huggingface_hub.constants")

    class ProxyError(Exception):
        """As raised by the HTTP library, whose errors are not `OSError`."""

    def download(*_: object, **__: object) -> str:
        raise ProxyError("the proxy refused\nall details")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(WeightsError, match=r"some/encoder cannot be downloaded \(the proxy refused\): check the name"):
        find_source("hf:some/encoder")
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1" * 40)
    for name in ("onnx/vision_model.onnx", "preprocessor_config.json", "config.json"):
        place = repository / "snapshots" / ("1" * 40) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TINY / "clip" / name, place)
    for name in ("open_clip_config.json", "README.md"):  # known not to exist
        (place := repository / ".no_exist" / ("1" * 40) / name).parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    assert find_source("hf:some/encoder").revision == "1" * 40


def test_a_failed_connection_is_not_tried_for_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, constants = pytest.importorskip("huggingface_hub"), pytest.importorskip("huggingface_hub.constants")
    from huggingface_hub.errors import LocalEntryNotFoundError

    tried = []

    def download(repository: str, place: str, **_: object) -> str:
        tried.append(place)
        raise LocalEntryNotFoundError("no connection, and the file is not in the cache")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    repository = tmp_path / "models--some--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("2" * 40)
    shutil.copytree(TINY / "clip", repository / "snapshots" / ("2" * 40))
    assert find_source("hf:some/encoder").revision == "2" * 40 and find_text_encoder("hf:some/encoder").length
    assert len(tried) == 1


def test_weights_that_are_written_again_do_not_change_the_cache(tmp_path: Path) -> None:
    shutil.copytree(TINY / "dinov2", tmp_path / "mine")
    path = tmp_path / "mine" / "onnx" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    before = find_encoder(str(tmp_path / "mine"))
    weights = path.with_name("model.onnx_data")
    content = weights.read_bytes()
    weights.write_bytes(bytes(len(content)))  # the same file
    assert find_encoder(str(tmp_path / "mine")).sha256 != before.sha256
    assert before.path is not None
    assert_features(before.path, "dinov2")


def test_damaged_entries_of_the_cache_are_made_again(tmp_path: Path) -> None:
    shutil.copytree(TINY / "vit", tmp_path / "vit")
    config = json.loads((tmp_path / "vit" / "config.json").read_text())
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config | {"of": str(tmp_path)}))
    path = find_encoder(str(tmp_path / "vit")).path
    assert path is not None
    shapes = path.with_name("shapes.json")
    for damage in (lambda: shapes.write_text(""), lambda: shapes.write_text('{"x": 1}'), shapes.unlink, path.unlink):
        damage()
        find_encoder(str(tmp_path / "vit"))
        assert_features(path, "vit")


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", "mit"),
        ("licence: 'cc-by-4.0'", "cc-by-4.0"),
        ("license:\n- apache-2.0\n- mit", "apache-2.0"),
        ("license:\ntags:\n- x", ""),
        ("tags: [x]", ""),
    ],
)
def test_the_licence_is_read_from_the_front_matter(front: str, licence: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        f"---\nlanguage: en\n{front}\nbase_model: google/siglip-base\n---\n# license: no"
    )
    source = Source("x", tmp_path / "model.onnx", tmp_path)
    assert (source.licence, source.base) == (licence, "google/siglip-base")
    (tmp_path / "config.json").write_text('{"pretrained_cfg": null}')
    assert source.licence == licence


def test_weights_in_another_file_stay_there(tmp_path: Path) -> None:
    shutil.copytree(TINY / "dinov2", tmp_path / "big")
    path = tmp_path / "big" / "onnx" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    encoder = find_encoder(str(tmp_path / "big"))
    assert encoder.path is not None and (encoder.path.parent / "encoder-0.bin").stat().st_size > 20_000
    assert_features(encoder.path, "dinov2")
    path.with_name("model.onnx_data").unlink()
    with pytest.raises(WeightsError, match=r"model\.onnx_data of the encoder are missing"):
        find_encoder(str(tmp_path / "big"))


def test_changed_weights_are_another_encoder(tmp_path: Path) -> None:
    shutil.copytree(TINY / "vit", tmp_path / "vit")
    before, path = find_encoder(str(tmp_path / "vit")), tmp_path / "vit" / "onnx" / "model.onnx"
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.name.endswith("bias"))
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, path)
    assert find_encoder(str(tmp_path / "vit")).name != before.name


def test_what_cannot_be_an_encoder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        find_encoder(str(tmp_path / "no.onnx"))
    shutil.copytree(TINY / "vit", tmp_path / "vit")
    with pytest.raises(SettingsError, match="needs photos at 32 px, not 48"):
        find_encoder(str(tmp_path / "vit"), image_size=48)
    model = onnx.load(path := tmp_path / "vit" / "onnx" / "model.onnx")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    onnx.save(model, path)
    with pytest.raises(WeightsError, match="does not run on two photos at 48 px"):
        find_encoder(str(tmp_path / "vit"), image_size=48)
    path.write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"model\.onnx is not an ONNX model"):
        find_encoder(str(tmp_path / "vit"))
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"Add preprocessor_config\.json"):
        find_encoder(str(tmp_path / "vit"))


@pytest.mark.parametrize(
    ("file", "config", "size", "mean"),
    [
        ("preprocessor_config.json", {"size": 224, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, 224, 0.5),
        (
            "preprocessor_config.json",
            {"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
             "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            224,
            0.5,
        ),
        ("preprocessor_config.json", {"do_normalize": False, "size": {"height": 384, "width": 384}}, 384, 0.0),
        ("config.json", {"pretrained_cfg": {"input_size": [3, 518, 518], "mean": [0.4] * 3, "std": [1] * 3}}, 518, 0.4),
        (
            "open_clip_config.json",
            {"preprocess_cfg": {"mean": [0.3] * 3, "std": [1] * 3}, "model_cfg": {"vision_cfg": {"image_size": 336}}},
            336,
            0.3,
        ),
    ],
)  # fmt: skip
def test_pixels_are_prepared_as_each_configuration_says(
    file: str, config: dict, size: int, mean: float, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(json.dumps(config))
    found = read_preprocessing(tmp_path)
    assert (found.size, found.mean, round(found.scale * 255, 6)) == (size, (mean,) * 3, 1)


def test_preparations_that_differ_from_the_usual_are_kept(tmp_path: Path) -> None:
    def read(**config: object) -> tuple:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
        found = read_preprocessing(tmp_path)
        return found.mean[0], found.deviation[0], found.blue_first

    usual = {"image_mean": [0.4] * 3, "image_std": [0.5] * 3}
    assert read(**usual) == (0.4, 0.5, False)
    # 255 becomes 1, then 0 with the offset, then (0 - 0.4) / 0.5
    assert read(**usual, rescale_offset=True) == (1.4, 0.5, False)
    assert read(do_normalize=False, rescale_offset=True) == (1.0, 1.0, False)
    assert read(**usual, image_processor_type="EfficientNetImageProcessor") == (0.4, 0.25, False)
    assert read(**usual, image_processor_type="EfficientNetImageProcessor", include_top=False) == (0.4, 0.5, False)
    assert read(do_flip_channel_order=True, do_rescale=True, size={"shortest_edge": 288}) == (0.0, 1.0, True)
    with pytest.raises(WeightsError, match="states no image_mean and image_std: add them"):
        read(do_normalize=True, image_processor_type="ViTImageProcessor")


@pytest.mark.parametrize("name", ["photo", "pixel_values"])
def test_channels_are_turned_and_any_name_of_the_input_is_possible(name: str, tmp_path: Path) -> None:
    shutil.copytree(TINY / "mobilenetv4", tmp_path / "encoder")
    path = tmp_path / "encoder" / "onnx" / "model.onnx"
    path = path if path.exists() else next((tmp_path / "encoder").rglob("*.onnx"))
    model = onnx.load(path)
    before = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = [name if one == before else one for one in node.input]
    model.graph.input[0].name = name
    onnx.save(model, path)
    plain = find_encoder(str(tmp_path / "encoder"))
    config = {"do_flip_channel_order": True, "size": plain.image_size}
    (tmp_path / "encoder" / "preprocessor_config.json").write_text(json.dumps(config))
    turned = find_encoder(str(tmp_path / "encoder"))
    config = {"do_normalize": False, "size": plain.image_size}
    (tmp_path / "encoder" / "preprocessor_config.json").write_text(json.dumps(config))
    straight = find_encoder(str(tmp_path / "encoder"))
    photos = np.random.default_rng(0).integers(0, 256, (2, plain.image_size, plain.image_size, 3), dtype=np.uint8)
    assert turned.path and straight.path and plain.facts["parameters"] == straight.facts["parameters"]
    np.testing.assert_allclose(
        OnnxModel(turned.path)(photos), OnnxModel(straight.path)(photos[..., ::-1].copy()), atol=1e-6
    )
    assert turned.facts["channels"] == "blue, green, red"


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    for content in (
        "[]",
        "{",
        '{"image_mean": 5, "image_std": 5}',
        '{"model_cfg": 5, "preprocess_cfg": 5}',
        '{"image_mean": [1, 1, 1], "image_std": [0, 1, 1]}',
    ):
        (tmp_path / "preprocessor_config.json").write_text(content)
        with pytest.raises(WeightsError, match=r"preprocessor_config\.json is damaged"):
            read_preprocessing(tmp_path)


def test_the_output_is_chosen_by_shape() -> None:
    def chosen(shapes: dict, config: dict | None = None, size: int = 224) -> tuple:
        found = choose_output(shapes, config or {}, size)
        return found.name, found.form, found.skipped, found.width

    assert chosen({"tokens": (2, 197, 8), "pooled": (2, 5)}) == ("pooled", "vector", 0, 5)
    assert chosen({"tokens": (2, 197, 8)}) == ("tokens", "tokens", 1, 16)
    assert chosen({"tokens": (2, 196, 8)}) == ("tokens", "tokens", 0, 8)
    assert chosen({"tokens": (2, 21, 8)}, {"patch_size": 14}, 56) == ("tokens", "tokens", 5, 16)
    assert chosen({"map": (2, 7, 7, 96)}) == ("map", "map, channels last", 0, 96)
    assert chosen({"map": (2, 96, 7, 7)}) == ("map", "map", 0, 96)
    assert chosen({"logits": (2, 1000), "map": (2, 96, 7, 7)}) == ("map", "map", 0, 96)
    with pytest.raises(WeightsError, match="no output of the encoder can become an embedding"):
        chosen({"boxes": (2, 3, 4, 5, 6)})
