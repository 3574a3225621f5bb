"""Comparison of existing bundles on unseen photos, with a report but without any training."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from polytag.comparison.contest import Contest, contestant, pairs, results
from polytag.comparison.report import write_report
from polytag.data.dataset import PARTS, Dataset
from polytag.data.splitting.split_file import with_split
from polytag.errors import DataError, SettingsError
from polytag.evaluation.evaluate import Evaluation, evaluate_all
from polytag.evaluation.min_photos import MIN_PHOTOS
from polytag.evaluation.slices import automatic_slices, without_slices
from polytag.files import write_bytes_atomically, write_json
from polytag.models.bundle.bundle import Bundle, new_folder
from polytag.photos.measure import measure


def open_bundles(folders: Sequence[str | os.PathLike[str]], engines: Sequence[str] = ("float32",)) -> dict[str, Bundle]:
    """Open each bundle with each of the engines, and give it a name.

    Returns:
        The bundles by name. The name is that of the folder, or its path if two folders have the same name. It includes
        the engine unless the engine is float32.

    Raises:
        BundleError: a folder is not a bundle, or a bundle lacks an engine.
        SettingsError: a bundle or an engine is named twice.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths) or len(set(engines)) < len(engines):
        raise SettingsError("Name each bundle and each engine once.")
    short = [path.resolve().name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    return {
        name if engine == "float32" else f"{name} ({engine})": Bundle(path, engine)
        for name, path in zip(names, paths, strict=True)
        for engine in engines
    }


def part_of(data: Dataset, part: str | None = None, split: str | os.PathLike[str] | None = None) -> Dataset:
    """Return one part of a split, or all photos in the split if no part is given.

    Args:
        data: the photos.
        part: "train", "validation" or "test".
        split: a file with the columns "image" and "part". Default: the split that came with the data.

    Raises:
        SettingsError: the part is unknown, or a part is given but there is no split.
        DataError: the split does not match the data, or the part is empty.
    """
    if part is not None and part not in PARTS:
        raise SettingsError(f"The part must be one of {', '.join(PARTS)}, not '{part}'.")
    if split is not None:
        data = with_split(data, split)
    if part is None:
        return data
    if data.parts is None:
        raise SettingsError(f"The data has no split to take the {part} part from. Name one with --split.")
    found = data.take(data.parts == part)
    if not len(found):
        raise DataError(f"The split puts no image into the {part} part. Name another part or split.")
    return found


def retest(
    bundles: Mapping[str, Bundle], data: Dataset, min_photos: int = MIN_PHOTOS, show_progress: bool = True
) -> Contest:
    """Evaluate bundles on the same photos, which no bundle has seen, and compare the bundles pairwise.

    Args:
        bundles: the bundles by name. All have the same labels.
        data: the photos. Photos that any bundle has seen are excluded.
        min_photos: minimum number of photos with a label for the label to count in mAP and macro-F1.
        show_progress: draw progress bars on stderr.

    Raises:
        DataError: the labels of the bundles and the data do not match, or no photo is left.
    """
    evaluations = evaluate_all(list(bundles.values()), data, min_photos, show_progress)
    contestants = [
        contestant(name, evaluation, bundle.manifest, bundle.engine)
        for (name, bundle), evaluation in zip(bundles.items(), evaluations, strict=True)
    ]
    first = evaluations[0]
    row_of = {name: row for row, name in enumerate(data.names)}
    judged = data.take([row_of[name] for name in first.names])
    seeds = sorted({bundle.manifest["recipe"].get("seed", 0) for bundle in bundles.values()})
    return Contest(
        data_name=data.title,
        images=len(data),
        labels=first.labels,
        fingerprint=data.fingerprint,
        parts={"unseen": len(first.names)},
        notes=tuple(dict.fromkeys((*data.notes, *first.notes, *without_slices(judged.columns)))),
        left_out=data.left_out,
        contestants=tuple(contestants),
        pairs=pairs(contestants),
        version=version("polytag"),
        seed=seeds[0] if len(seeds) == 1 else ", ".join(map(str, seeds)),
        slices={**automatic_slices(measure(judged.paths).records, first.targets), **judged.columns},
    )


def write_evaluation(folder: str | os.PathLike[str], contest: Contest, data: Dataset) -> Path:
    """Write report.html, report.md, results.json and predictions.parquet into a new folder.

    Args:
        folder: the new folder, which must not exist yet. It appears only after everything has been written.
        contest: the contest that `retest` returned.
        data: the photos of the contest, for the thumbnails in the report.

    Returns:
        The path of report.html.
    """
    with new_folder(folder) as unfinished:
        write_report(unfinished, contest, dict(zip(data.names, data.paths, strict=True)))
        write_json(unfinished / "results.json", results(contest))
        evaluations = {c.name: c.evaluation for c in contest.contestants}
        write_predictions(unfinished / "predictions.parquet", evaluations)
    return Path(folder) / "report.html"


def write_predictions(path: str | os.PathLike[str], evaluations: Mapping[str, Evaluation]) -> None:
    """Write the targets and probabilities of every photo to a Parquet file, so that all scores can be recomputed.

    The columns are image, group (int64; the intervals count a group once), "target LABEL" (int8; null if unknown) and
    "MODEL LABEL" (float32, the probability). Thresholds are in results.json.

    Args:
        path: the file; replaced if it exists.
        evaluations: the evaluations by model, all on the same photos.

    Raises:
        SettingsError: two columns would have the same name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(iter(evaluations.values()))
    columns = {"image": pa.array(first.names), "group": pa.array(first.groups)}
    for j, label in enumerate(first.labels):
        targets = first.targets[:, j]
        columns[f"target {label}"] = pa.array(targets, mask=targets < 0)
    for name, evaluation in evaluations.items():
        for j, label in enumerate(first.labels):
            if f"{name} {label}" in columns:
                raise SettingsError(f"two columns would be called '{name} {label}': rename the folder of {name}")
            columns[f"{name} {label}"] = pa.array(np.ascontiguousarray(evaluation.probabilities[:, j]))
    with write_bytes_atomically(path) as file:
        pq.write_table(pa.table(columns), file)
