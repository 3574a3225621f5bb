"""An audit's findings as questions: each once, the gravest first, none that the review would refuse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from polytag.auditing.apply import apply_decisions
from polytag.auditing.audit import Audit, audit
from polytag.auditing.clean import propose
from polytag.auditing.decisions import read_decisions, write_decisions
from polytag.auditing.findings import COLUMNS, findings_table
from polytag.data.dataset import Dataset
from polytag.data.sample.scenes import draw_scene
from polytag.serving.review.review import review_app
from polytag.serving.review.suspects import suspects_of

LABELS = ("boat", "Boat", "harbour", "harbours", "sea")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """1 is 0 again and 3 is 2 re-encoded, with other labels; 4 is blank, 5 tiny, 6 text, 7 is listed twice."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in (0, 2, 5, 7, 8):
        draw_scene(["tabla"], 96, 300 + i).save(folder / f"{i}.jpg", quality=90)
    (folder / "1.jpg").write_bytes((folder / "0.jpg").read_bytes())
    Image.open(folder / "2.jpg").save(folder / "3.jpg", quality=40)
    Image.new("RGB", (96, 96), (9, 90, 90)).save(folder / "4.jpg")
    Image.open(folder / "5.jpg").resize((30, 30)).save(folder / "5.jpg")
    (folder / "6.jpg").write_text("text")
    rows = ["10001", "10000", "10000", "00001", "01000", "00100", "10000", "00010", "00001"]
    targets = np.array([[int(cell) for cell in row] for row in rows], np.int8)
    return Dataset(
        np.array([str(folder / f"{i}.jpg") for i in range(9)]),
        targets,
        LABELS,
        np.arange(9),
        folder,
        left_out={"gone.jpg": "no such file"},
        repeats={"7.jpg": (3, 8)},
        disputed={"7.jpg": ("harbours",), "gone.jpg": ("sea",)},
    )


@pytest.fixture
def found(data: Dataset) -> Audit:
    """The audit, with two labels that a model doubts."""
    found = audit(data)
    doubts = pd.DataFrame(
        [
            ("8.jpg", "sea", "wrong_label", 0.02, "listed, probability 0.02", "", 0.02),
            ("5.jpg", "sea", "missing_label", 0.03, "not listed, probability 0.97", "", 0.97),
            ("7.jpg", "harbours", "wrong_label", 0.04, "listed, probability 0.04", "", 0.04),
        ],
        columns=list(COLUMNS),
    )
    return replace(found, findings=findings_table([found.findings.astype({"issue": object}), doubts]))


def test_contradictions_come_first_and_odd_photos_last(found: Audit) -> None:
    assert [(s.image, s.label, s.issue, s.suggestion.action if s.suggestion else None) for s in suspects_of(found)] == [
        ("7.jpg", "harbours", "conflicting rows", "unknown"),
        ("0.jpg", "sea", "conflicting copies", "unknown"),
        ("2.jpg", "boat", "conflicting copies", "unknown"),
        ("3.jpg", "boat", "conflicting copies", "unknown"),
        ("2.jpg", "sea", "conflicting copies", "unknown"),
        ("3.jpg", "sea", "conflicting copies", "unknown"),
        ("5.jpg", "sea", "possibly missing label", "present"),
        ("8.jpg", "sea", "possibly wrong label", "absent"),
        ("", "Boat", "two spellings of a label", "merge"),
        ("", "harbours", "similar label names", "merge"),
        ("4.jpg", "", "nearly blank", "drop"),
        ("5.jpg", "", "tiny", "drop"),
    ]


def test_each_question_has_its_reasons(found: Audit) -> None:
    by_key = {s.key: s for s in suspects_of(found)}
    assert by_key["2.jpg", "boat"].other == "3.jpg" and by_key["3.jpg", "boat"].other == "2.jpg"
    assert "only one of them has the label 'boat'" in by_key["2.jpg", "boat"].why
    assert by_key["5.jpg", "sea"].probability == pytest.approx(0.97)
    assert by_key["7.jpg", "harbours"].probability is None
    assert by_key["", "Boat"].suggestion.into == "boat"  # type: ignore[union-attr]
    for suspect in by_key.values():
        assert suspect.why and suspect.suggestion is not None and suspect.suggestion.reason
    # What cleaning proposes by itself is proposed here in the same words.
    proposed = {decision.key: decision for decision in propose(found)}
    asked = {key: suspect.suggestion for key, suspect in by_key.items() if key in proposed}
    assert asked.keys() == {("7.jpg", "harbours"), ("0.jpg", "sea"), ("", "Boat")}
    assert all(suggestion == proposed[key] for key, suggestion in asked.items())


def test_what_cannot_be_seen_is_not_asked_about(found: Audit) -> None:
    assert not {"gone.jpg", "6.jpg", "1.jpg"} & {suspect.image for suspect in suspects_of(found)}


def test_the_review_takes_every_suggestion(found: Audit, tmp_path: Path) -> None:
    suspects = suspects_of(found)
    decisions = tmp_path / "decisions.csv"
    write_decisions(decisions, propose(found))
    with TestClient(review_app(found.dataset, suspects, decisions), base_url="http://127.0.0.1") as client:
        for i in range(len(suspects)):
            shown = client.get(f"/api/suspects/{i}").json()
            assert shown["question"] and shown["accept"]
            for photo in shown["photos"]:
                assert client.get(photo["url"]).headers["content-type"] == "image/jpeg"
    write_decisions(decisions, [*read_decisions(decisions), *(s.suggestion for s in suspects if s.suggestion)])
    cleaned, reasons = apply_decisions(found.dataset, read_decisions(decisions))
    assert cleaned.names == ["0.jpg", "2.jpg", "3.jpg", "7.jpg", "8.jpg"]
    assert cleaned.labels == ("boat", "harbour", "sea")
    assert not cleaned.disputed.get("7.jpg") and {"0.jpg", "2.jpg", "3.jpg", "7.jpg", "8.jpg"} == reasons.keys()


def test_nothing_to_ask(data: Dataset) -> None:
    fine = replace(data.take([0, 7, 8]), repeats={}, disputed={}, left_out={}, labels=("boat", "b", "c", "d", "e"))
    assert suspects_of(audit(fine)) == []
