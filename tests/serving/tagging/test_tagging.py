"""Tagging many photos: rows, their forms, and runs that are stopped and go on."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow.parquet import ParquetFile

import polytag as pt
from colours import LABELS, write_colour_bundle
from polytag.errors import ImageError, PolytagError, SettingsError
from polytag.files import csv_text
from polytag.photos.xmp import xmp_keywords
from polytag.serving.tagging.job import TagJob
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.rows import TEXT_FORMATS, Form, Row, submission_writer, write_parquet
from polytag.serving.tagging.tag import TagFile, tag_photos, text_writer, thresholds_of
from polytag.serving.tagging.xmp_edit import EMPTY, edit_keywords

COLOURS = {"red": (250, 10, 10), "yellow": (240, 250, 20), "black": (0, 0, 0), "white": (255, 254, 253)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> pt.Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("colours") / "bundle")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of each colour, and one that is none."""
    folder = tmp_path_factory.mktemp("album")
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 50), colour).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_text("text")
    return folder


def polytag(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polytag", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_rows(bundle: pt.Bundle, album: Path) -> None:
    names = [str(album / name) for name in ("yellow.png", "broken.jpg", "white.png", "black.png", "gone.png")]
    yellow, broken, white, black, gone = tag_photos(bundle, names)
    assert [row.image for row in (yellow, broken, white, black, gone)] == names
    assert yellow.labels == ("green", "red") and white.labels == ("red", "green", "blue") and black.labels == ()
    assert yellow.probabilities == pytest.approx({"red": 240 / 255, "green": 250 / 255, "blue": 20 / 255}, abs=1e-6)
    assert "not an image" in broken.error and gone.error == "there is no such file"
    assert broken.labels == () and not broken.probabilities


def test_names_on_standard_input_need_not_be_utf_8(bundle: pt.Bundle, album: Path) -> None:
    command = [sys.executable, "-m", "polytag", "tag", str(bundle.path), "-", "--format", "jsonl"]
    names = os.fsencode(album / "red.png") + b"\n" + b"caf\xe9.jpg\n"
    done = subprocess.run(command, input=names, capture_output=True, timeout=120, env={**os.environ, "PYTHONUTF8": "1"})
    red, other = map(json.loads, done.stdout.splitlines())
    assert red["labels"] == ["red"] and other["error"] == "there is no such file" and done.returncode == 0, done.stderr


def test_outputs_replace_no_input(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"{album / 'red.png'}\n")
    for form in ("json", "csv"):
        done = polytag("tag", bundle.path, names, "--out", names, "--format", form, "--overwrite")
        assert done.returncode == 2 and "is the same file as the input" in done.stderr
    assert names.read_text().endswith("red.png\n")
    with pytest.raises(SettingsError, match="named like a photo"):
        TagJob(bundle, [str(album)], TagOptions(out=album / "red.png", format=Form.json, overwrite=True))


def test_a_label_that_looks_like_two_is_not_written_to_csv(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'sea\|boat' contains \|, which separates labels in CSV files"):
        text_writer(TagOptions(format=Form.csv), ["cat", "sea|boat"])
    assert text_writer(TagOptions(format=Form.csv, separator=" "), ["cat", "sea|boat"])
    assert text_writer(TagOptions(format=Form.jsonl), ["cat", "sea|boat"])


def test_many_labels_are_written_in_small_groups(tmp_path: Path) -> None:
    labels = [f"label {i}" for i in range(1000)]
    row = Row("caf\udce9.jpg", (), dict.fromkeys(labels, 0.25), "caf\udce9.jpg.xmp is damaged")
    with (tmp_path / "tags.parquet").open("wb") as file:
        write_parquet([row] * 900, labels, file)
    found = ParquetFile(tmp_path / "tags.parquet")
    assert [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)] == [400, 400, 100]
    first = found.read().slice(0, 1).to_pylist()[0]
    assert first["error"] == "caf\\udce9.jpg.xmp is damaged" and first["probabilities"]["label 7"] == 0.25


def test_a_sidecar_that_was_mended_is_no_error_any_more(
    bundle: pt.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), COLOURS["red"]).save(tmp_path / f"{name}.png")
    sidecar, out = tmp_path / "a.png.xmp", tmp_path / "tags.jsonl"
    sidecar.write_text("<damaged")
    photos = [str(tmp_path / f"{name}.png") for name in ("a", "b")]

    def job(**options) -> TagJob:
        return TagJob(bundle, photos, TagOptions(out=out, write_metadata=True, **options))

    first, replaced = job(), os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0 if str(paths[1]).endswith("jsonl") else replaced(*paths))
    with pytest.raises(ZeroDivisionError):  # after the last row
        first.run(io.StringIO())
    assert first.file is not None
    first.file._rows._lock.close()
    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(PolytagError, match="1 sidecar could not be written"):
        first.check()
    sidecar.unlink()
    again = job(resume=True)
    again.run(io.StringIO())
    again.check()
    assert again.earlier == 2 and sidecar.exists()
    assert not any("error" in json.loads(line) for line in out.read_text().splitlines())


def test_thresholds_and_top(bundle: pt.Bundle, album: Path) -> None:
    photo = [str(album / "yellow.png")]

    def labels(given: list[str], top: int | None = None) -> tuple[str, ...]:
        (row,) = tag_photos(bundle, photo, thresholds_of(bundle, given), top)
        return row.labels

    assert labels(["0.05"]) == ("green", "red", "blue")
    assert labels(["0.05"], top=2) == ("green", "red")
    assert labels(["green=1", "blue=0.01"]) == ("red", "blue")
    assert labels(["red=0.2", "1"]) == (), "what comes later counts"
    assert (bundle.thresholds == 0.5).all()
    for wrong in ("high", "1.5", "nan", "red=", "red=-1"):
        with pytest.raises(SettingsError, match="must be a number from 0 to 1"):
            thresholds_of(bundle, [wrong])
    with pytest.raises(SettingsError, match="no label 'pink': choose from red, green, blue"):
        thresholds_of(bundle, ["pink=0.4"])


def test_many_photos_are_not_held_in_memory(bundle: pt.Bundle, album: Path) -> None:
    asked = 0

    def endless() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield str(album / "red.png")

    rows = tag_photos(bundle, endless())
    for _ in range(10):
        assert next(rows).labels == ("red",)
    assert asked < 100 * (os.cpu_count() or 1)
    rows.close()


ROWS = st.builds(
    lambda image, p, error: (
        Row(image, (), {}, error) if error else Row.of(image, np.float32(p), LABELS, np.full(3, 0.5, np.float32))
    ),
    st.text(min_size=1),
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    st.sampled_from(["", "damaged: it ends too early"]),
)


@given(st.lists(ROWS, max_size=5))
def test_every_form_says_the_same(rows: list[Row]) -> None:
    text = {}
    for form, write in TEXT_FORMATS.items():
        file = io.StringIO(newline="")
        write(iter(rows), LABELS, file)
        text[form] = file.getvalue()
    lines = [json.loads(line) for line in text["jsonl"].split("\n")[:-1]]
    assert json.loads(text["json"]) == lines
    assert [line["image"] for line in lines] == [row.image for row in rows]
    table = list(csv.DictReader(io.StringIO(text["csv"], newline="")))
    for row, line, columns in zip(rows, lines, table, strict=True):
        assert columns["error"] == row.error == line.get("error", "")
        assert columns["labels"] == "|".join(row.labels) == "|".join(line.get("labels", ()))
        for label, p in row.probabilities.items():
            assert float(columns[label]) == line["probabilities"][label] == pytest.approx(p, abs=1e-6)
        again = Row.from_json(row.to_json())
        assert replace(again, probabilities={}) == replace(row, probabilities={})


def stop_after(photos: list[str], bundle: pt.Bundle, out: Path) -> None:
    """Tag photos into a file, and be interrupted when these are done."""

    def rows() -> Iterator[Row]:
        yield from tag_photos(bundle, photos)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TagFile(TagOptions(out=out), bundle, bundle.thresholds).write(rows())


@pytest.mark.parametrize("form", Form)
def test_a_run_that_was_stopped_goes_on(form: str, bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    photos = [str(album / f"{name}.png") for name in ("red", "yellow", "black", "white")] + [str(album / "broken.jpg")]
    whole = tmp_path / f"whole.{form}"
    TagFile(TagOptions(out=whole, format=form), bundle, bundle.thresholds).write(tag_photos(bundle, photos))
    out = tmp_path / f"out.{form}"
    stop_after(photos[:2], bundle, out)
    assert not out.exists()
    with (tmp_path / f"out.{form}.part").open("a") as part:
        part.write('{"image": "half a li')
    with pytest.raises(SettingsError, match="add --resume to continue"):
        TagFile(TagOptions(out=out, format=form), bundle, bundle.thresholds)
    retrained, faster = pt.Bundle(bundle.path), pt.Bundle(bundle.path)
    retrained.manifest = {**bundle.manifest, "files": dict.fromkeys(bundle.manifest["files"], "another")}
    faster.engine = "int8"
    for other, thresholds, top in (
        (bundle, bundle.thresholds / 2, None),
        (bundle, bundle.thresholds, 2),
        (retrained, bundle.thresholds, None),
        (faster, bundle.thresholds, None),
    ):
        with pytest.raises(SettingsError, match="another bundle or with other settings"):
            TagFile(TagOptions(out=out, format=form, top=top, resume=True), other, thresholds)
    again = TagFile(TagOptions(out=out, format=form, resume=True), bundle, bundle.thresholds)
    assert [row.image for row in again.earlier()] == photos[:2]
    again.write(tag_photos(bundle, photos[2:]))
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, out.name}
    if form == "parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(whole))
        read = pd.read_parquet(out)
        assert read["error"].notna().tolist() == [False] * 4 + [True]
        assert list(read["labels"][1]) == ["green", "red"]
        assert read["probabilities"][1]["blue"] == pytest.approx(20 / 255, abs=1e-6)
    else:
        assert out.read_text() == whole.read_text()


def test_rows_survive_a_kill(bundle: pt.Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    row = Row.of("photo.jpg", np.array([0.1, 0.2, 0.3], np.float32), bundle.labels, bundle.thresholds)

    def rows() -> Iterator[Row]:
        yield from [row] * 64
        yield row  # asked for once the 64th is written
        on_the_disk.extend(out.with_name("out.jsonl.part").read_text().splitlines())

    on_the_disk: list[str] = []
    TagFile(TagOptions(out=out), bundle, bundle.thresholds).write(rows())
    assert len(on_the_disk) >= 1 + 64, "the settings and the rows"


def test_a_stop_before_the_first_row_leaves_nothing(bundle: pt.Bundle, tmp_path: Path) -> None:
    stop_after([], bundle, tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_replaced(bundle: pt.Bundle, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    out.write_text("mine")
    with pytest.raises(SettingsError, match="exists already"):
        TagFile(TagOptions(out=out), bundle, bundle.thresholds)
    TagFile(TagOptions(out=out, overwrite=True), bundle, bundle.thresholds).write([])
    assert out.read_text() == ""
    with pytest.raises(SettingsError, match="is a folder"):
        TagFile(TagOptions(out=tmp_path, format=Form.jsonl), bundle, bundle.thresholds)
    with pytest.raises(SettingsError, match="cannot be written"):
        TagFile(TagOptions(out=tmp_path / "no" / "a.jsonl"), bundle, bundle.thresholds)


def test_an_error_is_the_rows_own() -> None:
    row = Row.of("a.jpg", ImageError("the file is empty"), LABELS, np.full(3, 0.5, np.float32))
    assert row == Row("a.jpg", (), {}, "the file is empty")


def test_the_command_prints_and_writes(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    printed = polytag("tag", bundle.path, album / "yellow.png", album / "broken.jpg")
    assert printed.returncode == 0
    first, second = printed.stdout.splitlines()
    assert first == f"{album / 'yellow.png'}: green 0.98, red 0.94" and "not an image" in second
    assert "1 of 2 photos could not be read" in printed.stderr

    out = tmp_path / "tags.csv"
    written = polytag("tag", bundle.path, album, "--out", out, "--write-metadata", "--top", 1)
    assert written.returncode == 0 and f"{out}: 5 photos" in written.stdout, written.stderr
    read = pd.read_csv(out).set_index("image")
    assert read["labels"].to_dict()[str(album / "white.png")] == "red"
    sidecars = {path.name for path in album.glob("*.xmp")}
    assert sidecars == {"red.png.xmp", "yellow.png.xmp", "white.png.xmp"}
    assert "exists already" in polytag("tag", bundle.path, album, "--out", out).stderr

    everything = polytag("tag", bundle.path, "-", "--format", "json", input=f"{album / 'red.png'}\n")
    assert [row["labels"] for row in json.loads(everything.stdout)] == [["red"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "tags.xyz"], "use .json, .jsonl, .csv, .parquet"),
        (["--format", "parquet"], "needs a file: name it with --out"),
        (["--resume"], "needs a file: name it with --out"),
        (["--threshold", "2"], "must be a number from 0 to 1"),
    ],
)
def test_the_command_refuses_in_one_line(
    bundle: pt.Bundle, album: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = polytag("tag", bundle.path, album, *options, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_not_one_readable_photo_is_an_error(bundle: pt.Bundle, album: Path) -> None:
    done = polytag("tag", bundle.path, album / "broken.jpg")
    assert done.returncode == 2 and "none of 1 photo could be read" in done.stderr
    assert "not an image" in done.stdout


def test_the_command_goes_on_and_speaks_of_all_photos(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    red, broken, out = str(album / "red.png"), str(album / "broken.jpg"), tmp_path / "tags.jsonl"
    stop_after([red], bundle, out)
    sidecar = Path(f"{red}.xmp")
    sidecar.unlink(missing_ok=True)
    done = polytag("tag", bundle.path, red, broken, red, broken, "--out", out, "--resume", "--write-metadata")
    assert sidecar.exists(), "of a row that was there before"
    assert done.returncode == 0 and f"{out}: 4 photos" in done.stdout, done.stderr
    assert "2 of 4 photos could not be read" in done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["image"] for line in lines] == [red, broken, red, broken]
    assert ["error" in line for line in lines] == [False, True, False, True]


def test_what_is_left_may_be_bad_altogether(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    red, broken = str(album / "red.png"), str(album / "broken.jpg")
    for earlier, code in ((red, 0), (broken, 2)):
        out = tmp_path / f"{Path(earlier).stem}.jsonl"
        stop_after([earlier], bundle, out)
        done = polytag("tag", bundle.path, earlier, broken, broken, "--out", out, "--resume")
        assert done.returncode == code, done.stderr
        assert len(out.read_text().splitlines()) == 3


def test_a_sidecar_that_cannot_be_written_stops_nothing(bundle: pt.Bundle, album: Path) -> None:
    long = album / f"{'a' * 248}.png"
    long.write_bytes((album / "red.png").read_bytes())
    done = polytag("tag", bundle.path, album, "--format", "jsonl", "--write-metadata")
    assert done.returncode == 2
    assert "1 sidecar could not be written. First error: the sidecar" in done.stderr
    assert len(done.stdout.splitlines()) == len([*album.glob("*.png"), *album.glob("*.jpg")])
    assert (album / "red.png.xmp").exists()


def test_tagging_waits_for_no_heavy_library(bundle: pt.Bundle, album: Path) -> None:
    code = (
        "import sys; from polytag.cli import app; "
        f"app(['tag', {str(bundle.path)!r}, {str(album / 'red.png')!r}], standalone_mode=False); "
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'onnx'}; "
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "red 0.98" in done.stdout


def test_a_submission(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    options = ("--name", "stem", "--separator", " ", "--out", out, "--threshold", "red=0.9,green=0.9,blue=0.95")
    done = polytag("tag", bundle.path, album / "white.png", album / "black.png", album / "broken.jpg", *options)
    assert done.returncode == 0 and "1 of 3 photos could not be read" in done.stderr
    assert out.read_bytes() == b"image,labels\nwhite,red green blue\nblack,\nbroken,\n"
    printed = polytag("tag", bundle.path, album / "red.png", "--separator", ";", "--name", "name")
    assert printed.stdout == "image,labels\nred.png,red\n"


def test_names_that_repeat_are_said(bundle: pt.Bundle, album: Path) -> None:
    done = polytag("tag", bundle.path, album / "red.png", album / "red.png", "--name", "stem")
    assert done.returncode == 0 and "1 row with the same name as an earlier row: use --name path" in done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["red", "red"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"separator": " ", "format": "jsonl"}, "--separator needs CSV output"),
        ({"separator": ""}, "must not be empty"),
        ({"dry_run": True}, "add --write-metadata"),
        ({"dry_run": True, "write_metadata": True, "out": Path("a.csv")}, "remove --out"),
        ({"top": 0}, "at least 1"),
    ],
)
def test_options_that_contradict_each_other(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TagOptions(**settings)


def test_labels_that_contain_the_separator_are_refused() -> None:
    with pytest.raises(SettingsError, match="the label 'blow down' contains the separator ' '"):
        submission_writer(["boat", "blow down"], " ")


def test_cells_are_never_formulas() -> None:
    file = io.StringIO(newline="")
    labels = ["=cmd", "+1", "sea"]
    rows = [Row("-a.jpg", ("=cmd", "sea"), dict.fromkeys(labels, 0.5)), Row("@b", (), {}, "=error")]
    TEXT_FORMATS[Form.csv](rows, labels, file)
    header, first, second = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header == ["image", "labels", "error", "'=cmd", "'+1", "sea"]
    assert first[:3] == ["'-a.jpg", "'=cmd|sea", ""] and second[:3] == ["'@b", "", "'=error"]
    assert [csv_text(cell) for cell in first[:2]] == ["-a.jpg", "=cmd|sea"]


def test_files_left_out_are_counted_by_kind(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes((album / "red.png").read_bytes())
    (tmp_path / "photo").write_bytes((album / "red.png").read_bytes())  # without an ending
    for name in ("a.mov", "b.mov", "c.txt", "d.dng"):
        (tmp_path / name).write_bytes(b"x")
    done = polytag("tag", bundle.path, tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert done.stderr == "4 files left out: 2 videos, 1 camera raw file, 1 text file\n"
    assert polytag("tag", bundle.path, tmp_path, "--quiet").stderr == ""


def test_a_dry_run_says_what_would_be_written(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    for name in ("red", "white", "black"):
        (tmp_path / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())
    (tmp_path / "black.xmp").write_bytes(edit_keywords(EMPTY, ["red", "mine"], ["red", "mine"])[0])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = polytag("tag", bundle.path, tmp_path, "--write-metadata", "--dry-run", "--quiet")
    assert done.stdout.splitlines() == [
        f"{tmp_path}/black.xmp: -red",
        f"{tmp_path}/red.png.xmp: +red",
        f"{tmp_path}/white.png.xmp: +red, +green, +blue",
        "3 sidecars would change (3 photos tagged)",
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert polytag("tag", bundle.path, tmp_path, "--write-metadata").returncode == 0
    assert xmp_keywords((tmp_path / "black.xmp").read_bytes()) == ["mine"]


def test_a_damaged_sidecar_is_an_error_row(bundle: pt.Bundle, album: Path, tmp_path: Path) -> None:
    for name in ("red", "white"):
        (tmp_path / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())
    (tmp_path / "red.xmp").write_text("<x:xmpmeta")
    (tmp_path / "white.xmp").write_bytes(EMPTY)
    (tmp_path / "white.png.xmp").write_bytes(EMPTY)
    done = polytag("tag", bundle.path, tmp_path, "--write-metadata", "--format", "jsonl")
    red, white = map(json.loads, done.stdout.splitlines())
    assert "red.xmp is damaged" in red["error"] and red["labels"] == ["red"] and "error" not in white
    assert (tmp_path / "red.xmp").read_text() == "<x:xmpmeta"
    assert done.returncode == 2 and "1 sidecar could not be written. First error: the sidecar" in done.stderr
    assert f"ignored the second sidecar of 1 photo: {tmp_path}/white.xmp" in done.stderr
