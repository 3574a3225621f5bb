"""The main job: split the data, train several models, test each once on the same photos, and write a report.

With repeats, this is done on several splits. The run's folder fills step by step (``split.csv``, one bundle per model,
results and report), so an interrupted run can resume with the missing steps.
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from polytag.comparison.contest import Contest, Contestant, contestant, pairs, results
from polytag.comparison.estimate import expected_seconds
from polytag.comparison.plan import Plan, check_backbones, check_comparison
from polytag.comparison.repeats import Repeats
from polytag.comparison.report import write_report
from polytag.comparison.run_folder import locked_folder, prepare_folder, repeat_folder, started_run
from polytag.data.dataset import PARTS, Dataset, describe_left_out
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.learnable import check_learnable, learnable
from polytag.data.splitting.split import split, split_facts
from polytag.data.splitting.split_file import with_split, write_split
from polytag.errors import DataError, counted
from polytag.evaluation.evaluate import evaluate
from polytag.evaluation.metrics import TITLES
from polytag.evaluation.min_photos import MIN_PHOTOS, check_min_photos
from polytag.evaluation.slices import automatic_slices, without_slices
from polytag.files import unfinished, write_json
from polytag.models.bundle.bundle import Bundle
from polytag.models.bundle.card import quantization_summary
from polytag.models.options import TrainOptions
from polytag.models.recipe import MODEL_NAMES
from polytag.photos.measure import SIDE, measure
from polytag.photos.pixels import pixels
from polytag.progress import progress_bar


@dataclass(frozen=True)
class Comparison:
    """A finished run: its folder and its results."""

    folder: Path
    contest: Contest

    @property
    def report(self) -> Path:
        """Return the path of the report, a single HTML file."""
        return self.folder / "report.html"

    def bundle(self, model: str, repeat: int = 1) -> Bundle:
        """Open the bundle of one model, by default from the first repeat."""
        return Bundle(repeat_folder(self.folder, repeat) / model)


Found = tuple[dict[str, Mapping[str, float]], list[Contestant]]
"""The results of a repeat: the scores of each model and, for the first repeat, the contestants for the report."""


@dataclass(frozen=True)
class _Repeat:
    """One split, and the seed for training.

    Attributes:
        number: number of the repeat, counted from 1.
        seed: seed of training, and of the split unless the data came with a split.
        parts: the training, validation and test sets.
        notes: sentences about what was found while splitting the data.
        split: how the split was made, recorded in the bundles.
    """

    number: int
    seed: int
    parts: tuple[Dataset, Dataset, Dataset]
    notes: list[str]
    split: dict[str, Any]


def compare(
    data: Dataset,
    out: str | os.PathLike[str],
    models: Sequence[str] = MODEL_NAMES,
    options: TrainOptions | None = None,
    *,
    given_split: str | os.PathLike[str] | None = None,
    tune: Sequence[str] = ("tuned",),
    repeats: int = 1,
    fewer_repeats: Mapping[str, int] | None = None,
    min_photos: int = MIN_PHOTOS,
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    say: Callable[[str], object] = lambda line: None,
    **settings: Any,
) -> Comparison:
    """Train models and compare them on the same unseen photos.

    Each repeat draws a new split and trains every model again, with the next seed. If the data came with a split or
    ``given_split`` is set, all repeats use that split and only training varies. All repeats share cached pixels and
    embeddings.

    Labels that are too rare to learn are left out and reported.

    Args:
        data: the photos.
        out: the run's folder. It must not exist, unless ``resume`` or ``overwrite`` is set.
        models: names of the models, in the order of the table.
        options: the training options. Each model uses the options that apply to it. Default: ``TrainOptions()``.
        given_split: a file with a split to use, such as ``split.csv``.
        tune: models whose hyperparameters are searched. Hyperparameters of "tuned" are always searched.
        min_photos: minimum number of test photos for a label to count in mAP and macro-F1. Labels with fewer photos are
            reported separately.
        repeats: number of splits and training runs.
        fewer_repeats: the number of repeats for models that get fewer.
        resume: resume an interrupted run. The data and the settings must be the same, but repeats may be added.
        overwrite: replace an earlier run.
        show_progress: draw progress bars on stderr.
        say: called with one line of plain text per step.
        settings: fields of `TrainOptions` that override ``options``: ``epochs=5``, ``timeout="10m"``, …

    Raises:
        SettingsError: a setting or the folder cannot be used.
        DataError: no label can be learned from the data.
        WeightsError: pretrained weights are missing (transfer and the classical methods).
    """
    check_min_photos(min_photos)
    options = (options or TrainOptions()).override(settings)
    folder = Path(out)
    plan = check_comparison(
        folder,
        models,
        options,
        tune=tune,
        repeats=repeats,
        fewer_repeats=fewer_repeats,
        resume=resume,
        overwrite=overwrite,
    )
    check_learnable(data)
    if given_split is not None:
        with_split(data, given_split)
    check_backbones(plan, folder, resume)
    data = _read(data, plan, resume, show_progress, say)
    with progress_bar(len(data), "looking for duplicates", "photo", show_progress) as bar:
        first = _repeat(data, 1, options.seed, given_split, bar.update)
    one_split = given_split is not None or data.parts is not None
    last = max(plan.repeats.values())
    splits, notes = _check_splits(_repeats(data, first, 1 if one_split else last, given_split))
    request = _request(data, splits, models, tune, options, plan) | {"min_photos": min_photos}
    with locked_folder(folder):
        # Checked again, because another process may have started a run while the data was read.
        started = started_run(folder, resume, overwrite)
        prepare_folder(folder, request, started if resume else None)
        first = replace(first, notes=[*first.notes, *notes])
        repeated = _repeats(data, first, last, given_split)
        found = [_run(repeat, plan, folder, min_photos, show_progress, say) for repeat in repeated]
        return _finish(folder, _contest(data, first, found, one_split), first.parts[2])


def _finish(folder: Path, contest: Contest, test: Dataset) -> Comparison:
    """Write the results and the report, which shows photos of the test set."""
    write_json(folder / "results.json", results(contest))
    write_report(folder, contest, dict(zip(test.names, test.paths, strict=True)))
    return Comparison(folder, contest)


def _read(data: Dataset, plan: Plan, resume: bool, show_progress: bool, say: Callable[[str], object]) -> Dataset:
    """Measure the photos and cache their pixels at each size. Leave out unreadable photos, and report them.

    The first line says how long the comparison will take, unless it is resumed or has a limit.
    """
    timed = not (resume or plan.time_share.is_limited)
    if line := plan.time_share.expect(expected_seconds(data, plan) if timed else {}, plan.repeats):
        say(line)
    for advice in filter(None, (options.advice(model) for model, options in plan.options.items())):
        say(advice)
    sizes = plan.sizes or [SIDE]
    with progress_bar((1 + len(sizes)) * len(data), "reading photos", "photo", show_progress) as bar:
        # The split needs the measurements. At the usual size, decoding once serves both measuring and training.
        measure(data.paths, bar.update, keep_pixels=SIDE in sizes)
        readable = data
        for size in sizes:
            readable = readable.without(pixels(readable.paths, size, bar.update)[2])
    for line in readable.notes[len(data.notes) :]:
        say(line)
    return readable


def _request(
    data: Dataset,
    splits: Sequence[str],
    models: Sequence[str],
    tune: Sequence[str],
    options: TrainOptions,
    plan: Plan,
) -> dict[str, Any]:
    """Return the settings of a run. A resumed run must have the same settings, except that repeats may be added."""
    return {
        "polytag": version("polytag"),
        "models": list(models),
        "objective": options.objective,
        "seed": options.seed,
        "repeats": plan.repeats,
        "data": data.fingerprint,
        "split": list(splits),
        "weights": {model: weights.name for model, weights in plan.weights.items()},
        "int8": options.int8,
        "tune": sorted({"tuned", *tune} & set(models)),
        "settings": {name: value for name, value in options.settings.items() if name != "seed"},
    }


def _check_splits(repeats: Iterator[_Repeat]) -> tuple[list[str], list[str]]:
    """Make all splits once, to find a split that cannot be learned from before hours of training.

    Returns:
        A digest of each split, and notes on splits with labels that differ from the first split's labels.
    """
    digests, notes, labels = [], [], None
    for repeat in repeats:
        train = repeat.parts[0]
        labels = labels or train.labels
        digests.append(_digest(repeat))
        if train.labels != labels:
            told = describe_left_out(train.labels_left_out) if train.labels_left_out else "no label left out"
            notes.append(f"repeat {repeat.number} scores other labels than the first: {told}")
    return digests, notes


def _digest(repeat: _Repeat) -> str:
    """Return 16 hexadecimal digits that identify the split."""
    return hashlib.sha256(repr([part.names for part in repeat.parts]).encode()).hexdigest()[:16]


def _repeats(data: Dataset, first: _Repeat, last: int, given_split: str | os.PathLike[str] | None) -> Iterator[_Repeat]:
    """Yield the repeats up to number ``last``. Splits are made on demand, because each split copies all targets."""
    yield first
    for number in range(2, last + 1):
        seed = first.seed + number - 1
        if given_split is not None or data.parts is not None:
            yield replace(first, number=number, seed=seed)
        else:
            yield _repeat(data, number, seed, None)


def _run(
    repeat: _Repeat, plan: Plan, folder: Path, min_photos: int, show_progress: bool, say: Callable[[str], object]
) -> Found:
    """Train and test the models on one split.

    Returns:
        The scores of each model that has this repeat, and for the first repeat the contestants for the report.
    """
    train, validation, test = repeat.parts
    out = repeat_folder(folder, repeat.number)
    out.mkdir(exist_ok=True)
    write_split(out / "split.csv", *repeat.parts)
    last = max(plan.repeats.values())
    name = f"repeat {repeat.number} of {last}: " if last > 1 else ""
    sizes = ", ".join(f"{len(part):,} {of}" for of, part in zip(PARTS, repeat.parts, strict=True))
    if train.labels_left_out:
        say(f"{name}{describe_left_out(train.labels_left_out)}")
    say(f"{name}split: {sizes}")
    scores: dict[str, Mapping[str, float]] = {}
    contestants = []
    for model in [model for model, times in plan.repeats.items() if repeat.number <= times]:
        options = plan.options[model].override({"seed": repeat.seed, "minutes": plan.time_share.next()})
        start, is_new = time.monotonic(), not (out / model).exists()
        bundle = _train(train, validation, model, options, out, show_progress, lambda line: say(f"{name}{line}"))
        if repeat.number == 1:
            contestants.append(_test(bundle, test, model, repeat.split, min_photos))
        elif "test" not in bundle.manifest:
            _test(bundle, test, model, repeat.split, min_photos)
        # The recorded scores are used, so that a resumed run need not tag the test photos of further repeats again.
        scores[model] = {metric: bundle.manifest["test"].get(metric, math.nan) for metric in TITLES}
        if options.int8 and bundle.manifest["int8"]["kept"]:
            quantized = _test_int8(bundle, test, model, min_photos)
            contestants += [quantized] if repeat.number == 1 else []
            scores[quantized.name] = quantized.evaluation.scores
        left = plan.time_share.left_after(model, time.monotonic() - start if is_new else None)
        say(f"{name}{model}: test samples-F1 {scores[model]['samples_f1']:.3f}{left}")
    if contestants and (rarity := contestants[0].evaluation.rarity):
        say(rarity)
    return scores, contestants


def _train(
    train: Dataset,
    validation: Dataset,
    model: str,
    options: TrainOptions,
    folder: Path,
    show_progress: bool,
    say: Callable[[str], object],
) -> Bundle:
    """Train a model, or open its bundle if an interrupted run has already trained the model."""
    from polytag.models.fit import fit

    out, progress = folder / model, unfinished(folder / model)
    if out.exists():
        say(f"{model}: already trained")
        bundle = Bundle(out)
    else:
        bundle = fit(
            train, validation, model, options, out=out, checkpoints=progress, show_progress=show_progress, say=say
        )
    shutil.rmtree(progress, ignore_errors=True)
    if options.int8:
        say(quantization_summary(bundle.manifest["int8"]))
    return bundle


def _test(bundle: Bundle, test: Dataset, model: str, split_record: Mapping[str, Any], min_photos: int) -> Contestant:
    """Evaluate a model on the test photos, record the result in its bundle, and return a contestant for the report."""
    evaluation = evaluate(bundle, test, min_photos)
    bundle.record(
        test={name: value for name, value in evaluation.scores.items() if value == value},
        tested=evaluation.recorded(),
        split=split_record,
    )
    return contestant(model, evaluation, bundle.manifest)


def _test_int8(bundle: Bundle, test: Dataset, model: str, min_photos: int) -> Contestant:
    """Evaluate the quantized model of a bundle on the test photos, with its own thresholds."""
    evaluation = evaluate(Bundle(bundle.path, "int8"), test, min_photos)
    found = contestant(f"{model} (int8)", evaluation, bundle.manifest, "int8")
    return replace(found, quantized_from=model)


def _contest(data: Dataset, first: _Repeat, found: Sequence[Found], one_split: bool) -> Contest:
    contestants, repeats = found[0][1], None
    if len(found) > 1:
        seeds = tuple(range(first.seed, first.seed + len(found)))
        scores = {c.name: [scores.get(c.name) for scores, _ in found] for c in contestants}
        repeats = Repeats(seeds, len(first.parts[0]), len(first.parts[2]), scores, one_split)
    # Photos may have become unreadable since the split was made.
    judged = first.parts[2].take(np.isin(first.parts[2].names, contestants[0].evaluation.names))
    return Contest(
        data_name=data.title,
        images=len(data),
        labels=first.parts[0].labels,
        fingerprint=data.fingerprint,
        parts={name: len(part) for name, part in zip(PARTS, first.parts, strict=True)},
        notes=(*first.notes, *(note for c in contestants for note in c.time_notes), *without_slices(judged.columns)),
        left_out=data.left_out,
        labels_left_out=first.parts[0].labels_left_out,
        contestants=tuple(contestants),
        pairs=pairs(contestants, repeats),
        version=version("polytag"),
        seed=first.seed,
        repeats=repeats,
        slices={**automatic_slices(measure(judged.paths).records, judged.targets), **judged.columns},
    )


def _repeat(
    data: Dataset,
    number: int,
    seed: int,
    given_split: str | os.PathLike[str] | None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> _Repeat:
    parts, notes = _parts(data, seed, given_split, on_progress)
    return _Repeat(number, seed, parts, notes, split_facts(data, parts, seed, given_split) | {"notes": notes})


def _parts(
    data: Dataset, seed: int, given_split: str | os.PathLike[str] | None, on_progress: Callable[[int], object]
) -> tuple[tuple[Dataset, Dataset, Dataset], list[str]]:
    """Split the data, and return the training, validation and test sets with notes about them."""
    from polytag.models.fit import check_validation

    train, validation, test = split(data, seed=seed, given=given_split, on_progress=on_progress)
    notes = list(train.notes)
    if given_split is not None:
        notes.append(f"split taken from {Path(given_split).name}")
    straddling = leaks((train, validation, test))
    if straddling:
        seen = np.isin(test.groups, np.concatenate([train.groups, validation.groups]))
        notes.append(
            f"{counted(straddling.groups, 'group')} of photos in more than one part of the given split: "
            f"{counted(int(seen.sum()), 'test image')} of these groups left out"
        )
        test = test.take(~seen)
        if not len(test):
            raise DataError(
                "every test image of the given split belongs to a group with photos in another part. Split without it."
            )
    train, validation = learnable(train, validation)
    test = test.without_labels(train.labels_left_out)
    check_validation(validation)
    return (train, validation, test), notes
