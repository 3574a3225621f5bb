"""The model card: all facts of the manifest, nothing else, in valid Markdown."""

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polytag.evaluation.metrics import TITLES
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.models.bundle.card import APPROACHES, model_card
from polytag.models.recipe import ALL_MODELS


def manifest(labels: tuple[str, ...] = ("boat", "parking meter"), tested: bool = True, **changes: Any) -> dict:
    """A manifest as `fit` and `compare` write it; all its numbers differ."""
    facts: dict[str, Any] = {
        "polytag": "0.1.0",
        "labels": list(labels),
        "thresholds": [0.1 + 0.0013 * j for j in range(len(labels))],
        "recipe": {"model": "transfer", "image_size": 97, "backbone": "mobilenet_v2", "seed": 0},
        "weights": "mobilenet_v2-torch-b0353104",
        "fine_tuning": "kept",
        "data": {
            "train": 1234,
            "validation": 321,
            "fingerprint": "0123456789abcdef",
            "left_out": {"a|b.jpg": "the file is empty"},
            "labels": {label: {"train": 700 + j, "validation": 90 + j, "unknown": 0} for j, label in enumerate(labels)},
        },
        "split": {"how": "as split.csv says", "train": 1235, "validation": 321, "test": 222, "notes": ["one | two"]},
        "parameters": 2_918_986,
        "trainable_parameters": 661_002,
        "fit_seconds": 61.0,
        "history": [],
        "validation": {"mean_average_precision": 0.765},
        "validation_accuracy": 0.5,
        "calibration": {"kind": "none", "log_loss": {}},
        "objective": "f1",
        "out_of_reach": [],
        "versions": {"keras": "3.15.1"},
        "files": {},
    }
    if tested:
        facts["test"] = {name: 0.301 + 0.01 * i for i, name in enumerate(TITLES)}
        facts["tested"] = {
            "photos": 222,
            "intervals": {name: [0.201 + 0.01 * i, 0.401 + 0.01 * i] for i, name in enumerate(TITLES)},
            "labels": {
                label: {
                    **{name: 0.5 + 0.0017 * (4 * j + i) for i, name in enumerate(MEASURED)},
                    "accuracy": 0.9,
                    "support": 40 + j,
                    "threshold": facts["thresholds"][j],
                }
                for j, label in enumerate(labels)
            },
            "label_intervals": {
                label: {"f1": [0.31 + 0.01 * j, 0.71], "average_precision": [0.32, None]}
                for j, label in enumerate(labels)
            },
            "too_rare": [],
            "min_photos": 3,
            "notes": ["3 images left out because the model has seen them in training"],
        }
    return facts | changes


MEASURED = ("precision", "recall", "f1", "average_precision")


def tables(card: str) -> list[list[list[str]]]:
    """The cells of each table, its header first, as a Markdown reader sees them."""
    found: list[list[list[str]]] = [[]]
    for line in card.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return found[:-1]


def test_scores_and_intervals_are_those_that_were_recorded() -> None:
    facts = manifest()
    scores, labels = tables(model_card(facts))
    shown = {row[0].removesuffix(" ↓"): row[1:] for row in scores[2:]}
    assert set(shown) == set(TITLES.values())
    for name, title in TITLES.items():
        low, high = facts["tested"]["intervals"][name]
        assert shown[title] == [f"{facts['test'][name]:.3f}", f"{low:.3f} to {high:.3f}"]
    assert [row[0] for row in labels[2:]] == ["boat", "parking meter"]
    for label, row in zip(facts["labels"], labels[2:], strict=True):
        learned, measured = facts["data"]["labels"][label], facts["tested"]["labels"][label]
        assert row[1:5] == [str(learned["train"]), str(learned["validation"]), "0", str(measured["support"])]
        assert row[6:10] == [f"{measured[name]:.3f}" for name in MEASURED]
        assert row[10:12] == [f"{0.31 + 0.01 * facts['labels'].index(label):.3f} to 0.710", "0.320 to –"]
        assert row[5] == f"{measured['threshold']:.3f}"


def test_the_facts_are_told() -> None:
    card = model_card(manifest())
    for fact in (
        "transfer, 2 labels",
        "boat, parking meter",
        "97 × 97 px",
        "2,918,986",
        "661,002",
        "1 min 01 s",
        "1,234 for training",
        "321 for validation",
        "222 for testing",
        "as split.csv says",
        "0123456789abcdef",
        "0.765",
        "keras 3.15.1",
        "the F1 of each",
        "the model has seen them in training",
        "mobilenet\\_v2-torch-b0353104",
        "Fine-tuning of the pretrained layers: kept",
        "1 photo could not be read: a\\|b.jpg (the file is empty)",
        "one \\| two",
    ):
        assert fact in card, fact
    assert "Not tested" not in card and "not recorded" not in card and "quantized" not in card
    kept = {"kept": True, VALIDATION_SCORE: 0.7631, "lost": 0.0019}
    assert "Quantized model: support-weighted validation mAP 0.7631 (-0.0019); use it" in model_card(
        manifest(int8=kept)
    )


def test_what_was_not_tested_is_said_and_no_score_is_made_up() -> None:
    facts = manifest(tested=False)
    card = model_card(facts)
    assert "**Not tested yet.**" in card and "The model has not been tested" in card
    (labels,) = tables(card)
    assert {tuple(row[6:10]) for row in labels[2:]} == {("–",) * 4}


def test_weak_spots_are_named() -> None:
    facts = manifest(objective="precision=0.9", out_of_reach=["parking meter"], notes=["9 training photos left out"])
    facts["data"]["labels"]["boat"] |= {"train": 7, "unknown": 55}
    facts["tested"]["labels"]["boat"] |= {"support": 3, "average_precision": None}
    card = model_card(facts)
    limits = card[card.index("## Limits") :]
    for told in (
        "Labels with fewer than 20 training photos, which are often wrong: boat (7)",
        "Labels with fewer than 20 test photos, whose scores are imprecise: boat (3)",
        "boat (55)",
        "9 training photos left out",
    ):
        assert told in limits, told
    assert "a precision of at least 0.9 for each label" in card and "except for parking meter" in card
    boat, meter = tables(card)[-1][2:]
    assert boat[-1] == "few training photos; few test photos" and meter[-1] == "objective not reached"
    assert boat[3] == "55" and boat[9] == "–"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=4, unique=True))
def test_any_label_keeps_the_tables_whole(labels: list[str]) -> None:
    for tested in (True, False):
        for table in tables(model_card(manifest(tuple(labels), tested))):
            assert len({len(row) for row in table}) == 1
        assert len(table) == 2 + len(labels)


def test_every_approach_has_words_and_older_descriptions_have_a_card() -> None:
    assert set(APPROACHES) == {*ALL_MODELS, "zero_shot"}
    known = ("labels", "thresholds", "recipe", "history", "fit_seconds", "parameters", "trainable_parameters", "files")
    facts: Mapping[str, Any] = {name: value for name, value in manifest().items() if name in known}
    card = model_card(facts | {"recipe": {"image_size": 32}})
    assert "not recorded" in card and "**Not tested yet.**" in card


def test_labels_too_rare_to_score_are_named() -> None:
    facts = manifest()
    facts["tested"]["too_rare"] = ["boat"]
    card = model_card(facts)
    assert "- Labels with fewer than 3 test photos, not in mAP and macro-F1: boat." in card
    assert [row[-1] for row in tables(card)[1][2:]] == ["not in mAP and macro-F1", ""]
    assert "not in mAP" not in model_card(manifest())
