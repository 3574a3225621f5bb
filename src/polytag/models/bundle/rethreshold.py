"""New thresholds for an existing bundle, without training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.splitting.groups import keep_together
from polytag.errors import DataError, SettingsError, counted, listed
from polytag.evaluation.metrics import scores
from polytag.evaluation.objectives import parse_objective
from polytag.evaluation.thresholds import choose_thresholds, out_of_reach
from polytag.evaluation.unseen import aligned
from polytag.models.bundle.bundle import Bundle
from polytag.models.bundle.seen import SEEN_PARTS, same_files, same_pictures, seen_photos
from polytag.photos.measure import measure

WITHOUT_THRESHOLDS = (
    "mean_average_precision",
    "label_ranking_average_precision",
    "coverage_error",
    "label_ranking_loss",
    "calibration_error",
)
"""Validation scores that other thresholds do not change."""


def by_hand(labels: Sequence[str], settings: Sequence[str]) -> dict[str, float]:
    """Read thresholds such as "dog=0.4".

    Raises:
        SettingsError: a label is unknown or named twice, or a value is not between 0 and 1.
    """
    found: dict[str, float] = {}
    for setting in settings:
        label, _, text = setting.rpartition("=")
        label = label.strip()
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not label or not 0 < value < 1:
            raise SettingsError(f"'{setting}' sets no threshold. Write it as LABEL=0.4, with a value between 0 and 1.")
        if label not in labels:
            raise SettingsError(f"The bundle has no label '{label}'. It has {listed(list(labels))}.")
        if label in found:
            raise SettingsError(f"The threshold of {label} is set twice. Set it once.")
        found[label] = value
    return found


def validation_photos(bundle: Bundle, data: Dataset) -> Dataset:
    """Return the photos that validated the bundle. If nothing was trained, all photos can choose its thresholds.

    Raises:
        DataError: there are none.
    """
    if not bundle.is_trained:
        return data
    found = data.take(bundle.seen_as(data, "validation"))
    if not len(found):
        raise DataError(
            "None of these images is a validation image of the bundle. Name the data it was trained on, or choose "
            "other photos with --split."
        )
    return found


def choose_anew(bundle: Bundle, photos: Dataset, objective: str, which: str) -> list[str]:
    """Choose thresholds on photos that did not train the bundle, and record them for each of its engines.

    The photos count as seen from now on, so that `evaluate` leaves them out. Test scores of the old thresholds are
    removed from the bundle.

    Args:
        bundle: the bundle; its folder is changed.
        photos: the photos, without the training photos among them. Labels that they do not know keep their thresholds.
        objective: as in `polytag.evaluation.thresholds.choose_thresholds`.
        which: what photos they are, such as "the validation set", for the model card.

    Returns:
        Notes on what was left out.

    Raises:
        SettingsError: unknown objective.
        DataError: no photo is left, or none has a label.
    """
    parse_objective(objective)
    targets, notes = aligned(bundle.labels, photos)
    known = bundle.seen_photos
    trained = known[known["part"] == SEEN_PARTS.index("train")]
    used = same_files(photos, trained)
    used |= same_pictures(measure(photos.paths), trained)
    if used.any():
        notes.append(f"{counted(int(used.sum()), 'image')} left out because the model was trained on them")
        photos, targets = photos.take(~used), targets[~used]
    if not (targets == 1).any():
        raise DataError(f"{counted(len(photos), 'image')} without any label. Thresholds need images with labels.")

    engines = {name: Bundle(bundle.path, name) for name in bundle.engines}
    predicted = {name: engine.predict(photos.paths) for name, engine in engines.items()}
    bad = {path: reason for _, reasons in predicted.values() for path, reason in reasons.items()}
    readable = np.array([path not in bad for path in photos.paths])
    if bad:
        photos, targets = photos.without(bad), targets[readable]
        notes.append(photos.notes[-1])
    groups = keep_together(photos).groups
    facts = {
        name: _facts(engine, targets, predicted[name][0][readable], objective, groups)
        for name, engine in engines.items()
    }
    new = photos.take(~same_files(photos, known))
    if len(new):
        bundle.add_seen(seen_photos(new, "thresholds"))
    chosen = {"which": which, "photos": len(photos), "fingerprint": photos.fingerprint, "by_hand": {}}
    chosen |= {"scores": facts["float32"].pop("scores")}
    _record(bundle, facts, objective=objective, chosen=chosen)
    return notes


def set_thresholds(bundle: Bundle, thresholds: Mapping[str, float]) -> None:
    """Set the thresholds of some labels, for each engine of the bundle, and record them as set by hand."""
    order = [bundle.labels.index(label) for label in thresholds]
    facts = {}
    for name in bundle.engines:
        values = Bundle(bundle.path, name).thresholds.astype(float)
        values[order] = list(thresholds.values())
        facts[name] = {"thresholds": values.tolist()}
    chosen = dict(bundle.manifest.get("chosen", {}))
    chosen |= {"by_hand": chosen.get("by_hand", {}) | dict(thresholds), "scores": {}}
    _record(bundle, facts, chosen=chosen)


def _facts(
    bundle: Bundle, targets: NDArray[np.int8], p: NDArray[np.float32], objective: str, groups: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the information recorded about one engine's new thresholds."""
    thresholds = choose_thresholds(targets, p, objective, groups)
    beyond = out_of_reach(targets, p, objective, groups)
    unknown = (targets < 0).all(axis=0)
    thresholds[unknown] = bundle.thresholds[unknown]
    judged = scores(targets, p, thresholds)
    return {
        "thresholds": [float(threshold) for threshold in thresholds],
        "out_of_reach": [label for label, out in zip(bundle.labels, beyond, strict=True) if out],
        "scores": {name: value if np.isfinite(value) else None for name, value in judged.items()},
    }


def _record(bundle: Bundle, facts: Mapping[str, dict[str, Any]], **more: Any) -> None:
    """Record what was decided for each engine, and forget the scores of the old thresholds."""

    def kept(recorded: Mapping[str, Any]) -> dict[str, Any]:
        validation = recorded.get("validation", {})
        return {"validation": {name: validation[name] for name in WITHOUT_THRESHOLDS if name in validation}}

    manifest = bundle.manifest
    if "int8" in facts:
        changed = {name: value for name, value in facts["int8"].items() if name != "scores"}
        more["int8"] = manifest["int8"] | changed | kept(manifest["int8"])
    bundle.record(("test", "tested"), **facts["float32"], **kept(manifest), **more)
    bundle.thresholds = Bundle(bundle.path, bundle.engine).thresholds
