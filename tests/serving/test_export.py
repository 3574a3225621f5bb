"""Exports give what the bundle gives, tell programs all they need, and are refused where they do not."""

import ast
import errno
import json
import os
import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app
from polytag.errors import DataError, MachineError, SettingsError
from polytag.models.backend import keras
from polytag.models.bundle.seen import seen_photos
from polytag.models.bundle.write import write_bundle
from polytag.models.networks.architectures import MODELS
from polytag.photos.content import content_hash
from polytag.photos.decode import decode
from polytag.serving import export as exports
from polytag.serving.export import Format, export

CONSUMERS = Path(__file__).parents[2] / "docs" / "consumers"
SCRIPTS = {form: CONSUMERS / f"with_{form.partition('-')[0]}.py" for form in Format}
SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pt.Dataset:
    return pt.read(pt.write_sample(tmp_path_factory.mktemp("export") / "scenes", 90, 48))


@pytest.fixture(scope="module")
def bundle(data, tmp_path_factory) -> pt.Bundle:
    """A network that nobody has trained, but whose probabilities differ a lot from photo to photo."""
    keras.utils.set_random_seed(0)
    model = MODELS["baseline"](len(data.labels), SIZE, filters1=8, filters2=8, filters3=8, dense=16)
    seen = data.paths[:60]
    dense, last = model.layers[-3], model.layers[-1]
    hidden = keras.Model(model.inputs, dense.output).predict(np.stack([decode(path, SIZE) for path in seen]), verbose=0)
    kernel = last.get_weights()[0]
    kernel *= 2 / (hidden @ kernel).std(axis=0)
    last.set_weights([kernel, -(hidden @ kernel).mean(axis=0)])
    about = {"history": [], "fit_seconds": 0, "parameters": 0, "trainable_parameters": 0, "labels": list(data.labels)}
    bundle = write_bundle(
        model,
        about | {"recipe": {"model": "baseline", "image_size": SIZE}},
        seen_photos(data.take(np.arange(60)), "train"),
    )
    bundle.record(thresholds=np.linspace(0.2, 0.8, len(data.labels)).tolist())
    return bundle.save(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="module")
def odd_photos(data, tmp_path_factory) -> Path:
    """Photos at most twice as large as the network's input: upright, lying on each side, grey, and a wide PNG."""
    folder = tmp_path_factory.mktemp("odd")
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        with Image.open(data.paths[turn]) as photo:
            photo.resize((60, 44)).save(folder / f"turned{turn}.jpg", exif=exif)
    with Image.open(data.paths[9]) as photo:
        photo.convert("L").save(folder / "grey.jpg")
        photo.resize((64, 33)).save(folder / "wide.png")
    return folder


@pytest.fixture(scope="module")
def exported(bundle, data, odd_photos, tmp_path_factory):
    """``exported(form)`` exports once, and returns the folder."""
    done: dict[Format, Path] = {}

    def once(form: Format) -> Path:
        if form not in done:
            out = tmp_path_factory.mktemp("exports") / form
            with pytest.MonkeyPatch.context() as patch:
                # The mAP of a random network is chance, and so is its change.
                patch.setattr(exports, "MAX_LOSS", 1.0)
                export(bundle, form, out, photos=odd_photos, data=data if form is Format.litert_int8 else None)
            done[form] = out
        return done[form]

    return once


@pytest.mark.parametrize("form", Format)
def test_what_is_written_describes_itself(exported, bundle, odd_photos, form: Format) -> None:
    out = exported(form)
    facts = json.loads((out / "model.json").read_text(encoding="utf-8"))
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {name: content_hash(out / name) for name in files - {"model.json"}} == facts["sha256"]
    assert (out / facts["file"]).exists()
    assert facts["labels"] == list(bundle.labels)
    assert np.array_equal(np.float32(facts["thresholds"]), bundle.thresholds)
    assert facts["input"]["shape"] == [None, SIZE, SIZE, 3]
    assert facts["parity"]["photos"] == f"10 photos of {odd_photos.name}"
    inside = embedded(form, out / facts["file"])
    assert {key: facts[key] for key in inside} == inside
    assert {"labels", "thresholds", "input", "output", "preparation"} <= inside.keys()


def embedded(form: Format, path: Path) -> dict:
    """The description in the file itself, read by the means of its own format."""
    if form is Format.savedmodel:
        return json.loads((path / "assets.extra" / "polytag.json").read_text(encoding="utf-8"))
    if form is Format.onnx:
        import onnxruntime

        found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    elif form is Format.openvino:
        import openvino

        network = openvino.Core().read_model(path)
        keys = ("format", "labels", "thresholds", "input", "output", "preparation", "note")
        found = {key: network.get_rt_info(["polytag", key]).astype(str) for key in keys}
    else:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("polytag.json"))
    return {key: json.loads(text) if text[0] in "[{" else text for key, text in found.items()}


@pytest.mark.parametrize("form", Format)
def test_a_program_without_polytag_gets_the_same_probabilities(
    exported, bundle, odd_photos, form: Format, tmp_path, monkeypatch, capsys
) -> None:
    out, script = exported(form), SCRIPTS[form]
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert "polytag" not in imported
    out = Path(shutil.copytree(out, tmp_path / "export"))
    facts = json.loads((out / "model.json").read_text(encoding="utf-8"))
    (out / "model.json").write_text(json.dumps(facts | {"thresholds": [0.0] * len(bundle.labels)}))
    photos = sorted(str(path) for path in odd_photos.iterdir())
    monkeypatch.setattr(sys, "argv", [str(script), str(out), *photos])
    runpy.run_path(str(script), run_name="__main__")
    printed = [line.rpartition(": ")[2].rpartition(" ") for line in capsys.readouterr().out.splitlines()]
    assert [label for label, _, _ in printed] == list(bundle.labels) * len(photos)
    got = np.array([float(p) for _, _, p in printed]).reshape(len(photos), -1)
    expected, _ = bundle.predict(photos)
    assert np.abs(got - expected).max() <= (0.1 if form is Format.litert_int8 else 1e-4)
    assert np.ptp(expected, axis=0).min() > 0.1  # or any photo would do


@pytest.mark.parametrize("form", [form for form in Format if form is not Format.litert_int8])
def test_floats_are_within_a_ten_thousandth(exported, form: Format) -> None:
    differences = json.loads((exported(form) / "model.json").read_text())["parity"]["largest_difference"]
    assert list(differences) == ["batch 1", "batch 5"]
    assert max(differences.values()) <= 1e-4


def test_eight_bits_say_what_they_cost(exported, bundle, data) -> None:
    facts = json.loads((exported(Format.litert_int8) / "model.json").read_text())
    parity = facts["parity"]
    assert parity["judged"] == int((~bundle.seen(data)).sum())
    assert 0 < parity["mean_difference"] < parity["largest_difference"]["batch 5"] < 0.1
    unseen = data.take(~bundle.seen(data))
    expected = pt.evaluate(bundle, unseen, min_photos=1).scores["mean_average_precision"]
    assert parity["mean_average_precision"]["model"] == pytest.approx(expected, abs=1e-3)
    assert parity["mean_average_precision"]["export"] != parity["mean_average_precision"]["model"]


def refused(match: str, *arguments, error: type[Exception] = SettingsError, **settings) -> None:
    """An export is refused in one line, and leaves nothing."""
    out = Path(arguments[2])
    before = sorted(os.listdir(out.parent))
    with pytest.raises(error, match=match) as raised:
        export(*arguments, **settings)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir(out.parent)) == before


def test_one_that_differs_is_refused(bundle, tmp_path, monkeypatch) -> None:
    write = exports.write_network

    def wrong(model, form, path, calibration) -> None:
        model.layers[-1].bias.assign_add(np.full(len(bundle.labels), 0.01, dtype=np.float32))
        write(model, form, path, calibration)
        model.layers[-1].bias.assign_sub(np.full(len(bundle.labels), 0.01, dtype=np.float32))

    monkeypatch.setattr(exports, "write_network", wrong)
    refused(r"differ from those of the model by up to 0\.00\d+ at batch 1", bundle, "keras", tmp_path / "out")


def test_eight_bits_that_cost_too_much_are_refused(bundle, data, tmp_path, monkeypatch, exported) -> None:
    made = exported(Format.litert_int8) / "model.tflite"
    monkeypatch.setattr(
        exports, "write_network", lambda model, form, path, calibration: path.write_bytes(made.read_bytes())
    )
    monkeypatch.setattr(exports, "embed_description", lambda form, path, facts: None)
    monkeypatch.setattr(exports, "MAX_LOSS", -1.0)
    refused(r"lowers the mAP from 0\.\d+ to 0\.\d+ on \d+ photos", bundle, "litert-int8", tmp_path / "out", data=data)


def test_what_a_converter_cannot_do_is_one_line(bundle, tmp_path, monkeypatch, capfd) -> None:
    def fails(*arguments) -> None:
        os.write(2, b"a native library's complaints\n")
        raise RuntimeError("no such operation\nand a long story")

    monkeypatch.setattr(exports, "write_network", fails)
    refused(r"cannot be exported to onnx \(no such operation\)", bundle, "onnx", tmp_path / "out")
    assert capfd.readouterr().err == ""


def test_trouble_of_the_machine_is_not_blamed_on_the_format(bundle, tmp_path, monkeypatch) -> None:
    def fails(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exports, "write_network", fails)
    with pytest.raises(MachineError, match="free some disk space"):
        export(bundle, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_refused_at_once(bundle, data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(exports, "write_network", None)
    out = tmp_path / "out"
    refused("choose from keras, savedmodel, onnx", bundle, "pickle", out)
    refused("with --data", bundle, "litert-int8", out)
    (tmp_path / "empty").mkdir()
    refused("contains no readable photos", bundle, "onnx", out, photos=tmp_path / "empty", error=DataError)
    refused("exists already", bundle, "onnx", tmp_path / "empty")
    strange = data.take(~bundle.seen(data))
    refused("none of these photos were used", bundle, "litert-int8", out, data=strange, error=DataError)
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: None)
    refused(r"pip install 'polytag\[export\]'", bundle, "openvino", out)


def test_the_command_says_what_it_compared_by(bundle, tmp_path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(bundle.path), str(out), "--format", "onnx"])
    assert result.exit_code == 0, result.output
    assert "at batch 1" in result.output and "at batch 5" in result.output and "synthetic scenes" in result.output
    again = CliRunner().invoke(app, ["export", str(bundle.path), str(out), "--format", "onnx"])
    assert again.exit_code == 2 and again.stderr.startswith("polytag: ") and len(again.stderr.splitlines()) == 1
