"""Bundle: a trained model as a folder, with everything that tagging needs and nothing else.

::

    bundle.json            labels, thresholds, recipe, versions, scores, and the sha256 of each file below
    model.onnx             what tagging runs
    model-int8.onnx        the same in 8 bits, where it was asked for and costs next to nothing
    model.keras            the same network for Keras: to train on, to export
    training-images.txt    content hashes of the photos that training has seen
    MODEL_CARD.md          bundle.json in words, for people

Opening and tagging do not import Keras.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import BundleError, ImageError, SettingsError
from polytag.files import beside, write_atomically, write_json
from polytag.models.runtimes import openvino
from polytag.models.runtimes.onnx import BATCH_SIZE, OnnxModel, export_onnx
from polytag.photos.content import content_hash
from polytag.photos.decode import PIXEL_PATH, Paths, decode, each

FORMAT = 1
HASH_DIGITS = 32

INT8_FILE = "model-int8.onnx"

CORES = os.cpu_count() or 1


class Bundle:
    """A trained model that turns photos into labels.

    Args:
        path: the bundle's folder.
        engine: what runs it: "float32", or "int8" where the bundle has that, one of `engines`.

    Raises:
        BundleError: it is none, or it is incomplete, or lacks the engine. Altered files are found when they are
            first used.
        SettingsError: the engine is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], engine: str = "float32"):
        self.path = Path(path)
        try:
            manifest = json.loads((self.path / "bundle.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(f"{self.path} is not a bundle: it holds no bundle.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{self.path / 'bundle.json'} is damaged ({error}): restore or train it again") from None
        versions = (manifest.get("format"), manifest.get("pixel_path")) if isinstance(manifest, dict) else (None, None)
        if None not in versions and versions != (FORMAT, PIXEL_PATH):
            raise BundleError(
                f"{self.path} was written by polytag {manifest.get('polytag')}, whose bundles this version cannot "
                "read: use that version, or train it again"
            )
        if not _is_whole(manifest):
            raise BundleError(f"{self.path / 'bundle.json'} is damaged: it lacks what every bundle has; train it again")
        for name in manifest["files"]:
            if not (self.path / name).is_file():
                raise BundleError(f"{self.path} is damaged: {name} is missing; restore or train it again")
        self.manifest: dict[str, Any] = manifest
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.thresholds: NDArray[np.float32] = np.array(manifest["thresholds"], dtype=np.float32)
        self.image_size: int = manifest["recipe"]["image_size"]
        if engine not in self.engines:
            raise BundleError(
                f"{self.path} cannot be run by '{engine}', only by {' or '.join(self.engines)}: int8 is made by "
                "training with --int8, and kept if it loses next to nothing"
            )
        if engine == "int8":
            openvino.check_openvino()
        self.engine = engine

    def __repr__(self) -> str:
        return f"Bundle('{self.path}': {self.manifest['recipe']['model']}, {len(self.labels)} labels)"

    def tag(self, photo: bytes | str | os.PathLike[str]) -> dict[str, float]:
        """The labels of one photo with their probabilities, the most probable first.

        Raises:
            ImageError: the photo cannot be read.
        """
        (probabilities,) = self.run(decode(photo, self.image_size)[None])
        return {self.labels[j]: float(probabilities[j]) for j in given(probabilities, self.thresholds)}

    def predict(self, paths: Paths) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Probabilities of many photos, read on several threads while the model runs.

        Returns:
            float32 (n, k), NaN in the rows of photos that cannot be read; and the reason for each of those.
        """
        result = np.full((len(paths), len(self.labels)), np.nan, dtype=np.float32)
        bad: dict[str, str] = {}
        for row, found in enumerate(self.stream(paths)):
            if isinstance(found, ImageError):
                bad[str(paths[row])] = str(found)
            else:
                result[row] = found
        return result, bad

    def stream(self, photos: Iterable[bytes | str | os.PathLike[str]]) -> Iterator[NDArray[np.float32] | ImageError]:
        """Probabilities of photos without end, read and run on every core, holding only a few at a time.

        Yields:
            For each photo, in order, float32 (k,), or the `ImageError` that tells why it cannot be read.
        """
        _ = self.run  # opened here once, rather than by every thread
        remaining = iter(photos)
        batches = iter(lambda: list(islice(remaining, self.batch_size)), [])
        for found in each(self.probabilities, batches, self.threads):
            assert not isinstance(found, ImageError)  # each photo's error stands in its own place
            yield from found

    def probabilities(self, photos: Sequence[bytes | str | os.PathLike[str]]) -> list[NDArray[np.float32] | ImageError]:
        """Probabilities of photos, read and run at once on the calling thread.

        Returns:
            For each photo float32 (k,), or the `ImageError` that tells why it cannot be read.
        """
        found: list[Any] = []
        for photo in photos:
            try:
                found.append(decode(photo, self.image_size))
            except ImageError as error:
                found.append(error)
        rows = [row for row, pixels in enumerate(found) if not isinstance(pixels, ImageError)]
        if rows:
            for row, probabilities in zip(rows, self.run(np.stack([found[row] for row in rows])), strict=True):
                found[row] = probabilities
        return found

    @property
    def engines(self) -> tuple[str, ...]:
        """What can run it."""
        return ("float32", "int8") if INT8_FILE in self.manifest["files"] else ("float32",)

    @property
    def threads(self) -> int:
        """Threads on which `probabilities` may be called at once, and should be, to keep this machine busy."""
        if self._on_keras:
            return 1
        # OpenVINO computes on threads of its own: meanwhile those that wait for it leave room to decode.
        return CORES * (2 if self.engine == "int8" else 1)

    @property
    def batch_size(self) -> int:
        """Photos for one call of `probabilities` that get through it fastest."""
        return openvino.BATCH_SIZE if self.engine == "int8" else BATCH_SIZE

    @cached_property
    def run(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """The model itself: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k)."""
        if self.engine == "int8":
            return openvino.OpenvinoModel(self._checked(INT8_FILE), calls=CORES)
        if self._on_keras:
            return self.keras_model().predict_on_batch
        return OnnxModel(self._checked("model.onnx"), threads=1)

    @property
    def _on_keras(self) -> bool:
        return self.engine == "float32" and "model.onnx" not in self.manifest["files"]

    def keras_model(self):
        """The network as a `keras.Model`."""
        from polytag.models.backend import keras

        return keras.saving.load_model(self._checked("model.keras"), compile=False)

    def seen(self, dataset: Dataset) -> NDArray[np.bool_]:
        """Which photos of the dataset had a part in training, by their content; bool (n,)."""
        known = set(self._checked("training-images.txt").read_text().split())
        return np.array([content_hash(path)[:HASH_DIGITS] in known for path in dataset.paths], dtype=bool)

    def save(self, path: str | os.PathLike[str]) -> "Bundle":
        """Copy the bundle to a folder that does not exist yet."""
        path = Path(path)
        with new_folder(path) as folder:
            for name in self.manifest["files"]:
                shutil.copyfile(self._checked(name), folder / name)
            _describe(folder, self.manifest)
        return Bundle(path)

    def adopt(self, name: str) -> None:
        """Take a file that has been written into its folder as one of its own."""
        self.record(files=self.manifest["files"] | {name: _sha256(self.path / name)})

    def record(self, **facts: Any) -> None:
        """Add facts, such as test scores, to the bundle's description."""
        self.manifest.update(facts)
        _describe(self.path, self.manifest)

    def _checked(self, name: str) -> Path:
        path = self.path / name
        if name not in self.manifest["files"] or not path.is_file():
            raise BundleError(f"{self.path} is damaged: {name} is missing; restore or train it again")
        if _sha256(path) != self.manifest["files"][name]:
            raise BundleError(f"{path} is damaged: its sha256 is not the recorded one; restore or train it again")
        return path


def given(probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]) -> list[int]:
    """The labels that a photo is given, as their numbers, the most probable first.

    Args:
        probabilities, thresholds: float32 (k,).
    """
    return [int(j) for j in np.argsort(-probabilities, kind="stable") if probabilities[j] >= thresholds[j]]


def _is_whole(manifest: Any) -> bool:
    """Whether a description has all that tagging and reports rely on."""
    try:
        thresholds = np.array(manifest["thresholds"], dtype=np.float64)
        return (
            {"history", "validation_accuracy", "fit_seconds", "parameters", "trainable_parameters"} <= manifest.keys()
            and all(isinstance(label, str) for label in manifest["labels"])
            and thresholds.shape == (len(manifest["labels"]),)
            and bool(((thresholds > 0) & (thresholds < 1)).all())
            and type(manifest["recipe"]["image_size"]) is int
            and all(Path(name).name == name for name in manifest["files"])
            and all(isinstance(digest, str) for digest in manifest["files"].values())
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


def write_bundle(model: Any, manifest: Mapping[str, Any], training_photos: Iterable[str]) -> Bundle:
    """Write a bundle to a temporary folder that lives as long as the object; `Bundle.save` keeps it.

    Args:
        model: the `keras.Model`: photos uint8 → probabilities.
        manifest: labels, recipe and whatever else is known. Thresholds are 0.5 until they are recorded.
        training_photos: the `content_hash` of each photo that training, choosing and stopping have seen.
    """
    folder = Path(tempfile.mkdtemp(prefix="polytag-"))
    try:
        model.save(folder / "model.keras")
        export_onnx(model, folder / "model.onnx")
        hashes = sorted({photo[:HASH_DIGITS] for photo in training_photos})
        (folder / "training-images.txt").write_text("\n".join(hashes) + "\n")
        _describe(
            folder,
            {
                "format": FORMAT,
                "pixel_path": PIXEL_PATH,
                "polytag": importlib.metadata.version("polytag"),
                "thresholds": [0.5] * len(manifest["labels"]),
                "validation_accuracy": None,
                **manifest,
                "versions": _versions(),
                "files": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
            },
        )
        bundle = Bundle(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def _describe(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write bundle.json, and the model card that says the same in words."""
    # Imported late, since it brings what judging needs and tagging does not.
    from polytag.models.bundle.card import model_card

    write_json(folder / "bundle.json", manifest)
    with write_atomically(folder / "MODEL_CARD.md") as file:
        file.write(model_card(manifest))


def free(path: str | os.PathLike[str]) -> Path:
    """The path, if a folder can be made there.

    Raises:
        SettingsError: something is there already, or nothing can be written.
    """
    path = Path(path)
    if path.exists():
        raise SettingsError(f"{path} exists already: name a folder that does not")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}."):
            return path
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): name another place") from None


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside the path that takes its name when the block ends without an error.

    Raises:
        SettingsError: something is there already, or nothing can be written.
    """
    path = Path(path)
    folder = beside(free(path))
    folder.mkdir()  # unlike tempfile's folders with the permissions that the umask allows
    try:
        yield folder
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("keras", os.environ.get("KERAS_BACKEND", "tensorflow"), "numpy", "pillow", "onnxruntime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
