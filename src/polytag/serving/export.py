"""Export a bundle's network to another runtime, and check that the exported network gives the same probabilities.

::

    OUT/model.onnx (or .keras, .tflite, .xml and .bin, or a folder model)   the network
    OUT/model.json                                                          what a program needs to use the network

The network takes RGB images, uint8 (batch, size, size, 3), and scales their values itself. Labels and thresholds are
also embedded in the network's file or folder.
"""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.sample.scenes import draw_labels, draw_scene
from polytag.errors import DataError, ImageError, SettingsError, counted, printable, raise_machine_error
from polytag.evaluation.metrics import scores
from polytag.evaluation.unseen import aligned
from polytag.files import write_json
from polytag.models.bundle.bundle import Bundle, new_folder
from polytag.models.quantization.quantize import CALIBRATION_PHOTOS, MAX_LOSS
from polytag.photos.content import content_hash
from polytag.photos.decode import decode_many
from polytag.photos.kinds import is_photo
from polytag.serving.export_files import Network, embed_description, runner, write_graph, write_network
from polytag.serving.tagging.formats import Format

BATCHES = (1, 5)
"""Batch sizes at which an export is compared with the model."""

TOLERANCE = 1e-4
"""Maximum difference in probability between a floating-point export and the model."""

COMPARED = 40
"""Number of photos on which probabilities are compared."""

JUDGED = 500
"""Maximum number of labelled photos on which the mAP of an 8-bit network is compared with that of the model."""

FILES = {
    Format.keras: "model.keras",
    Format.savedmodel: "model",
    Format.onnx: "model.onnx",
    Format.litert: "model.tflite",
    Format.litert_int8: "model.tflite",
    Format.openvino: "model.xml",
}

ENCODER_FORMATS = (Format.onnx, Format.openvino)
"""Formats for bundles whose encoder is an ONNX graph."""

PREPARATION = (
    "Decode the photo to RGB. Fill transparent areas with white, and use the first frame of an animation. "
    "Resize the photo to {size} x {size} pixels without cropping, with antialiased bilinear filtering. "
    "Apply the EXIF orientation. Do not scale or normalise pixel values, because the network does this."
)

OUTPUT = (
    "probability of each label, in the order of the labels; assign a label if its probability reaches its threshold"
)

NOTES = {Format.openvino: "Compile with INFERENCE_PRECISION_HINT f32; by default some CPUs compute in bfloat16."}


def export(
    bundle: Bundle,
    form: Format | str,
    out: str | Path,
    *,
    photos: str | Path | None = None,
    data: Dataset | None = None,
) -> dict[str, Any]:
    """Export a bundle's network and compare it with the original.

    Args:
        bundle: the model.
        form: export format.
        out: folder to create; it must not exist. It appears only if the comparison succeeds.
        photos: folder of photos for the comparison. Default: photos of ``data``, or else synthetic scenes.
        data: labelled photos, required for "litert-int8". Photos that the bundle was trained on calibrate the 8-bit
            network; the other photos measure its loss in accuracy.

    Returns:
        Content of ``model.json``. The entry "parity" says what was compared and how much the probabilities differ.

    Raises:
        SettingsError: the format is unknown, requires a missing package or data, or does not support this model; or
            the probabilities of the export differ too much from those of the model.
        DataError: the required photos are missing.
    """
    form = _known(form)
    if not bundle.in_keras and form not in ENCODER_FORMATS:
        raise SettingsError(
            f"the encoder of this bundle is an ONNX graph, which cannot become {form}: export to "
            f"{' or '.join(ENCODER_FORMATS)}"
        )
    calibration, judged = _split(bundle, data) if form is Format.litert_int8 else (None, None)
    compared, source = _photos(bundle, photos, data)
    with new_folder(out) as folder:
        path = folder / FILES[form]
        facts = _description(bundle, form, path.name)
        model, write = _network(bundle, form, path, calibration)
        _attempt(f"this model cannot be exported to {form}", write)
        _attempt(f"the labels cannot be written into the {form} export", lambda: embed_description(form, path, facts))
        run = _attempt(f"the {form} export does not run", lambda: runner(form, path))
        facts["parity"] = {
            "photos": source,
            "largest_difference": _attempt(
                f"the {form} export does not run", lambda: _differences(model, run, compared)
            ),
        }
        _refuse_difference(form, facts["parity"]["largest_difference"], TOLERANCE if judged is None else 1.0)
        if judged is not None:
            facts["parity"] |= _loss(bundle, model, run, judged)
            _refuse_loss(facts["parity"])
        facts["sha256"] = {
            file.relative_to(folder).as_posix(): content_hash(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        write_json(folder / "model.json", facts)
    return facts


def _known(form: Format | str) -> Format:
    try:
        form = Format(form)
    except ValueError:
        raise SettingsError(f"unknown format '{form}': choose from {', '.join(Format)}") from None
    needed = {Format.litert: "ai_edge_litert", Format.litert_int8: "ai_edge_litert", Format.openvino: "openvino"}
    if form in needed and importlib.util.find_spec(needed[form]) is None:
        raise SettingsError(
            f"exporting to {form} needs the {form} runtime to check the result. "
            "Install it with: pip install 'polytag[export]'"
        )
    return form


def _attempt(failure: str, work: Callable[[], Any]) -> Any:
    """Call ``work`` and return its result, or raise a one-line error. Logs of converters and runtimes are dropped."""
    from polytag.models.runtimes.quiet import quiet_stderr

    reason = None
    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return work()
        except Exception as error:
            raise_machine_error(error)
            # Converters and runtimes raise many different exceptions.
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
    raise SettingsError(f"{failure} ({reason}). Nothing was written. Choose another format.")


def _network(
    bundle: Bundle, form: Format, path: Path, calibration: NDArray[np.uint8] | None
) -> tuple[Network, Callable[[], None]]:
    """Return the bundle's network and a function that writes it in another format."""
    if bundle.in_keras:
        model = bundle.keras_model()
        return model.predict_on_batch, lambda: write_network(model, form, path, calibration)
    return bundle.run, lambda: write_graph(bundle, form, path)


def _description(bundle: Bundle, form: Format, file: str) -> dict[str, Any]:
    """Return what a program needs to know to use the file."""
    size, recipe = bundle.image_size, bundle.manifest["recipe"]
    packages = ["polytag", "keras", "tensorflow"]
    packages += {Format.onnx: ["onnx", "onnxruntime"], Format.openvino: ["openvino"]}.get(form, [])
    packages += ["ai-edge-litert"] if FILES[form].endswith(".tflite") else []
    versions = {}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "format": str(form),
        "file": file,
        "labels": list(bundle.labels),
        "thresholds": [float(t) for t in bundle.thresholds],
        "input": {"dtype": "uint8", "shape": [None, size, size, 3], "layout": "batch, height, width, RGB"},
        "output": {"dtype": "float32", "shape": [None, len(bundle.labels)], "meaning": OUTPUT},
        "preparation": PREPARATION.format(size=size),
        "model": {key: recipe[key] for key in ("model", "backbone") if recipe.get(key)},
        "versions": versions,
        **({"note": NOTES[form]} if form in NOTES else {}),
    }


def _photos(bundle: Bundle, folder: str | Path | None, data: Dataset | None) -> tuple[NDArray[np.uint8], str]:
    """Return up to `COMPARED` photos for the comparison, uint8 (n, size, size, 3), and their source in words."""
    size = bundle.image_size
    if folder is None and data is None:
        seeds = (np.random.SeedSequence(0, spawn_key=(number,)) for number in range(COMPARED))
        return np.stack([np.asarray(draw_scene(draw_labels(seed), size, seed)) for seed in seeds]), (
            f"{COMPARED} synthetic scenes, since no photos were given"
        )
    if folder is not None:
        files = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file() and is_photo(path))
        name = Path(folder).resolve().name
    else:
        assert data is not None
        files, name = list(data.paths), data.title
    pixels = _decoded(_spread(files, COMPARED), size)
    if not pixels:
        raise DataError(f"{printable(str(folder or name))} contains no readable photos: name a folder of photos")
    # If there are too few photos for the largest batch, some are repeated.
    rows = np.arange(max(len(pixels), BATCHES[-1])) % len(pixels)
    return np.stack(pixels)[rows], f"{counted(len(pixels), 'photo')} of {name}"


def _split(bundle: Bundle, data: Dataset | None) -> tuple[NDArray[np.uint8], Dataset]:
    """Return calibration photos, uint8 (n, size, size, 3), and labelled photos that measure the loss in accuracy."""
    if data is None:
        raise SettingsError(
            f"{Format.litert_int8} needs labelled photos to calibrate the network and to measure its loss in accuracy: "
            "name the training photos, together with some other photos, with --data"
        )
    aligned(bundle.labels, data)
    seen = bundle.seen(data)
    if not seen.any():
        raise DataError("none of these photos were used in training: --data must include the training photos")
    calibrating = np.array(_spread(np.flatnonzero(seen).tolist(), CALIBRATION_PHOTOS))
    left = np.flatnonzero(~seen)
    if not len(left):
        left = np.setdiff1d(np.flatnonzero(seen), calibrating)
    judged = data.take(_spread(left.tolist(), JUDGED))
    if not (judged.targets == 1).any():
        raise DataError(
            f"no labelled photos are left to measure the loss in accuracy: name more photos with --data "
            f"(calibration uses up to {CALIBRATION_PHOTOS})"
        )
    photos = _decoded(list(data.paths[calibrating]), bundle.image_size)
    if not photos:
        raise DataError("none of the training photos can be read now: check that the files are still there")
    return np.stack(photos), judged


def _spread(items: list, at_most: int) -> list:
    """Return up to ``at_most`` of the items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, at_most).round().astype(int))] if items else []


def _decoded(files: Sequence[str], size: int) -> list[NDArray[np.uint8]]:
    """Decode the photos and leave out those that cannot be read."""
    return [pixels for pixels in decode_many(files, size) if not isinstance(pixels, ImageError)]


def _differences(model: Network, exported: Network, photos: NDArray[np.uint8]) -> dict[str, float]:
    """Return the largest difference in probability for each batch size in `BATCHES`."""
    found = {}
    for n in BATCHES:
        batches = (photos[i : i + n] for i in range(0, len(photos) - n + 1, n))
        found[f"batch {n}"] = float(
            np.max([np.abs(exported(batch) - np.asarray(model(batch))).max() for batch in batches])
        )
    return found


def _loss(bundle: Bundle, model: Network, exported: Network, judged: Dataset) -> dict[str, Any]:
    """Compare the scores of an 8-bit network and the model on labelled photos."""
    photos = enumerate(decode_many(judged.paths, bundle.image_size))
    readable = ((row, pixels) for row, pixels in photos if not isinstance(pixels, ImageError))
    rows: list[int] = []
    expected, got = [], []
    while some := list(islice(readable, BATCHES[-1])):
        rows += [row for row, _ in some]
        batch = np.stack([pixels for _, pixels in some])
        expected.append(np.asarray(model(batch)))
        got.append(exported(batch))
    if not rows:
        raise DataError("none of the labelled photos that measure the loss in accuracy can be read")
    a, b = np.concatenate(expected), np.concatenate(got)
    targets = aligned(bundle.labels, judged)[0][rows]
    return {
        "judged": len(rows),
        "mean_average_precision": {
            name: scores(targets, p)["mean_average_precision"] for name, p in (("model", a), ("export", b))
        },
        "mean_difference": float(np.abs(a - b).mean()),
        "changed_decisions": float(((a >= bundle.thresholds) != (b >= bundle.thresholds)).mean()),
    }


def _refuse_difference(form: Format, differences: dict[str, float], most: float) -> None:
    for batch, difference in differences.items():
        if not difference <= most:  # This comparison also refuses NaN.
            raise SettingsError(
                f"the probabilities of the {form} export differ from those of the model by up to {difference:.2g} at "
                f"{batch}, but the limit is {most:g}. Nothing was written. Choose another format."
            )


def _refuse_loss(parity: dict[str, Any]) -> None:
    before, after = parity["mean_average_precision"].values()
    if not before - after < MAX_LOSS:
        raise SettingsError(
            f"quantization to 8 bits lowers the mAP from {before:.4f} to {after:.4f} on "
            f"{counted(parity['judged'], 'photo')}, but the loss must be less than {MAX_LOSS:g}. "
            f"Nothing was written. Export to {Format.litert} instead."
        )
