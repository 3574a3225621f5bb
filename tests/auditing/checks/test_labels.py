"""What a table of labels gives away: each odd label once, with what it may be meant to be."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polytag.auditing.checks.labels import ENOUGH, imbalance, label_findings
from polytag.auditing.checks.spelling import normalized, similar_pairs, similarity
from polytag.data.dataset import Dataset


def dataset(columns: dict[str, list[int]]) -> Dataset:
    targets = np.array(list(columns.values()), np.int8).T
    paths = np.array([f"/photos/{i}.jpg" for i in range(len(targets))])
    return Dataset(paths, targets, tuple(columns), np.arange(len(targets)), Path("/photos"))


def column(n: int, *present: int, unknown: tuple[int, ...] = ()) -> list[int]:
    return [1 if i in present else -1 if i in unknown else 0 for i in range(n)]


def found(columns: dict[str, list[int]], issue: str) -> list[tuple[str, str]]:
    rows = label_findings(dataset(columns))
    rows = rows[rows["issue"] == issue]
    return list(zip(rows["label"], rows["other"], strict=True))


def test_never_always_and_rare() -> None:
    n = 2 * ENOUGH
    columns = {
        "never": [0] * n,
        "unheard": [-1] * n,
        "always": [1] * (n - 1) + [-1],
        "once": column(n, 3),
        "just rare": column(n, *range(ENOUGH - 1)),
        "enough": column(n, *range(ENOUGH)),
    }
    assert found(columns, "never_present") == [("never", ""), ("unheard", "")]
    assert found(columns, "always_present") == [("always", "")]
    assert found(columns, "rare") == [("once", ""), ("just rare", "")]
    rows = label_findings(dataset(columns))
    assert rows["score"][rows["issue"] == "rare"].tolist() == pytest.approx([1 / ENOUGH, 1 - 1 / ENOUGH])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Dog", "dog"),
        ("traffic light", "traffic_light"),
        ("T-shirt", "tshirt"),
        ("dog.", "dog"),
        ("covid-19", "Covid 19"),
        ("café", "cafe\u0301"),
        ("STRASSE", "straße"),
        ("rock'n'roll", "rock n roll"),
        # Look-alike letters of other alphabets, and characters that nobody sees.
        ("cat", "c\u0430t"),
        ("Motorcycle", "M\u03bft\u043ercycle"),
        ("dog", "d\u200bog\ufeff"),
        ("horse", "hor\u00adse"),
        ("full width", "\uff46\uff55\uff4c\uff4c width"),
    ],
)
def test_variants(a: str, b: str) -> None:
    assert normalized(a) == normalized(b)
    assert found({a: column(9, 0, 1), b: column(9, 2)}, "label_variant") == [(b, a)]
    assert found({b: column(9, 2), a: column(9, 0, 1)}, "label_variant") == [(b, a)]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("C", "C++"),
        ("1.5 l", "15 l"),
        ("<18", "18"),
        ("+", "-"),
        ("3 4", "34"),
        ("dog", "dogs"),
        ("e", "é"),
        ("a-wave", "\u03b1-wave"),
        ("\u0441\u043e\u0440", "cop"),
        ("犬", "猫"),
    ],
)
def test_what_differs_in_meaning_is_no_variant(a: str, b: str) -> None:
    assert normalized(a) != normalized(b)
    assert not found({a: column(9, 0, 1), b: column(9, 2)}, "label_variant")


def test_each_variant_is_folded_into_the_commonest_once() -> None:
    columns = {"bus stop": column(9, 0), "Bus Stop": column(9, 1, 2, 3), "bus-stop": column(9, 4, 5)}
    assert found(columns, "label_variant") == [("bus-stop", "Bus Stop"), ("bus stop", "Bus Stop")]


def test_labels_spelt_alike_that_never_meet() -> None:
    columns = {
        "motorcycle": column(9, 0, 1, 2),
        "motorcyle": column(9, 3),
        "trucks": column(9, 4),
        "truck": column(9, 5, 6),
    }
    assert found(columns, "similar_labels") == [("motorcyle", "motorcycle"), ("trucks", "truck")]
    columns["motorcyle"][0] = 1  # they meet: somebody tells them apart
    assert found(columns, "similar_labels") == [("trucks", "truck")]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("horse", "house"),
        ("cat", "bat"),
        ("room 12", "room 13"),
        ("motorcycle", "cycle"),
        ("sea", "see"),
    ],
)
def test_other_words_are_not_alike(a: str, b: str) -> None:
    assert similarity(normalized(a), normalized(b)) == 0
    assert not list(similar_pairs([normalized(a), normalized(b)]))


@given(st.text(max_size=12), st.text(max_size=12))
def test_similarity_is_a_share_and_normalizing_is_final(a: str, b: str) -> None:
    assert 0 <= similarity(a, b) <= 1
    assert bool(normalized(a)) == bool(a)
    assert normalized(a.upper().lower()) == normalized(a.upper().lower().upper().lower())


def test_labels_that_are_always_together() -> None:
    columns = {
        "a": column(9, 0, 1, 2),
        "b": column(9, 0, 1, 2),
        "c": column(9, 0, 1),
        "d": column(9, 0, 1),
        "e": column(9, 0, 1, 2, 3),
    }
    assert found(columns, "always_together") == [("b", "a")]  # twice may be chance
    columns["b"] = column(9, 0, 1, 2, unknown=(5,))
    assert found(columns, "always_together") == [("b", "a")]
    columns["b"] = column(9, 0, 1, 2, 5)
    assert not found(columns, "always_together")


def test_imbalance_by_hand() -> None:
    targets = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, -1, 0], [1, 0, 0, 0]], np.int8)
    figures = imbalance(targets)
    assert figures == {
        "cardinality": 5 / 4,
        "density": 5 / 16,
        "combinations": 2,
        "mean_imbalance_ratio": (4 / 4 + 4 / 1) / 2,
    }


@given(arrays(np.int8, st.tuples(st.integers(0, 6), st.integers(1, 4)), elements=st.integers(-1, 1)))
def test_imbalance_of_any_table(targets: np.ndarray) -> None:
    figures = imbalance(targets)
    assert all(np.isfinite(value) for value in figures.values())
    assert 0 <= figures["density"] <= 1 and figures["cardinality"] <= targets.shape[1]
    assert figures["mean_imbalance_ratio"] >= 1 or not (targets == 1).any()
    assert figures["combinations"] <= len(targets)


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("cat", "cats"), ("box", "boxes"), ("berry", "berries"), ("traffic light", "Traffic lights")],
)
def test_singular_and_plural_are_similar(singular: str, plural: str) -> None:
    columns = {singular: column(9, 0, 1), plural: column(9, 2)}
    assert found(columns, "similar_labels") == [(plural, singular)]
    columns[plural][0] = 1  # They occur together, so somebody distinguishes them.
    assert not found(columns, "similar_labels")


def test_words_of_another_alphabet_that_look_the_same_are_similar() -> None:
    russian = "\u0441\u043e\u0440"
    assert found({"cop": column(9, 0, 1), russian: column(9, 2)}, "similar_labels") == [(russian, "cop")]


def test_each_label_is_flagged_once_however_many_resemble_it() -> None:
    names = [f"category {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    columns = {name: column(52, 2 * i, 2 * i + 1) for i, name in enumerate(names)}
    assert [label for label, _ in found(columns, "similar_labels")] == names[1:]


def test_similar_pairs_agree_with_comparing_all() -> None:
    rng = np.random.default_rng(0)
    names = ["".join(rng.choice(list("abcs1"), rng.integers(1, 8))) for _ in range(150)]
    names += [f"{name}s" for name in names[:40]] + ["berry", "berries", "cop", "\u0441\u043e\u0440"]
    expected = [
        (i, j, likeness)
        for i, a in enumerate(names)
        for j, b in enumerate(names[i + 1 :], i + 1)
        if (likeness := similarity(a, b))
    ]
    assert expected and list(similar_pairs(names)) == expected


def test_labels_that_are_pieces_of_lists_are_flagged() -> None:
    names = ["['cat'", "'dog']", "'bird'", "'sea'", "['sky'", "'boat']", "'sun'", "['moon'", "'star']"]
    columns = {name: column(30, i, i + 10, i + 20) for i, name in enumerate(names)}
    assert found(columns, "misread_labels") == [("", "")]
    assert not found({f"label {i}": column(30, i, i + 10, i + 20) for i in range(9)}, "misread_labels")


def test_nearly_as_many_labels_as_photos_are_flagged() -> None:
    columns = {f"photo of day {word}": column(20, i) for i, word in enumerate("abcdefghijklmnopqrst")}
    assert found(columns, "misread_labels") == [("", "")]
