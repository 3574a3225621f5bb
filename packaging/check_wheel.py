"""Check the wheel where nothing else is installed: it tags and serves, without TensorFlow, what the full one trained.

Run by `make test` with the full installation's Python. Builds the wheel and the sdist, checks them with twine,
installs the wheel into an empty environment, and compares tags and the server's answers with those of the full
installation.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINING_ONLY = ("tensorflow", "keras", "sklearn", "scipy", "optuna", "skmultilearn")
PROXIES = urllib.request.ProxyHandler({})  # the server is on this machine


def run(*command: object, **options: object) -> str:
    """Run a command, return what it prints, and stop with its own words if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the sdist and, from it, the wheel; the wheel's path."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    run(sys.executable, "-m", "twine", "check", "--strict", *folder.iterdir())
    return next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel into an empty environment; the environment's folder of commands."""
    venv.create(folder, with_pip=True)
    pip = folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"
    run(*pip, "--no-compile", "-c", ROOT / "constraints.txt", wheel)
    packages = next(folder.glob("lib/*/site-packages"))
    heavy = [name for name in TRAINING_ONLY if (packages / name).exists()]
    if heavy:
        sys.exit(f"the wheel brings {', '.join(heavy)}, which only training needs")
    files = (
        f for f in packages.rglob("*") if f.is_file() and f.relative_to(packages).parts[0] not in ("pip", "setuptools")
    )
    print(f"light installation: {sum(f.stat().st_size for f in files) / 2**20:.0f} MB")
    return folder / "bin"


def served(command: Path, bundle: Path, photo: Path) -> dict[str, float]:
    """The probabilities that the server gives for a photo."""
    with subprocess.Popen([command, "serve", bundle, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
            request = urllib.request.Request(
                f"{url.rstrip('/')}/v1/tag", photo.read_bytes(), {"Content-Type": "image/png"}
            )
            with urllib.request.build_opener(PROXIES).open(request, timeout=60) as answer:
                return probabilities(json.load(answer))
        finally:
            server.terminate()


def probabilities(answer: dict) -> dict[str, float]:
    """The probabilities of one photo's answer, of the server or of `tag --format jsonl`."""
    if "probabilities" in answer:
        return answer["probabilities"]
    return {label["label"]: label["probability"] for label in answer["images"][0]["labels"]}


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        os.environ["POLYTAG_CACHE"] = str(work / "cache")
        os.environ.pop("PYTHONPATH", None)  # an empty environment sees the wheel only
        full = Path(sys.executable).parent / "polytag"
        light = install(build(work / "dist"), work / "environment") / "polytag"
        assert run(light, "--version") == run(full, "--version")
        run(light, "sample", work / "sample", "--images", 60, "--size", 64)
        run(light, "audit", work / "sample")
        small = "--image-size", 64, "--epochs", 2, "--fine-tune", 0
        run(full, "train", work / "sample", "--model", "transfer", "--out", work / "bundle", *small)
        photo = next((work / "sample").rglob("*.png"), None) or next((work / "sample").rglob("*.jpg"))
        tags = [run(command, "tag", work / "bundle", photo, "--format", "jsonl") for command in (full, light)]
        assert tags[0] == tags[1], tags
        answer, line = served(light, work / "bundle", photo), probabilities(json.loads(tags[0]))
        assert answer.keys() >= line.keys() and all(abs(answer[label] - p) < 1e-5 for label, p in line.items())
        refused = subprocess.run(
            [light, "train", work / "sample", "--out", work / "no"], capture_output=True, text=True
        )
        assert refused.returncode == 2 and "polytag[train]" in refused.stderr, refused
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
    print("the wheel tags and serves without TensorFlow what the full installation trained")


if __name__ == "__main__":
    main()
