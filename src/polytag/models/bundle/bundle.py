"""Bundle: a folder with a trained model and everything that tagging needs.

::

    bundle.json            labels, thresholds, recipe, versions, scores, and the sha256 of each file below
    model.onnx             network for tagging
    model-int8.onnx        quantized network, if it was requested and is accurate enough
    model.keras            Keras network, for further training and for exports
    head.keras             in place of model.keras, if the encoder is an ONNX graph, which Keras cannot run
    encoder-0.bin          weights of such an encoder, if model.onnx would be too large with them
    seen-photos.npy        content hashes and fingerprints of the photos that the model has seen
    MODEL_CARD.md          content of bundle.json as text

Opening a bundle and tagging photos do not import Keras, scikit-learn or pandas.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import BundleError, ImageError, SettingsError, raise_machine_error
from polytag.files import (
    beside,
    held,
    remove_leftovers,
    sha256_of,
    write_atomically,
    write_bytes_atomically,
    write_json,
)
from polytag.models.bundle.seen import SEEN_PARTS, from_bytes, same_files, same_pictures, to_bytes
from polytag.models.runtimes import openvino
from polytag.models.runtimes.onnx import OnnxModel, batch_size_of
from polytag.models.runtimes.photos import run_on_photos, stream_photos
from polytag.photos.decode import PIXEL_PATH, Paths, decode
from polytag.photos.measure import measure

FORMAT = 1
"""Version of the bundle format."""

SEEN_FILE = "seen-photos"
"""Beginning of the name of the file with the photos that the model has seen."""

INT8_FILE = "model-int8.onnx"

CORES = os.cpu_count() or 1


class Bundle:
    """A trained model that assigns labels to photos.

    Args:
        path: folder of the bundle.
        engine: one of `engines`: "float32", or "int8" for the quantized model if the bundle has one.
        cores: number of cores to use.

    Attributes:
        labels: names of the k labels.
        thresholds: minimum probability for assigning each label, float32 (k,). Each engine has its own.
        image_size: width and height of the network's input, in pixels.
        manifest: content of ``bundle.json``.

    Raises:
        BundleError: the folder is not a bundle, is incomplete or does not contain the engine. Altered files are
            detected when they are first used.
        SettingsError: the engine is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], engine: str = "float32", cores: int = CORES):
        self.path = Path(path)
        self.cores = cores
        try:
            manifest = json.loads((self.path / "bundle.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(f"{self.path} is not a bundle: it has no bundle.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise_machine_error(error)
            raise BundleError(f"{self.path / 'bundle.json'} is damaged ({error}): restore it or train again") from None
        versions = (manifest.get("format"), manifest.get("pixel_path")) if isinstance(manifest, dict) else (None, None)
        if None not in versions and versions != (FORMAT, PIXEL_PATH):
            raise BundleError(
                f"{self.path} was written by polytag {manifest.get('polytag')}, whose bundles this version cannot "
                "read: use that version, or train again"
            )
        if not _is_complete(manifest):
            raise BundleError(f"{self.path / 'bundle.json'} is damaged: entries are missing; restore it or train again")
        for name in manifest["files"]:
            if not (self.path / name).is_file():
                raise BundleError(f"{self.path} is damaged: {name} is missing; restore it or train again")
        self.manifest: dict[str, Any] = manifest
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.image_size: int = manifest["recipe"]["image_size"]
        if engine not in self.engines:
            raise BundleError(
                f"{self.path} has no engine '{engine}', only {' and '.join(self.engines)}: train with --int8 for int8, "
                "which is added if it is accurate enough"
            )
        if engine == "int8":
            openvino.check_openvino()
        self.engine = engine
        thresholds = manifest["int8"]["thresholds"] if engine == "int8" else manifest["thresholds"]
        self.thresholds: NDArray[np.float32] = np.array(thresholds, dtype=np.float32)

    def __repr__(self) -> str:
        return f"Bundle('{self.path}': {self.manifest['recipe']['model']}, {len(self.labels)} labels)"

    def tag(self, photo: bytes | str | os.PathLike[str]) -> dict[str, float]:
        """Return the labels of one photo with their probabilities, in descending order of probability.

        Args:
            photo: path or content of the file.

        Raises:
            ImageError: the photo cannot be read.
        """
        (probabilities,) = self.run(decode(photo, self.image_size)[None])
        return {self.labels[j]: float(probabilities[j]) for j in assigned_labels(probabilities, self.thresholds)}

    def predict(self, paths: Paths) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return the probabilities for many photos. Photos are decoded on several threads while the model runs.

        Returns:
            Probabilities, float32 (n, k), with NaN for photos that cannot be read. A dictionary gives the reason for
            each unreadable photo.
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
        """Compute the probabilities for any number of photos on all cores. Only a few photos are in memory at a time.

        Returns:
            For each photo, in order, its probabilities, float32 (k,), or the `ImageError` that explains why the photo
            cannot be read.
        """
        _ = self.run  # open the model once, not in every thread
        return stream_photos(self.probabilities, photos, self.batch_size, self.threads)

    def probabilities(self, photos: Sequence[bytes | str | os.PathLike[str]]) -> list[NDArray[np.float32] | ImageError]:
        """Compute the probabilities for photos as one batch, on the calling thread.

        Returns:
            For each photo, its probabilities, float32 (k,), or the `ImageError` that explains why the photo cannot be
            read.
        """
        return run_on_photos(self.run, photos, self.image_size)

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that can run this bundle."""
        return ("float32", "int8") if INT8_FILE in self.manifest["files"] else ("float32",)

    @property
    def threads(self) -> int:
        """Number of threads that should call `probabilities` for the highest throughput."""
        if self._on_keras:
            return 1
        # OpenVINO computes on its own threads. With twice as many callers, some decode photos while others wait.
        return self.cores * (2 if self.engine == "int8" else 1)

    @property
    def batch_size(self) -> int:
        """Number of photos per call of `probabilities` for the highest throughput."""
        if self.engine == "int8":
            return openvino.BATCH_SIZE
        return batch_size_of(self.run)

    @cached_property
    def run(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        """The network: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k)."""
        if self.engine == "int8":
            return openvino.OpenvinoModel(self._checked(INT8_FILE), calls=self.cores)
        if self._on_keras:
            return self.keras_model().predict_on_batch
        return OnnxModel(self.onnx_file, threads=1)

    @property
    def onnx_file(self) -> Path:
        """Path of the float32 network in ONNX. The file, and any file with its weights, has been verified."""
        for name in self.manifest["files"]:
            if name.endswith(".bin"):
                self._checked(name)
        return self._checked("model.onnx")

    @property
    def _on_keras(self) -> bool:
        return self.engine == "float32" and "model.onnx" not in self.manifest["files"]

    @property
    def in_keras(self) -> bool:
        """Whether Keras can run the network. It cannot run an encoder that is an ONNX graph."""
        return "encoder" not in self.manifest

    @property
    def is_trained(self) -> bool:
        """Whether photos have trained the model, see `is_trained`."""
        # Imported here because tagging needs no card.
        from polytag.models.bundle.card import is_trained

        return is_trained(self.manifest)

    def keras_model(self):
        """Load the float32 network as a `keras.Model`. Keras refuses files that contain Python code.

        Raises:
            BundleError: the file is damaged or unsafe.
            SettingsError: the encoder is an ONNX graph.
        """
        if not self.in_keras:
            raise SettingsError(f"the encoder of {self.path} is an ONNX graph, which Keras cannot run")
        from polytag.models.backend import keras

        path = self._checked("model.keras")
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise_machine_error(error)
            reason = str(error).strip().partition("\n")[0][:200]
            raise BundleError(f"{path} cannot be loaded ({reason}): restore it or train again") from error

    def seen(self, dataset: Dataset) -> NDArray[np.bool_]:
        """Return which photos of a dataset were used for training, validation or thresholds; bool (n,).

        Copies count too: files that were re-encoded, resized, cropped or mirrored are recognized by fingerprints.
        """
        known = self.seen_photos
        found = same_files(dataset, known)
        rest = np.flatnonzero(~found)
        found[rest] = same_pictures(measure(dataset.paths[rest]), known)
        return found

    def seen_as(self, dataset: Dataset, part: str) -> NDArray[np.bool_]:
        """Return which files of a dataset were used as "train", "validation" or "thresholds"; bool (n,)."""
        known = self.seen_photos
        return same_files(dataset, known[known["part"] == SEEN_PARTS.index(part)])

    @property
    def seen_photos(self) -> NDArray[np.void]:
        """The photos that the model has seen, array (m,) of dtype `polytag.models.bundle.seen.PHOTO`."""
        return from_bytes(self._checked(self._seen_file).read_bytes())

    @property
    def _seen_file(self) -> str:
        return next((name for name in self.manifest["files"] if name.startswith(SEEN_FILE)), f"{SEEN_FILE}.npy")

    def save(self, path: str | os.PathLike[str]) -> "Bundle":
        """Copy the bundle to a folder that does not exist yet."""
        path = Path(path)
        with new_folder(path) as folder:
            for name in self.manifest["files"]:
                shutil.copyfile(self._checked(name), folder / name)
            describe(folder, self.manifest)
        return Bundle(path)

    def adopt(self, name: str) -> None:
        """Record a file that was written into the bundle's folder."""
        self.record(files=self.manifest["files"] | {name: sha256_of(self.path / name)})

    def record(self, forget: Sequence[str] = (), /, **facts: Any) -> None:
        """Add entries, such as test scores, to the manifest, and remove those named in ``forget``."""
        self.manifest = {name: fact for name, fact in self.manifest.items() if name not in forget} | facts
        describe(self.path, self.manifest)

    def add_seen(self, records: NDArray[np.void]) -> None:
        """Add photos, as `polytag.models.bundle.seen.seen_photos` records them, to those that the model has seen."""
        old = self._seen_file
        content = to_bytes(np.concatenate([self.seen_photos, records]))
        digest = hashlib.sha256(content).hexdigest()
        # A new name, so that the folder is complete at every moment, before and after bundle.json is replaced.
        new = f"{SEEN_FILE}-{digest[:8]}.npy"
        with write_bytes_atomically(self.path / new) as file:
            file.write(content)
        files = {name: sha256 for name, sha256 in self.manifest["files"].items() if name != old}
        self.record(files=files | {new: digest})
        if old != new:
            (self.path / old).unlink(missing_ok=True)

    def _checked(self, name: str) -> Path:
        path = self.path / name
        if name not in self.manifest["files"] or not path.is_file():
            raise BundleError(f"{self.path} is damaged: {name} is missing; restore it or train again")
        if sha256_of(path) != self.manifest["files"][name]:
            raise BundleError(f"{path} is damaged: its sha256 differs from the recorded one; restore it or train again")
        return path


def assigned_labels(probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]) -> list[int]:
    """Return the indices of the labels assigned to a photo, in descending order of probability.

    Args:
        probabilities: probability of each label, float32 (k,).
        thresholds: minimum probability for assigning each label, float32 (k,).
    """
    return [int(j) for j in np.argsort(-probabilities, kind="stable") if probabilities[j] >= thresholds[j]]


def _is_complete(manifest: Any) -> bool:
    """Return whether a manifest has all entries that tagging and reports need."""
    try:
        k = len(manifest["labels"])
        return (
            {"history", "validation_accuracy", "fit_seconds", "parameters", "trainable_parameters"} <= manifest.keys()
            and all(isinstance(label, str) for label in manifest["labels"])
            and _are_thresholds(manifest["thresholds"], k)
            and (INT8_FILE not in manifest["files"] or _are_thresholds(manifest["int8"]["thresholds"], k))
            and type(manifest["recipe"]["image_size"]) is int
            and all(Path(name).name == name for name in manifest["files"])
            and all(isinstance(digest, str) for digest in manifest["files"].values())
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


def _are_thresholds(values: Any, k: int) -> bool:
    thresholds = np.array(values, dtype=np.float64)
    return thresholds.shape == (k,) and bool(((thresholds > 0) & (thresholds < 1)).all())


def describe(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write bundle.json and the model card."""
    # Imported here because tagging needs no card.
    from polytag.models.bundle.card import model_card

    write_json(folder / "bundle.json", manifest)
    with write_atomically(folder / "MODEL_CARD.md") as file:
        file.write(model_card(manifest))


def check_unused(path: str | os.PathLike[str]) -> Path:
    """Return the path if a folder can be created there.

    Raises:
        SettingsError: the path exists already, or its parent is not writable.
    """
    path = Path(path)
    if path.exists():
        raise SettingsError(f"{path} exists already: choose a new folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}."):
            return path
    except OSError as error:
        raise SettingsError(f"{path} cannot be created ({error.strerror}): choose another folder") from None


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Create a folder atomically.

    The block receives a temporary folder, which is renamed if the block ends without an exception. Temporary folders
    that killed processes have left are deleted.

    Raises:
        SettingsError: the path exists already, or its parent is not writable.
    """
    path = Path(path)
    folder = beside(check_unused(path))
    remove_leftovers(path)
    folder.mkdir()  # unlike a folder from tempfile, it gets the permissions that the umask allows
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(held(folder))
            yield folder
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
