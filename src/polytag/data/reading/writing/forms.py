"""Write datasets in any supported format, which the file name or the user determines."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polytag.data.dataset import Dataset
from polytag.data.reading.write import TABLE_EXTENSIONS, check_names, names_from, write_table
from polytag.data.reading.writing.folders import write_folders
from polytag.data.reading.writing.json_forms import coco, fiftyone, label_studio, metadata_lines
from polytag.errors import DataError, SettingsError, counted, listed
from polytag.files import refuse_same_file, write_atomically, write_json

FORMS = ("table", "metadata", "label-studio", "fiftyone", "coco", "folders")
"""Supported output formats: a CSV, TSV or Parquet table, Hugging Face's metadata.jsonl, the JSON formats of three
tools, and one folder per label."""

PREDICTED = ("label-studio", "fiftyone")
"""Formats that can hold a model's predictions in addition to the labels."""


@dataclass(frozen=True)
class Written:
    """The result of `write`.

    Attributes:
        form: the format, one of `FORMS`.
        images: the folder to pass with ``--images`` when reading the file, or ``None`` if the images are found without
            it.
        notes: what the format cannot hold, and how that was handled.
    """

    form: str
    images: Path | None = None
    notes: tuple[str, ...] = ()


def form_of(path: str | os.PathLike[str], form: str | None = None) -> str:
    """Return the output format, which follows from the file name unless it is given.

    Raises:
        SettingsError: the format does not exist, or the file name is ambiguous.
    """
    path = Path(path)
    name, extension = path.name.lower(), path.suffix.lower()
    if form is not None and form not in FORMS:
        raise SettingsError(f"--to must be one of {', '.join(FORMS)}, not '{form}'")
    fits = {
        "table": extension in TABLE_EXTENSIONS,
        "metadata": extension == ".jsonl",
        "folders": not extension or path.is_dir(),
    }
    if form is not None:
        if not fits.get(form, extension == ".json"):
            wanted = {"table": ", ".join(TABLE_EXTENSIONS), "metadata": "metadata.jsonl", "folders": "a folder"}
            raise SettingsError(f"{path} does not fit --to {form}: expected {wanted.get(form, 'a .json file')}")
        return form
    if extension == ".json":
        named = [one for one in FORMS if one.replace("-", "") in name.replace("-", "").replace("_", "")]
        if "instances" in name:
            named.append("coco")
        if len(named) == 1:
            return named[0]
        raise SettingsError(f"{path} could be in several formats: choose with --to label-studio, fiftyone or coco")
    found = next((one for one, fit in fits.items() if fit), None)
    if found is None:
        raise SettingsError(
            f"{path} has the extension '{path.suffix}': expected {', '.join(TABLE_EXTENSIONS)}, .jsonl, .json or the "
            "name of a folder"
        )
    return found


def write(
    path: str | os.PathLike[str],
    dataset: Dataset,
    form: str | None = None,
    *,
    predictions: ArrayLike | None = None,
    threshold: ArrayLike = 0.5,
    link: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Written:
    """Write photos and labels in a format that `read` and other programs understand.

    Args:
        path: path of a file, or of a new folder if the format is "folders".
        dataset: the photos and their labels.
        form: one of `FORMS`. By default, the file name determines the format.
        predictions: float (n, k), probabilities to write in addition to the labels (Label Studio and FiftyOne only).
        threshold: float or (k,), minimum probability of a predicted label.
        link: for "folders", create links to the photos instead of copying them.
        inputs: files that must not be overwritten.

    Returns:
        The format, the folder to pass when reading, and notes about what the format could not hold.

    Raises:
        SettingsError: the path does not fit the format, is an input, or cannot be written to.
        DataError: the format cannot hold these labels, or a name would change when it is read back.
    """
    path = Path(path).expanduser()
    form = form_of(path, form)
    refuse_same_file(path, [*inputs, *dataset.paths.tolist()])
    if predictions is not None and form not in PREDICTED:
        raise SettingsError(f"predictions can be written for {listed(list(PREDICTED))} only, not for {form}")
    if form == "table":
        return Written(form, write_table(path, dataset))
    if form == "folders":
        return Written(form, None, write_folders(path, dataset, link))
    names, images = names_from(path, dataset)
    check_names(names, dataset.labels)
    notes = _lost(form, dataset)
    predicted = None if predictions is None else _predictions(predictions, dataset)
    limits = np.broadcast_to(np.asarray(threshold, np.float32), (len(dataset.labels),))
    if form == "metadata":
        with write_atomically(path) as file:
            file.writelines(metadata_lines(names, dataset))
    elif form == "coco":
        write_json(path, coco(names, dataset))
    else:
        make = label_studio if form == "label-studio" else fiftyone
        write_json(path, make(names, dataset, predicted, limits))
    return Written(form, images, tuple(notes))


def _predictions(predictions: ArrayLike, dataset: Dataset) -> NDArray[np.float32]:
    array = np.asarray(predictions, np.float32)
    if array.shape != dataset.targets.shape:
        raise SettingsError(f"predictions need the shape {dataset.targets.shape}, not {array.shape}")
    return array


def _lost(form: str, dataset: Dataset) -> list[str]:
    """Return notes about what a format cannot hold.

    Raises:
        DataError: a label would change when it is read back.
    """
    notes = []
    unlabelled = (dataset.targets < 0).all(axis=1)
    unknown = int((dataset.targets[~unlabelled] < 0).sum())
    if form == "label-studio" and unknown:
        raise DataError(
            f"Label Studio's tasks cannot hold {counted(unknown, 'unknown entry')}: write a table, metadata.jsonl, "
            "FiftyOne or COCO instead, or decide on these entries first"
        )
    if form == "label-studio" and unlabelled.any():
        notes.append(f"{counted(int(unlabelled.sum()), 'photo')} without known labels: tasks without an annotation")
    idle = [dataset.labels[j] for j in np.flatnonzero(~(dataset.targets != 0).any(axis=0))]
    if idle and form in ("metadata", "label-studio"):
        notes.append(f"{counted(len(idle), 'label')} without photos not written: {listed(idle)}")
    if dataset.parts is not None and len(set(dataset.parts.tolist())) == 1:
        notes.append(f"every photo is in the {dataset.parts[0]} part, so the split is lost when the file is read")
    return notes
