"""The forms that a data set can be written in, chosen by the file's name or by the user."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polytag.data.dataset import Dataset
from polytag.data.reading.write import TABLE_ENDINGS, check_names, names_from, write_table
from polytag.data.reading.writing.folders import write_folders
from polytag.data.reading.writing.json_forms import coco, fiftyone, label_studio, metadata_lines
from polytag.errors import DataError, SettingsError, counted, listed
from polytag.files import refuse_same_file, write_atomically, write_json

FORMS = ("table", "metadata", "label-studio", "fiftyone", "coco", "folders")
"""What can be written: a CSV, TSV or Parquet table, Hugging Face's metadata.jsonl, the JSON of three tools, or folders
per label."""

PREDICTED = ("label-studio", "fiftyone")
"""Forms that hold a model's predictions beside the labels."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        form: one of `FORMS`.
        images: the folder to name with ``--images`` when the file is read, or ``None`` if the images are found.
        notes: what the form cannot hold and what became of it, in words.
    """

    form: str
    images: Path | None = None
    notes: tuple[str, ...] = ()


def form_of(path: str | os.PathLike[str], form: str | None = None) -> str:
    """The form to write, by the file's name unless it is given.

    Raises:
        SettingsError: there is no such form, or the name leaves it open.
    """
    path = Path(path)
    name, ending = path.name.lower(), path.suffix.lower()
    if form is not None and form not in FORMS:
        raise SettingsError(f"--to must be one of {', '.join(FORMS)}, not '{form}'")
    fits = {
        "table": ending in TABLE_ENDINGS,
        "metadata": ending == ".jsonl",
        "folders": not ending or path.is_dir(),
    }
    if form is not None:
        if not fits.get(form, ending == ".json"):
            wanted = {"table": ", ".join(TABLE_ENDINGS), "metadata": "metadata.jsonl", "folders": "a folder"}
            raise SettingsError(
                f"{path} does not fit --to {form}: expected {wanted.get(form, 'a file ending in .json')}"
            )
        return form
    if ending == ".json":
        named = [one for one in FORMS if one.replace("-", "") in name.replace("-", "").replace("_", "")]
        if "instances" in name:
            named.append("coco")
        if len(named) == 1:
            return named[0]
        raise SettingsError(f"{path} could be several forms: choose with --to label-studio, fiftyone or coco")
    found = next((one for one, fit in fits.items() if fit), None)
    if found is None:
        raise SettingsError(
            f"{path} ends in '{path.suffix}': expected {', '.join(TABLE_ENDINGS)}, .jsonl, .json or a folder's name"
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
    """Write photos and labels in a form that `read` and other programs understand.

    Args:
        path: a file, or a new folder for folders per label.
        dataset: the photos and their labels.
        form: one of `FORMS`; by default decided by the name.
        predictions: float (n, k), probabilities to write beside the labels, for Label Studio and FiftyOne.
        threshold: float or (k,), the probability from which on a label counts as predicted.
        link: for folders, link to the photos instead of copying them.
        inputs: files that must not be written over.

    Returns:
        The form, the folder to name on reading, and what the form could not hold.

    Raises:
        SettingsError: the path does not fit the form, is an input, or cannot be written.
        DataError: the form cannot hold these labels, or a name would come back as another.
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
    """What a form cannot hold, in words.

    Raises:
        DataError: something that would come back as another label.
    """
    notes = []
    unknown = int((dataset.targets < 0).sum())
    if form == "label-studio" and unknown:
        raise DataError(
            f"Label Studio's tasks cannot hold {counted(unknown, 'unknown entry')}: write a table, metadata.jsonl, "
            "FiftyOne or COCO instead, or settle them first"
        )
    idle = [dataset.labels[j] for j in np.flatnonzero(~(dataset.targets != 0).any(axis=0))]
    if idle and form in ("metadata", "label-studio"):
        notes.append(f"{counted(len(idle), 'label')} of no photo not written, as only present ones are: {listed(idle)}")
    if dataset.parts is not None and len(set(dataset.parts.tolist())) == 1:
        notes.append(f"every photo is in the {dataset.parts[0]} part, so reading will see no split")
    return notes
