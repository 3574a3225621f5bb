"""The output file of a tagging run that was killed, and of two runs at once."""

from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.errors import SettingsError
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.rows import Row
from polytag.serving.tagging.tag import TagFile

ROWS = [Row.of(f"{i}.jpg", np.float32([0.1, 0.6, 0.9]), ("red", "green", "blue"), np.full(3, 0.5)) for i in range(3)]


def opened(bundle: pt.Bundle, out: Path, **settings: bool) -> TagFile:
    return TagFile(TagOptions(out=out, **settings), bundle, bundle.thresholds)


@pytest.fixture
def whole(colours: pt.Bundle, tmp_path: Path) -> bytes:
    opened(colours, tmp_path / "whole.csv").write(ROWS)
    return (tmp_path / "whole.csv").read_bytes()


def test_a_kill_at_any_byte_loses_nothing_but_the_last_row(colours: pt.Bundle, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "tags.csv"
    file = opened(colours, out)
    with file.part.open("a") as part:
        part.writelines(f"{row.to_json()}\n" for row in ROWS)
    content = file.part.read_bytes()
    del file
    for kept in range(0, len(content) + 1, 7):
        out.with_name("tags.csv.part").write_bytes(content[:kept])
        file = opened(colours, out, resume=True)
        assert file.done == max(0, content[:kept].count(b"\n") - 1)
        file.write(ROWS[file.done :])
        assert out.read_bytes() == whole and not file.part.exists()
        out.unlink()


def test_a_kill_after_the_last_row_is_finished(colours: pt.Bundle, tmp_path: Path, whole: bytes) -> None:
    out = tmp_path / "tags.csv"
    file = opened(colours, out)
    with file.part.open("a") as part:
        part.writelines(f"{row.to_json()}\n" for row in ROWS)
    del file
    out.write_bytes(whole)
    with pytest.raises(SettingsError, match="exists already"):
        opened(colours, out)
    opened(colours, out, resume=True).write([])
    assert out.read_bytes() == whole and sorted(path.name for path in tmp_path.iterdir()) == ["tags.csv", "whole.csv"]


def test_two_processes_do_not_write_one_file(colours: pt.Bundle, tmp_path: Path) -> None:
    first = opened(colours, tmp_path / "tags.csv")
    for settings in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(SettingsError, match=r"tags\.csv\.part is in use by another process"):
            opened(colours, tmp_path / "tags.csv", **settings)
    first.write(ROWS)
    assert (tmp_path / "tags.csv").exists()
