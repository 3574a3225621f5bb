"""Tagging and serving need only the light installation."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from polytag.models.bundle.bundle import Bundle

HEAVY = ("tensorflow", "keras", "pandas", "sklearn", "scipy", "matplotlib", "seaborn", "skmultilearn", "optuna", "onnx")

BLOCKED = "import sys; sys.modules |= dict.fromkeys({heavy})\n"  # what is None there cannot be imported


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", BLOCKED.format(heavy=HEAVY) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_tagging_runs_without_heavy_libraries(colours: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    code = "from polytag.cli import app; app(['tag', *sys.argv[1:]])"
    for form in ("table", "json", "jsonl", "csv"):
        done = run(code, colours.path, tmp_path / "red.png", "--format", form, "--write-metadata")
        assert done.returncode == 0 and "red" in done.stdout, done.stderr


def test_serving_runs_without_heavy_libraries(colours: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    code = (
        "from pathlib import Path; from starlette.testclient import TestClient\n"
        "from polytag.models.bundle.bundle import Bundle\n"
        "from polytag.serving.server.server import tagging_app\n"
        "client = TestClient(tagging_app({'colours': Bundle(sys.argv[1])}), 'http://127.0.0.1')\n"
        "photo = Path(sys.argv[2]).read_bytes()\n"
        "assert client.post('/v1/tag', content=photo).status_code == 200\n"
        "answer = client.post('/v1/tag?explain=red', content=photo)\n"
        "print(answer.status_code, answer.json()['detail'])\n"
    )
    done = run(code, colours.path, tmp_path / "red.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("422 ") and "pip install 'polytag[train]'" in done.stdout
