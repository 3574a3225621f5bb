"""Bad input on the command line: one clear line, exit code 2, nothing half-written, nothing changed."""

import os
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app


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
    "not UTF-8": ("image,labels\n0.png,chat gêné\n".encode("latin1"), "is not UTF-8 (line 2)"),
    "a path that leaves the folder": ("image,labels\n../../x.png,dog\n", "leaves the folder"),
    "duplicate label names": ("image,dog, dog\n0.png,1,0\n", "more than one column called dog"),
    "no labels": ("image,labels\n0.png,\n1.png,\n", "no label"),
    "never present": ("image,cat,dog\n" + "".join(f"{i}.png,{i % 2},0\n" for i in range(12)), "never present (dog)"),
    "always present": ("image,labels\n" + "".join(f"{i}.png,dog\n" for i in range(12)), "always present (dog)"),
    "no 0/1": ("image,cat,dog\n" + "".join(f"{i}.png,{7 if i == 9 else i % 2},1\n" for i in range(12)), "line 11: '7'"),
    "fewer images than labels": ("image,labels\n0.png,a|b|c\n1.png,b|d\n2.png,e\n", "3 images for 5 labels"),
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
    assert "cannot be written" in refused("compare", data, "--out", tmp_path / "file" / "run")
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
        assert "must be f1, subset, precision=0.9 or recall=0.9" in told
    assert "name each model once" in refused("compare", data, "--models", "tuned,tuned", "--out", tmp_path / "r")
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


def test_the_effort_of_a_search_is_passed_on(tmp_path, monkeypatch) -> None:
    photos(tmp_path, GOOD)
    asked: dict[str, object] = {}

    def compare(data: pt.Dataset, *arguments: object, **settings: object) -> None:
        asked.update(settings)
        raise pt.SettingsError("asked")

    monkeypatch.setattr(pt, "compare", compare)
    effort = ["--tune", "tuned, transfer", "--trials", 7, "--timeout", 1.5, "--workers", 2]
    assert refused("compare", table(tmp_path, f"image,labels\n{ROWS}"), "--out", tmp_path / "run", *effort).endswith(
        "asked"
    )
    assert asked["tune"] == ["tuned", "transfer"] and asked["trials"] == 7 and asked["workers"] == 2
    assert asked["timeout"] == 90, "minutes on the command line, seconds in Python"
