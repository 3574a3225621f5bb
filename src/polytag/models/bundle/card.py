"""Model card: the content of a bundle's manifest as readable text.

The headings follow Mitchell et al. 2019, "Model cards for model reporting".
"""

from collections.abc import Mapping
from typing import Any

from polytag.errors import counted, listed
from polytag.evaluation.metrics import MAIN_SCORES, TITLES
from polytag.evaluation.objectives import aim
from polytag.evaluation.reliability import in_words
from polytag.evaluation.selection import SCORE_TITLE, VALIDATION_SCORE
from polytag.pages.markdown import as_it_is, table
from polytag.progress import duration

Manifest = Mapping[str, Any]

FEW = 20
"""If a label has fewer photos than this, the model card warns that the label or its scores may be unreliable."""

MAX_NAMES = 20
"""Maximum number of labels or photos that a sentence lists."""

APPROACHES = {
    "baseline": "a convolutional network trained from scratch",
    "tuned": "a convolutional network trained from scratch, with hyperparameters from a search",
    "transfer": "a head trained on a pretrained network",
    "best": "a head and a kernel ridge regression on a pretrained network",
    "binary_relevance": "one logistic regression per label on a pretrained network's embeddings",
    "chains": "chains of logistic regressions on a pretrained network's embeddings",
    "powerset": "a softmax over combinations of labels on a pretrained network's embeddings",
    "rakel": "softmaxes over combinations of small sets of labels on a pretrained network's embeddings",
    "mlknn": "counts of labels among the most similar training photos, by a pretrained network's embeddings",
    "zero_shot": "a pretrained image encoder whose embeddings are compared with texts about the labels",
}


def model_card(manifest: Manifest) -> str:
    """Return the model card of a bundle in Markdown.

    Args:
        manifest: content of the bundle's ``bundle.json``.
    """
    sections = {
        "": _summary(manifest),
        "Data": _data(manifest),
        "Scores": _scores(manifest),
        "Labels": _labels(manifest),
        "Probabilities and thresholds": _decisions(manifest),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(manifest)),
        "Usage": _use(manifest),
        "Versions and settings": _versions(manifest),
    }
    name = manifest["recipe"].get("model", "tagging")
    title = f"# Model card: {as_it_is(name)}, {counted(len(manifest['labels']), 'label')}"
    return "\n\n".join([title, *(f"## {head}\n\n{text}" if head else text for head, text in sections.items())]) + "\n"


def quantization_summary(facts: Mapping[str, Any]) -> str:
    """Describe a bundle's quantized model in one line.

    Args:
        facts: "int8" entry in the bundle's manifest.
    """
    if "reason" in facts:
        return f"quantized model: none ({facts['reason']})"
    score = f"{SCORE_TITLE} {facts[VALIDATION_SCORE]:.4f} ({-facts['lost']:+.4f})"
    use = "use it with --engine int8" if facts["kept"] else "discarded, because it loses too much accuracy"
    return f"quantized model: {score}; {use}"


def _summary(manifest: Manifest) -> str:
    recipe, size = manifest["recipe"], manifest["recipe"]["image_size"]
    kind = APPROACHES.get(recipe.get("model", ""), "a network")
    backbone = f" ({as_it_is(manifest.get('weights') or recipe['backbone'])})" if "backbone" in recipe else ""
    fine_tuning = manifest.get("fine_tuning", "none")
    lines = [
        f"This model assigns any number of {counted(len(manifest['labels']), 'label')} to a photo: "
        f"{as_it_is(listed(manifest['labels'], MAX_NAMES))}. It is {kind}{backbone}. polytag generated this card from "
        "`bundle.json`, which contains the same information for programs.",
        "",
        f"- Input: photos, resized to {size} × {size} px (the aspect ratio is not preserved), 8-bit RGB.",
    ]
    if is_trained(manifest):
        lines += [
            "- Output: a probability for each label. A label is assigned if its probability reaches its threshold.",
            f"- Parameters: {manifest['parameters']:,}, of which {manifest['trainable_parameters']:,} were trained"
            f"{'' if fine_tuning == 'none' else f'. Fine-tuning of the pretrained layers: {as_it_is(fine_tuning)}'}.",
            f"- Training time: {duration(manifest['fit_seconds'])}.",
        ]
    else:
        lines += [
            "- Output: a score for each label, 0 to 1. A label is assigned if its score reaches its threshold.",
            f"- Parameters of the image encoder: {manifest['parameters']:,}. polytag trained none of them.",
        ]
    if encoder := manifest.get("encoder"):
        revision = f" at {encoder['revision']}" if encoder["revision"] else ""
        lines.append(
            f"- Encoder: {as_it_is(encoder['source'])}{as_it_is(revision)}, used without changes. Licence: "
            f"{as_it_is(encoder['licence'] or 'not stated; find out before you pass the model on')}. Embedding: "
            f"output {as_it_is(encoder['output'])} ({as_it_is(encoder['pooling'])}), {encoder['width']:,} features."
        )
    if "int8" in manifest:
        summary = quantization_summary(manifest["int8"])
        lines.append(f"- {as_it_is(summary[0].upper() + summary[1:])}.")
    return "\n".join(lines)


def is_trained(manifest: Manifest) -> bool:
    """Return whether photos have trained a model, rather than texts about the labels (zero-shot)."""
    return "prompts" not in manifest


def _data(manifest: Manifest) -> str:
    if not is_trained(manifest):
        return _no_data(manifest)
    data, split, tested = manifest.get("data", {}), manifest.get("split", {}), manifest.get("tested")
    parts = [
        f"{data[part]:,} for {part.replace('train', 'training')}" for part in ("train", "validation") if part in data
    ]
    parts += [f"{tested['photos']:,} for testing"] if tested else []
    lines = [
        f"Photos: {', '.join(parts) or 'not recorded'}. The network was trained on the training photos. The validation "
        "photos were used for early stopping, settings, calibration and thresholds. Neither set is used for testing.",
        "",
        f"- Split: {as_it_is(split.get('how', 'not recorded'))}.",
    ]
    if "fingerprint" in data:
        lines.append(f"- Fingerprint of the training photos and their labels: {as_it_is(data['fingerprint'])}.")
    return "\n".join([*lines, *(f"- {as_it_is(note)}" for note in split.get("notes", ()))])


def _no_data(manifest: Manifest) -> str:
    """Describe the data of a model that was not trained."""
    used = [
        (manifest.get("chosen", {}).get("photos"), "thresholds"),
        (manifest.get("tested", {}).get("photos"), "testing"),
    ]
    parts = [f"{photos:,} for {purpose}" for photos, purpose in used if photos]
    texts = [f'"{prompt}"' for prompt in manifest["prompts"]]
    return (
        f"Photos: {', '.join(parts) or 'none'}. No photos trained or validated this model. It knows its labels only "
        f"by texts, whose vectors are averaged: {as_it_is(listed(texts, MAX_NAMES))}."
    )


def _scores(manifest: Manifest) -> str:
    test, tested = manifest.get("test"), manifest.get("tested")
    if not test:
        return (
            "**Not tested yet.** The model's quality on unseen photos is unknown. "
            f"{_on_validation(manifest)}\n\nTest it with `polytag evaluate BUNDLE DATA`; `polytag compare` records its "
            "test scores here."
        )
    intervals = tested["intervals"] if tested else {}
    order = [*MAIN_SCORES, *(name for name in TITLES if name not in MAIN_SCORES)]
    rows = [
        (
            f"{TITLES[name]}{' ↓' * name.endswith(('loss', 'error'))}",
            _number(test.get(name)),
            _range(intervals.get(name)),
        )
        for name in order
    ]
    photos = counted(tested["photos"], "test photo") if tested else "test photos"
    lines = [
        f"Measured on {photos} that were not used for training. The 95% intervals show how much the scores would "
        "vary with other test photos of the same kind. ↓ marks scores for which lower is better.",
        "",
        table("lrr", ("score", "value", "95% interval"), rows),
        "",
        _on_validation(manifest),
    ]
    return "\n".join([*lines, *(f"\n- {as_it_is(note)}" for note in (tested or {}).get("notes", ()))])


def _on_validation(manifest: Manifest) -> str:
    score = manifest.get("validation", {}).get("mean_average_precision")
    if score is None:
        return ""
    return (
        f"mAP on the validation photos is {score:.3f}. It is optimistic, because the model was chosen on these photos."
    )


def _labels(manifest: Manifest) -> str:
    learned, tested = manifest.get("data", {}).get("labels", {}), manifest.get("tested", {}).get("labels", {})
    intervals, too_rare = (manifest.get("tested", {}).get(name, {}) for name in ("label_intervals", "too_rare"))
    beyond = manifest.get("out_of_reach", ())
    rows = []
    for label, threshold in zip(manifest["labels"], manifest["thresholds"], strict=True):
        counts, scores = learned.get(label, {}), tested.get(label, {})
        notes = [
            word
            for word, applies in (
                ("few training photos", counts.get("train", FEW) < FEW),
                ("not in mAP and macro-F1", label in too_rare),
                ("few test photos", scores.get("support", FEW) < FEW),
                ("objective not reached", label in beyond),
            )
            if applies
        ]
        shown = [counts.get("train"), counts.get("validation"), counts.get("unknown"), scores.get("support")]
        measured = [scores.get(name) for name in ("precision", "recall", "f1", "average_precision")]
        ends = [_range(intervals.get(label, {}).get(name)) for name in ("f1", "average_precision")]
        numbers = [*map(_count, shown), f"{threshold:.3f}", *map(_number, measured), *ends]
        rows.append((label, *numbers, "; ".join(notes)))
    header = ("label", "training", "validation", "unknown", "test", "threshold", "precision", "recall", "F1", "AP")
    return (
        "For each label: the number of photos with the label in each set, the number of training and validation photos "
        "for which it is unknown, its threshold, and its test scores (AP: average precision) with 95% intervals.\n\n"
        + table("lrrrrrrrrrrrl", (*header, "F1, 95% interval", "AP, 95% interval", ""), rows)
    )


def _decisions(manifest: Manifest) -> str:
    lines = []
    chosen = manifest.get("chosen", {})
    if "objective" in manifest:
        objective = as_it_is(aim(manifest["objective"], manifest.get("out_of_reach", ())))
        on = "on the validation photos"
        if "photos" in chosen:
            when = "after training " if is_trained(manifest) else ""
            on = f"{when}on {counted(chosen['photos'], 'photo')} ({as_it_is(chosen['which'])})"
        lines.append(f"Thresholds were chosen {on} for {objective}.")
    elif "fixed_threshold" in manifest:
        fixed = f"{manifest['fixed_threshold']:g}"
        lines.append(f"No photos were used to choose thresholds: each is {fixed} unless it was set by hand.")
    by_hand = [f"{label} ({value:g})" for label, value in chosen.get("by_hand", {}).items()]
    if by_hand:
        lines.append(f"Set by hand: {as_it_is(listed(by_hand, MAX_NAMES))}.")
    if "thresholds" in manifest.get("int8", {}):
        lines.append("The quantized model has its own thresholds, chosen the same way from its own probabilities.")
    if "calibration" in manifest:
        calibration = in_words(**manifest["calibration"])
        lines.append(calibration[0].upper() + calibration[1:])
    return " ".join(lines) or "Not recorded."


def _limits(manifest: Manifest) -> list[str]:
    data, tested = manifest.get("data", {}), manifest.get("tested")
    learned = data.get("labels", {})
    few = [f"{label} ({counts['train']:,})" for label, counts in learned.items() if counts["train"] < FEW]
    unknown = [f"{label} ({counts['unknown']:,})" for label, counts in learned.items() if counts["unknown"]]
    rough = [
        f"{label} ({row['support']:,})"
        for label, row in (tested or {}).get("labels", {}).items()
        if row["support"] < FEW
    ]
    too_rare = (tested or {}).get("too_rare", ())
    least = counted((tested or {}).get("min_photos", 0), "test photo")
    left_out = [f"{name} ({reason})" for name, reason in data.get("left_out", {}).items()]
    never = [f"{label} ({reason})" for label, reason in data.get("labels_left_out", {}).items()]
    limits = [
        (not manifest.get("test"), "The model has not been tested. Test it before you rely on it."),
        (never, f"Labels that could not be learned, which the model never assigns: {listed(never, MAX_NAMES)}."),
        (few, f"Labels with fewer than {FEW} training photos, which are often wrong: {listed(few, MAX_NAMES)}."),
        (too_rare, f"Labels with fewer than {least}, not in mAP and macro-F1: {listed(list(too_rare), MAX_NAMES)}."),
        (rough, f"Labels with fewer than {FEW} test photos, whose scores are imprecise: {listed(rough, MAX_NAMES)}."),
        (
            unknown,
            "Labels that are unknown for some photos. Those photos were not used to train the label: "
            f"{listed(unknown, MAX_NAMES)}.",
        ),
        (left_out, f"{counted(len(left_out), 'photo')} could not be read: {listed(left_out, MAX_NAMES)}."),
        *((True, note) for note in manifest.get("notes", ())),
        (True, "The model knows only these labels. It neither counts nor locates objects."),
        (
            True,
            f"Photos are resized to {manifest['recipe']['image_size']} px squares, so very small objects are lost and "
            "wide panoramas are distorted.",
        ),
        (
            True,
            "Scores may be lower for photos from other cameras, places or seasons, or with other labelling rules. "
            "Test the model on your own photos.",
        ),
    ]
    return [as_it_is(limit) for applies, limit in limits if applies]


def _use(manifest: Manifest) -> str:
    return """```sh
polytag tag BUNDLE photo.jpg
polytag explain BUNDLE photo.jpg
polytag evaluate BUNDLE labels.csv
```

```python
import polytag as pt
bundle = pt.Bundle("BUNDLE")
bundle.tag("photo.jpg")  # the assigned labels with their probabilities
```

BUNDLE is the folder that contains this file."""


def _versions(manifest: Manifest) -> str:
    versions = {"polytag": manifest.get("polytag"), **manifest.get("versions", {})}
    made = ", ".join(f"{name} {version}" for name, version in versions.items() if version) or "not recorded"
    recipe = ", ".join(f"{name} {value}" for name, value in manifest["recipe"].items())
    return f"- Versions: {as_it_is(made)}\n- Settings: {as_it_is(recipe)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _range(interval: list[float | None] | None) -> str:
    return " to ".join(map(_number, interval or (None,)))
