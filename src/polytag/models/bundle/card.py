"""The model card: what a bundle's description says, in words, and nothing that it does not say.

The headings follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

from collections.abc import Mapping
from typing import Any

from polytag.errors import counted, listed
from polytag.evaluation.calibration import in_words
from polytag.evaluation.evaluate import MAIN_SCORES
from polytag.evaluation.metrics import TITLES
from polytag.evaluation.objectives import aim
from polytag.models.quantization.onnx import in_8_bits
from polytag.pages.markdown import as_it_is, table
from polytag.progress import duration

Manifest = Mapping[str, Any]

FEW = 20
"""Photos with a label below which what is learned or known of it is called rough."""

NAMED = 20
"""Most labels or photos that one sentence names."""

APPROACHES = {
    "baseline": "a convolutional network trained from scratch",
    "tuned": "a convolutional network trained from scratch, with hyperparameters that were searched",
    "transfer": "a head trained on a pretrained network",
    "binary_relevance": "logistic regressions, one for each label, on a pretrained network's embeddings",
    "chains": "chains of logistic regressions on a pretrained network's embeddings",
    "powerset": "one softmax over the combinations of labels on a pretrained network's embeddings",
    "rakel": "softmaxes over the combinations of small sets of labels on a pretrained network's embeddings",
    "mlknn": "counts among the nearest training photos, by a pretrained network's embeddings",
}


def model_card(manifest: Manifest) -> str:
    """The card of a bundle, as Markdown.

    Args:
        manifest: the content of its ``bundle.json``.
    """
    sections = {
        "": _summary(manifest),
        "Data": _data(manifest),
        "Scores": _scores(manifest),
        "Label by label": _labels(manifest),
        "Probabilities and thresholds": _decisions(manifest),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(manifest)),
        "How to use it": _use(manifest),
        "Made with": _versions(manifest),
    }
    name = manifest["recipe"].get("model", "tagging")
    title = f"# Model card: {as_it_is(name)}, {counted(len(manifest['labels']), 'label')}"
    return "\n\n".join([title, *(f"## {head}\n\n{text}" if head else text for head, text in sections.items())]) + "\n"


def _summary(manifest: Manifest) -> str:
    recipe, size = manifest["recipe"], manifest["recipe"]["image_size"]
    kind = APPROACHES.get(recipe.get("model", ""), "a network")
    backbone = f" ({as_it_is(manifest.get('weights') or recipe['backbone'])})" if "backbone" in recipe else ""
    fine_tuning = manifest.get("fine_tuning", "none")
    lines = [
        f"This model tags photos with any number of {counted(len(manifest['labels']), 'label')}: "
        f"{as_it_is(listed(manifest['labels'], NAMED))}. It is {kind}{backbone}. polytag wrote this card from the "
        "bundle's `bundle.json`, which holds all of it for programs.",
        "",
        f"- Input: photos, squashed to {size} × {size} px; in the network RGB, 8 bits.",
        "- Output: a probability for each label; a label is given from its own threshold upward.",
        f"- Parameters: {manifest['parameters']:,}, of which {manifest['trainable_parameters']:,} were trained"
        f"{'' if fine_tuning == 'none' else f'; fine-tuning of the pretrained layers was {as_it_is(fine_tuning)}'}.",
        f"- Training took {duration(manifest['fit_seconds'])}.",
    ]
    if "int8" in manifest:
        lines.append(f"- {as_it_is(in_8_bits(manifest['int8']))}.")
    return "\n".join(lines)


def _data(manifest: Manifest) -> str:
    data, split, tested = manifest.get("data", {}), manifest.get("split", {}), manifest.get("tested")
    parts = [
        f"{data[part]:,} {use}" for part, use in (("train", "to train"), ("validation", "to choose")) if part in data
    ]
    parts += [f"{tested['photos']:,} to test"] if tested else []
    lines = [
        f"Photos: {', '.join(parts) or 'how many is not recorded'}. Training photos taught the network; validation "
        "photos decided when to stop, settings, calibration and thresholds. Neither has a part in a test.",
        "",
        f"- How they were divided: {as_it_is(split.get('how', 'not recorded'))}.",
    ]
    if "fingerprint" in data:
        lines.append(f"- Fingerprint of the training photos and their labels: {as_it_is(data['fingerprint'])}.")
    return "\n".join([*lines, *(f"- {as_it_is(note)}" for note in split.get("notes", ()))])


def _scores(manifest: Manifest) -> str:
    test, tested = manifest.get("test"), manifest.get("tested")
    if not test:
        return (
            "**Not tested yet.** What it is worth on photos that it has not seen is not known. "
            f"{_on_validation(manifest)}\n\n`polytag evaluate BUNDLE DATA` tests it; `polytag compare` records its "
            "tests here."
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
        f"On {photos} that training had not seen. The intervals are 95 % bootstrap intervals: what other test photos "
        "of the same kind would change. ↓: better lower.",
        "",
        table("lrr", ("score", "value", "95 % interval"), rows),
        "",
        _on_validation(manifest),
    ]
    return "\n".join([*lines, *(f"\n- {as_it_is(note)}" for note in (tested or {}).get("notes", ()))])


def _on_validation(manifest: Manifest) -> str:
    score = manifest.get("validation", {}).get("mean_average_precision")
    if score is None:
        return ""
    return f"On the validation photos, by which it was chosen, so that the figure flatters it, mAP is {score:.3f}."


def _labels(manifest: Manifest) -> str:
    learned, tested = manifest.get("data", {}).get("labels", {}), manifest.get("tested", {}).get("labels", {})
    beyond = manifest.get("out_of_reach", ())
    rows = []
    for label, threshold in zip(manifest["labels"], manifest["thresholds"], strict=True):
        counts, scores = learned.get(label, {}), tested.get(label, {})
        notes = [
            word
            for word, applies in (
                ("few training photos", counts.get("train", FEW) < FEW),
                ("few test photos", scores.get("support", FEW) < FEW),
                ("objective out of reach", label in beyond),
            )
            if applies
        ]
        shown = [counts.get("train"), counts.get("validation"), counts.get("unknown"), scores.get("support")]
        measured = [scores.get(name) for name in ("precision", "recall", "f1", "average_precision")]
        numbers = [*map(_count, shown), f"{threshold:.3f}", *map(_number, measured)]
        rows.append((label, *numbers, "; ".join(notes)))
    header = ("label", "training", "validation", "unknown", "test", "threshold", "precision", "recall", "F1", "AP", "")
    return (
        "Photos that show the label in each part, and those of training and validation of which it is not known; its "
        "threshold; and its scores on test photos, where AP is average precision.\n\n"
        + table("lrrrrrrrrrl", header, rows)
    )


def _decisions(manifest: Manifest) -> str:
    lines = []
    if "objective" in manifest:
        told = as_it_is(aim(manifest["objective"], manifest.get("out_of_reach", ())))
        lines.append(f"Thresholds were chosen on validation photos for {told}.")
    if "calibration" in manifest:
        told = in_words(**manifest["calibration"])
        lines.append(told[0].upper() + told[1:])
    return " ".join(lines) or "How they were made is not recorded."


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
    left_out = [f"{name} ({reason})" for name, reason in data.get("left_out", {}).items()]
    limits = [
        (not manifest.get("test"), "It was not tested: do not rely on it before it is."),
        (few, f"Fewer than {FEW} training photos show {listed(few, NAMED)}: expect little of these."),
        (rough, f"Fewer than {FEW} test photos show {listed(rough, NAMED)}: these scores are rough."),
        (unknown, f"Not known of some photos, which then taught it nothing of the label: {listed(unknown, NAMED)}."),
        (left_out, f"{counted(len(left_out), 'photo')} could not be read: {listed(left_out, NAMED)}."),
        *((True, note) for note in manifest.get("notes", ())),
        (True, "It knows these labels and no others, and neither counts nor outlines what it finds."),
        (
            True,
            f"Photos are squashed to {manifest['recipe']['image_size']} px squares: things that are tiny on the photo "
            "get lost, and long panoramas look distorted.",
        ),
        (
            True,
            "Photos from elsewhere (other cameras, places, seasons, ways of labelling) may look different from those "
            "that it learned from: expect less there, and test it on some of your own.",
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
bundle.tag("photo.jpg")  # the labels that are given, with their probabilities
```

BUNDLE is the folder that holds this file."""


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
