"""Bad input on the command line: one clear line, exit code 2, nothing half-written, nothing changed."""

import errno
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app
from polytag.models.backbones.weights import find_weights
from polytag.models.options import TrainOptions
from polytag.serving.server.options import ServeOptions
from tiny_encoders import TINY


def photos(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        Image.new("RGB", (16, 16), (i % 256, 40, 90)).save(folder / name)


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(*arguments: object) -> str:
    """Run a command that must be refused, and give its message."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("polytag: "), result.stderr
    return lines[0]


GOOD = [f"{i}.png" for i in range(12)]
ROWS = "".join(f"{i}.png,{'dog' if i % 2 else 'cat|dog' if i % 4 else 'cat'}\n" for i in range(12))

BAD_TABLES = {
    "empty": ("", "is empty"),
    "header only": ("image,labels\n", "a header and no rows"),
    "one column": ("image\n0.png\n", "single column"),
    "wrong delimiter": ("image:labels\n0.png:dog\n", "single column"),
    "not UTF-8": ("image,labels\n0.png,кот\n".encode("cp1251"), "is not UTF-8 (line 2)"),
    "a path that is outside the folder": ("image,labels\n../../x.png,dog\n", "is in or below"),
    "duplicate label names": ("image,dog, dog\n0.png,1,0\n", "more than one column called dog"),
    "no labels": ("image,labels\n0.png,\n1.png,\n", "no label"),
    "never present": ("image,cat\n" + "".join(f"{i}.png,0\n" for i in range(12)), "cat (no training photo has it)"),
    "always present": (
        "image,labels\n" + "".join(f"{i}.png,dog\n" for i in range(12)),
        "dog (no training photo lacks it",
    ),
    "no 0/1": ("image,cat,dog\n" + "".join(f"{i}.png,{7 if i == 9 else i % 2},1\n" for i in range(12)), "line 11: '7'"),
    "fewer images than labels": ("image,labels\n0.png,a|b|c\n1.png,b|d|a\n2.png,c|d\n", "3 images for 4 labels"),
    "conflict": (f"image,labels\n{ROWS}3.png,cat\n", "3.png (lines 5, 14)"),
    "all missing": ("image,labels\nx.png,dog\ny.png,cat\n", "--images"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
@pytest.mark.parametrize("command", ["split", "compare", "train"])
def test_bad_tables(name: str, command: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    photos(data, GOOD)
    text, expected = BAD_TABLES[name]
    path = table(data, text)
    before = {p: p.read_bytes() for p in data.iterdir()}
    assert expected in refused(command, path, "--out", tmp_path / "out")
    assert {p: p.read_bytes() for p in data.iterdir()} == before
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(before)


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    photos(folder, GOOD)
    table(folder, "image,labels\n" + ROWS)
    return folder


def test_conflicts_are_decided_by_the_flag(data, tmp_path) -> None:
    table(data, f"image,labels\n{ROWS}3.png,cat\n")
    message = refused("split", data, "--out", tmp_path / "s.csv")
    assert "--conflicts unknown" in message
    result = CliRunner().invoke(app, ["split", str(data), "--out", str(tmp_path / "s.csv"), "--conflicts", "unknown"])
    assert result.exit_code == 0 and "12 images, 2 labels, 2 unknown entries" in result.output


def test_missing_and_unreadable_photos_are_named_and_the_rest_goes_on(data, tmp_path) -> None:
    (data / "4.png").unlink()
    result = CliRunner().invoke(app, ["split", str(data), "--out", str(tmp_path / "s.csv")])
    assert result.exit_code == 0
    assert "1 image left out because missing: 4.png" in result.output
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 12


def test_out(data, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep")
    for flags in ([], ["--resume"], ["--overwrite"]):
        assert "is not a run of polytag" in refused("compare", data, "--out", out, *flags)
    assert (out / "precious.txt").read_text() == "keep"
    assert "exclude each other" in refused("compare", data, "--out", tmp_path / "r", "--resume", "--overwrite")
    (tmp_path / "file").write_text("")
    assert "cannot be created" in refused("compare", data, "--out", tmp_path / "file" / "run")
    assert "is not a run" in refused("compare", data, "--out", tmp_path / "file")
    (tmp_path / "s.csv").write_text("old")
    assert "exists already" in refused("split", data, "--out", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_without_permission(data, tmp_path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot be written" in refused("split", data, "--out", locked / "s.csv")


def test_other_refusals(data, tmp_path) -> None:
    assert "must be one of" in refused("train", data, "--model", "resnet", "--out", tmp_path / "b")
    assert "must be one of" in refused("compare", data, "--models", "baseline,resnet", "--out", tmp_path / "r")
    for command in ("train", "compare"):
        told = refused(command, data, "--objective", "precision=2", "--out", tmp_path / "r")
        assert "must be f1, subset, precision=0.9, recall=0.9 or fnr=0.1" in told
    assert "name each model once" in refused("compare", data, "--models", "tuned,tuned", "--out", tmp_path / "r")
    for number, message in (("tuned", "must be like tuned=1"), ("mlknn=1", "not compared"), ("tuned=9", "1 to 5")):
        refusal = refused("compare", data, "--repeats", 5, "--fewer-repeats", number, "--out", tmp_path / "r")
        assert message in refusal
    assert "is not a bundle" in refused("tag", tmp_path, data / "0.png")
    assert "is not a bundle" in refused("evaluate", tmp_path, data)
    assert "no labels.csv" in refused("split", tmp_path)
    assert "cannot be read" in refused("split", tmp_path / "none.csv")
    assert "no column 'foto'" in refused("split", data, "--image-column", "foto", "--out", tmp_path / "s.csv")
    assert "must name a folder" in refused("split", data, "--images", tmp_path / "none", "--out", tmp_path / "s.csv")
    assert "must be new or empty" in refused("sample", data)
    missing = refused("compare", data, "--split", tmp_path / "none.csv", "--out", tmp_path / "r")
    assert "none.csv cannot be read" in missing
    assert not (tmp_path / "r").exists()


def test_unknown_options_are_refused_by_the_parser() -> None:
    result = CliRunner().invoke(app, ["compare", "--nonsense"])
    assert result.exit_code == 2 and "Traceback" not in result.output


@pytest.fixture
def asked(monkeypatch) -> dict[str, Any]:
    """What the library is asked for by the command that was called last; it does nothing."""
    arguments: dict[str, Any] = {}

    def take(command: str) -> Callable[..., None]:
        signature = inspect.signature(getattr(pt, command))

        def called(*positional: object, **named: object) -> None:
            given = signature.bind(*positional, **named).arguments
            arguments.clear()
            arguments.update(given.pop("settings", {}) | given)
            raise pt.SettingsError("asked")

        return called

    for command in ("compare", "fit"):
        monkeypatch.setattr(pt, command, take(command))
    return arguments


OPTIONS: dict[str, Any] = {
    "--image-size": 64, "--epochs": 3, "--trials": 7, "--timeout": "90s", "--fine-tune": 4,
    "--seed": 5, "--backbone": "efficientnet_lite0", "--loss": "focal", "--objective": "precision=0.9",
    "--batch-size": 8, "--learning-rate": 0.01, "--weight-decay": 0.1, "--augmentation": "crop",
}  # fmt: skip


@pytest.mark.parametrize("command", ["compare", "train"])
def test_every_option_is_passed_on(command: str, data: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    weights = find_weights(None, "efficientnet_lite0").path
    given = [word for option in OPTIONS.items() for word in option]
    own = []
    if command == "compare":
        own = ["--models", "tuned, transfer", "--tune", "tuned", "--tune", "transfer"]
        own += ["--min-photos", 7, "--repeats", 5, "--fewer-repeats", "tuned=1, transfer=2"]
    words = [command, data, "--out", tmp_path / "out", "--weights", weights, "--int8", *given, *own]
    assert refused(*words).endswith("asked")
    options = TrainOptions(
        **{option.removeprefix("--").replace("-", "_"): value for option, value in OPTIONS.items()},
        weights=weights,
        int8=True,
    )
    assert options.seconds == 90
    expected: dict[str, Any] = {"options": options}
    if command == "compare":
        expected["out"] = tmp_path / "out"
        expected |= {"models": ["tuned", "transfer"], "tune": ["tuned", "transfer"], "given_split": None}
        expected |= {"resume": False, "overwrite": False, "min_photos": 7}
        expected |= {"repeats": 5, "fewer_repeats": {"tuned": 1, "transfer": 2}}
    else:
        expected |= {"model": "transfer", "checkpoints": tmp_path / "out.part"}
    # The time for reading counts, so less of the minutes is left.
    others = {"hyperparameters", "weights", "int8", "storage", "encoder_output", "minutes"}
    for name in ("data", "train", "validation", "say"):
        asked.pop(name, None)
    assert asked == expected
    assert {field.name for field in fields(TrainOptions)} - others == {
        option.removeprefix("--").replace("-", "_") for option in OPTIONS
    }


@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_encoder_is_described_before_a_photo_is_read(command: str, tmp_path: Path) -> None:
    words = [command, tmp_path / "none.csv", "--out", tmp_path / "out", "--backbone", TINY / "clip"]
    words += ["--models", "transfer,mlknn"] if command == "compare" else []
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.stdout.startswith(f"encoder {TINY / 'clip'}: 32 px, output image_embeds")
    assert len(result.stdout.splitlines()) == 1 and "none.csv cannot be read" in result.stderr


def test_what_cannot_work_is_refused_before_a_photo_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pt, "read", lambda *_: pytest.fail("read"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    for command, has_no_effect in (("train", "has no effect on"), ("compare", "means nothing to")):
        for words, message in (
            (["-m", "resnet"], "must be one of"),
            (["-m", "mlknn", "--epochs", 3], f"epochs {has_no_effect} mlknn"),
            (["-m", "transfer", "--epochs", 0], "epochs must be from 1"),
            (["--timeout", 10], "a duration with a unit, such as 90s, 10m or 2h, not '10'"),
            (["--weights", tmp_path / "none.pth"], "does not exist"),
            (["--out", tmp_path / "there"], "exists"),
        ):
            assert message in refused(command, data, "-o", tmp_path / "out", *words)
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr("polytag.extras.find_spec", lambda module: None)
    assert "pip install 'polytag[train]'" in refused("train", data, "-o", tmp_path / "out")
    assert "pip install 'polytag[train]'" in refused("compare", data, "-o", tmp_path / "out")


def test_what_nobody_foresaw_is_one_line_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device", "run/model.keras")

    monkeypatch.setattr(pt, "compare", full)
    told = refused("compare", data, "--out", tmp_path / "run")
    assert told == "polytag: No space left on device (run/model.keras): free some disk space"

    def stopped(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pt, "compare", stopped)
    result = CliRunner().invoke(app, ["compare", str(data), "--out", str(tmp_path / "run")])
    assert result.exit_code == 130 and result.stderr.endswith("polytag: stopped. Run the command again.\n")

    def unheard(*arguments: object, **settings: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(pt, "compare", unheard)
    result = CliRunner().invoke(app, ["compare", str(data), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1 and "Broken pipe" not in result.output


def test_a_terminal_that_lacks_a_sign_ends_nothing() -> None:
    code = "from polytag.cli import app, main; app.command('say')(lambda: print('a − b')); main()"
    command = [sys.executable, "-c", code, "say"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a \\u2212 b\n"), done.stderr


@pytest.mark.parametrize(
    ("host", "key", "warned"), [("0.0.0.0", None, True), ("0.0.0.0", "k", False), ("::1", None, False)]
)
def test_a_server_that_is_open_to_everybody_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, key: str | None, warned: bool
) -> None:
    def serve(bundles: object, options: ServeOptions, on_ready: Callable[[str], None]) -> None:
        on_ready(f"http://{options.host}:{options.port}/")

    bundle = SimpleNamespace(labels=("a", "b"))
    monkeypatch.setattr(pt, "Bundle", lambda path, engine: bundle)
    monkeypatch.setattr("polytag.serving.server.server.serve_tagging", serve)
    words = ["serve", str(tmp_path), "--host", host, *([] if key is None else ["--api-key", key])]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert ("everyone who can reach this machine" in result.stderr) == warned
