"""Convert a dataset to the JSON formats of Hugging Face, Label Studio, FiftyOne and COCO."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset

SERVED = "/data/local-files/?d="
"""Label Studio's prefix for files in its local storage, whose root must be the photo folder."""


def metadata_lines(names: Sequence[str], dataset: Dataset) -> Iterator[str]:
    """Yield lines of Hugging Face's metadata.jsonl, with the labels of each image and any unknown labels."""
    unknown = bool((dataset.targets < 0).any())
    for i, more in enumerate(_extras(dataset)):
        entry: dict[str, Any] = {"file_name": names[i], "labels": _labels(dataset, i, 1)}
        if unknown:
            entry["unknown_labels"] = _labels(dataset, i, -1)
        yield json.dumps({**entry, **more}, ensure_ascii=False) + "\n"


def label_studio(
    names: Sequence[str], dataset: Dataset, predictions: NDArray[np.float32] | None, limits: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Return Label Studio tasks with one annotation each and, if given, predictions.

    A photo without a known label has no annotation, so that Label Studio shows it as a task that is not done.
    """
    tasks = []
    for i, more in enumerate(_extras(dataset)):
        task: dict[str, Any] = {
            "data": {"image": SERVED + quote(names[i]), **more},
            "annotations": [{"result": _choices(_labels(dataset, i, 1))}] if (dataset.targets[i] >= 0).any() else [],
        }
        if predictions is not None:
            known = predictions[i][~np.isnan(predictions[i])]
            chosen = np.flatnonzero(predictions[i] >= limits)
            result = _choices([dataset.labels[j] for j in chosen])
            # The score is the certainty of the least certain label, so that users can sort tasks by it.
            score = float(np.maximum(known, 1 - known).min()) if len(known) else 0.0
            task["predictions"] = [{"model_version": "polytag", "score": round(score, 6), "result": result}]
        tasks.append(task)
    return tasks


def _choices(names: list[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    return [{"from_name": "labels", "to_name": "image", "type": "choices", "value": {"choices": names}}]


def fiftyone(
    names: Sequence[str], dataset: Dataset, predictions: NDArray[np.float32] | None, limits: NDArray[np.float32]
) -> dict[str, Any]:
    """Return FiftyOne samples with the field ``ground_truth``, the split as a tag, and ``predictions`` if given."""
    unknown = bool((dataset.targets < 0).any())
    samples = []
    for i, more in enumerate(_extras(dataset)):
        part = more.pop("split", None)
        sample: dict[str, Any] = {
            "filepath": names[i],
            "tags": [part] if part else [],
            "ground_truth": _classifications(_labels(dataset, i, 1)),
        }
        if unknown:
            sample["unknown_labels"] = _labels(dataset, i, -1)
        if more:
            sample["group_id"] = more["group"]
        if predictions is not None:
            chosen = np.flatnonzero(predictions[i] >= limits)
            sample["predictions"] = _classifications(
                [dataset.labels[j] for j in chosen], [round(float(predictions[i, j]), 6) for j in chosen]
            )
        samples.append(sample)
    return {"name": dataset.title, "classes": {"ground_truth": list(dataset.labels)}, "samples": samples}


def _classifications(names: list[str], confidences: Sequence[float] | None = None) -> dict[str, Any]:
    found: list[dict[str, Any]] = [{"_cls": "Classification", "label": name} for name in names]
    for one, confidence in zip(found, confidences or (), strict=False):
        one["confidence"] = confidence
    return {"_cls": "Classifications", "classifications": found}


def coco(names: Sequence[str], dataset: Dataset) -> dict[str, Any]:
    """Return COCO data with one annotation per present label. If labels are unknown, list absent ones as LVIS does."""
    unknown = bool((dataset.targets < 0).any())
    images = []
    annotations: list[dict[str, int]] = []
    for i, more in enumerate(_extras(dataset)):
        image: dict[str, Any] = {"id": i + 1, "file_name": names[i], **more}
        if unknown:
            image["neg_category_ids"] = (np.flatnonzero(dataset.targets[i] == 0) + 1).tolist()
        images.append(image)
        for j in np.flatnonzero(dataset.targets[i] == 1).tolist():
            annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": j + 1})
    categories = [{"id": j + 1, "name": label} for j, label in enumerate(dataset.labels)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _labels(dataset: Dataset, row: int, value: int) -> list[str]:
    return [dataset.labels[j] for j in np.flatnonzero(dataset.targets[row] == value)]


def _extras(dataset: Dataset) -> Iterator[dict[str, str]]:
    """Yield each photo's part and group, if the dataset has them. A photo that is alone in its group gets no group."""
    numbers, sizes = np.unique(dataset.groups, return_counts=True)
    several = set(numbers[sizes > 1].tolist())
    for i, group in enumerate(dataset.groups.tolist()):
        more = {} if dataset.parts is None else {"split": str(dataset.parts[i])}
        if several:
            more["group"] = f"g{group}" if group in several else ""
        yield more
