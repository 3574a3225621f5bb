"""Cells of every kind, as people and tools write them, and signs of a misread table: one small table each."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.data.dataset import Dataset
from polytag.data.reading.columns import read_table
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.data.reading.tables.guards import suspicious_labels
from polytag.data.reading.tables.lists import parse_list
from polytag.errors import PolytagError

FRUIT = ["apple", "fig", "pear", "plum", "quince"]
THINGS = ["traffic light", "stop sign", "hay bale", "dog", "cat"]

ODD_MARKS = [" / ", "/", " - ", " + ", "+", " & ", "&", ":", "~", "^", " · ", "•", " -> "]


def table(folder: Path, text: str, **options: object) -> Table:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_table(folder / "t.csv", ReadOptions(**options))  # type: ignore[arg-type]


def refusal(folder: Path, text: str, **options: object) -> str:
    with pytest.raises(PolytagError) as caught:
        table(folder, text, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def values(found: Table) -> dict[str, list[int]]:
    return {label: found.targets[:, j].tolist() for j, label in enumerate(found.labels)}


def rows(vocabulary: Sequence[str], n: int, write: Callable[[list[str]], str], least: int = 0) -> tuple[str, list]:
    rng = random.Random(3)
    chosen = [rng.sample(vocabulary, rng.randint(least, 3)) for _ in range(n)]
    cells = [write(names).replace('"', '""') for names in chosen]
    return "image,tags\n" + "".join(f'p{i}.jpg,"{cell}"\n' for i, cell in enumerate(cells)), chosen


@pytest.mark.parametrize("names", [FRUIT, THINGS])
@pytest.mark.parametrize("mark", ["|", ";", ",", ", ", "，", "、", "\t", "\n", "\r\n", " | ", " ", *ODD_MARKS])
def test_the_mark_that_explains_the_cells_separates(mark: str, names: list[str], tmp_path: Path) -> None:
    text, chosen = rows(names, 40, mark.join)
    found = table(tmp_path, text)
    assert set(found.labels) == set(names)
    got = [{found.labels[j] for j in np.flatnonzero(row)} for row in found.targets]
    assert got == [set(one) for one in chosen]
    assert any(note.startswith("read as: ") for note in found.notes)


@pytest.mark.parametrize(
    "write",
    [
        repr,
        lambda names: repr(tuple(names)),
        lambda names: repr(set(names)),
        lambda names: str(np.array(names)) if names else "[]",
        lambda names: "[" + ", ".join(f'"{name}"' for name in names) + "]",
        lambda names: "[" + ", ".join(names) + "]",
        lambda names: "[" + "; ".join(names) + "]",
        lambda names: "(" + ", ".join(names) + ")",
        lambda names: "{" + ",".join(names) + "}",
        lambda names: '{"choices": [' + ", ".join(f'"{name}"' for name in names) + "]}",
    ],
)
def test_lists_in_cells(write: Callable[[list[str]], str], tmp_path: Path) -> None:
    text, chosen = rows(THINGS, 30, write)
    found = table(tmp_path, text)
    got = [{found.labels[j] for j in np.flatnonzero(row)} for row in found.targets]
    assert got == [set(one) for one in chosen]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=4))
def test_a_python_list_is_parsed_whatever_it_holds(names: list[str]) -> None:
    assert parse_list(repr(names)) == names


@pytest.mark.parametrize(
    "names, mark",
    [
        (["1,000円札", "5,000円札", "10,000円札"], ";"),
        (["1,000円札", "5,000円札", "10,000円札"], ", "),
        (["animal|dog", "animal|cat", "place|beach", "place|city"], ", "),
        (["Paris, France", "Rome, Italy", "Oslo, Norway"], ";"),
        (["animal/dog", "animal/cat", "place/beach"], ";"),
    ],
)
def test_marks_inside_recurring_names_are_part_of_them(names: list[str], mark: str, tmp_path: Path) -> None:
    assert set(table(tmp_path, rows(names, 40, mark.join)[0]).labels) == set(names)


def test_a_stray_mark_splits_known_names_only_and_is_said(tmp_path: Path) -> None:
    text, _ = rows(FRUIT, 30, ";".join)
    found = table(tmp_path, text + "x.jpg,apple|fig\ny.jpg,apple|zebra\n")
    assert set(found.labels) == {*FRUIT, "apple|zebra"}
    assert "1 label split at a stray mark: 'apple|fig' (line 32)" in found.notes
    assert "1 label not split, although a mark is inside: 'apple|zebra' (line 33)" in found.notes


@pytest.mark.parametrize(
    "write, says, option",
    [
        ("_".join, "look like combinations of other labels", "--label-separator"),
        ("-".join, "look like combinations of other labels", "--label-separator"),
        (" and ".join, "look like the words of sentences", "--label-separator"),
        (lambda names: repr([*names, "kiwi"])[:-3], "look like pieces of a list or JSON", "--label-separator"),
        (lambda names: repr(names)[:14], "begins like a list but does not end like one", "--label-separator"),
        (lambda names: f"{names[0]} {random.random()}", "are nearly as many as the 60 rows", "--label-column"),
        (lambda names: str([int(name in names) for name in FRUIT]), "multi-hot vectors of 5 entries", "--labels"),
        (lambda names: "".join(str(int(name in names)) for name in FRUIT), "vectors of 5 entries", "--labels"),
        (lambda names: " ".join(str(int(name in names)) for name in FRUIT), "vectors of 5 entries", "--labels"),
    ],
)
def test_what_is_no_label_stops_the_run(
    write: Callable[[list[str]], str], says: str, option: str, tmp_path: Path
) -> None:
    message = refusal(tmp_path, rows(FRUIT, 60, write, least=1)[0])
    assert says in message and option in message


def test_the_option_of_a_guard_decides(tmp_path: Path) -> None:
    text, _ = rows(FRUIT, 60, "/".join, least=1)
    assert set(table(tmp_path, text, label_separator="/").labels) == set(FRUIT)
    assert len(table(tmp_path, text, label_separator="|").labels) > 5
    text, _ = rows(FRUIT, 60, " and ".join, least=1)
    assert set(table(tmp_path, text, label_separator=" and ").labels) == set(FRUIT)
    text, chosen = rows(FRUIT, 20, lambda names: str([int(name in names) for name in FRUIT]))
    found = table(tmp_path, text, labels=",".join(FRUIT))
    assert values(found) == {name: [int(name in one) for one in chosen] for name in FRUIT}
    assert "3 names" in refusal(tmp_path, text, labels="a,b,c")


@pytest.mark.parametrize("mark", ["/", ":", " - ", "&"])
def test_a_mark_in_a_hierarchy_or_in_a_name_separates_nothing(mark: str, tmp_path: Path) -> None:
    for names in (["animal|dog", "animal|cat", "plant|tree", "plant|fern", "animal"], ["R|B", "rock|roll", "jazz"]):
        labels = [name.replace("|", mark) for name in names]
        found = table(tmp_path, "image,tags\n" + "".join(f"{i}.jpg,{labels[i % len(labels)]}\n" for i in range(30)))
        assert found.labels == tuple(labels)
        assert any(f"'{mark.strip()}' is part of labels such as" in note for note in found.notes)


@pytest.mark.parametrize("write", [" ".join, "".join, ", ".join])
def test_hashtags(write: Callable[[list[str]], str], tmp_path: Path) -> None:
    text, chosen = rows(FRUIT, 20, lambda names: write([f"#{name}" for name in names]))
    found = table(tmp_path, text)
    assert [{found.labels[j] for j in np.flatnonzero(row)} for row in found.targets] == [set(one) for one in chosen]


def test_a_mark_that_may_separate_or_not_is_refused(tmp_path: Path) -> None:
    cells = ["jet+ski+sea", "jet+sea+sand+bay", "ski+wax", "fog", "jet+oil+tar", "wax+sand"]
    text = "image,tags\n" + "".join(f"{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    assert "'+' in column 'tags' may separate labels" in refusal(tmp_path, text)
    assert "jet" in table(tmp_path, text, label_separator="+").labels
    assert "wax+sand" in table(tmp_path, text, label_separator="|").labels


def test_lone_punctuation_is_no_label(tmp_path: Path) -> None:
    found = table(tmp_path, "image,tags\na.jpg,-\nb.jpg,dog;cat\nc.jpg,dog;-;\nd.jpg,?\n")
    assert found.labels == ("dog", "cat")
    assert found.targets.tolist() == [[0, 0], [1, 1], [1, 0], [-1, -1]]
    assert "'?' means that the labels are unknown (1 row)" in found.notes


@pytest.mark.parametrize(
    "cells, says",
    [
        (["01", "10", "11", "01"], "vectors of 2 entries"),
        (["01 01", "10 11", "00 10"], "vectors of 4 entries"),
        (["0/1/0", "1/1/0"], "vectors of 3 entries"),
        (["0-1", "1-1", "1-0"], "vectors of 2 entries"),
        (["101", "1", "11", "110"], "vectors that lost their leading zeros, or numbers"),
        (["0 1 0 1", "1 1 0", "0 0 0 1"], "multi-hot vectors of different lengths"),
    ],
)
def test_digits_that_may_be_a_vector_need_names(cells: list[str], says: str, tmp_path: Path) -> None:
    text = "image,labels\n" + "".join(f"p{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    assert says in refusal(tmp_path, text)
    assert set(table(tmp_path, text, label_separator="|").labels) == set(cells)


def test_names_for_the_entries_restore_lost_zeros_and_leave_blanks_unknown(tmp_path: Path) -> None:
    found = table(tmp_path, "image,labels\na.jpg,101\nb.jpg,1\nc.jpg,\nd.jpg,11\n", labels="x,y,z")
    assert found.targets.tolist() == [[1, 0, 1], [0, 0, 1], [-1, -1, -1], [0, 1, 1]]
    assert "2 distinct vectors had lost leading zeros: restored with --labels" in found.notes


def test_percentages_are_shares(tmp_path: Path) -> None:
    text = "image,dog,cat\na.jpg,99%,1 %\nb.jpg,0%,82 %\nc.jpg,50.5%,100%\n"
    assert "--at-least" in refusal(tmp_path, text)
    assert table(tmp_path, text, at_least=0.5).targets.tolist() == [[1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("yes, no", [("J", "N"), ("checked", "unchecked"), ("+", "-"), ("99,5 %", "0,5 %")])
def test_more_spellings_of_yes_and_no(yes: str, no: str, tmp_path: Path) -> None:
    options = {"at_least": 0.9} if "%" in yes else {}
    found = table(tmp_path, f"image;dog;cat\na.jpg;{yes};{no}\nb.jpg;{no};{no}\nc.jpg;{yes};{yes}\n", **options)
    assert values(found) == {"dog": [1, 0, 1], "cat": [0, 0, 1]}


def test_numbers_of_labels_are_read_if_no_column_names_them(tmp_path: Path) -> None:
    found = table(tmp_path, "image_id,category_id,bbox_x\na.jpg,3,7\na.jpg,5,9\nb.jpg,3,2\n")
    assert (found.images, found.labels, found.targets.tolist()) == (["a.jpg", "b.jpg"], ("3", "5"), [[1, 1], [1, 0]])
    found = table(tmp_path, "image,category_id,common\na.jpg,3,dog\nb.jpg,5,cat\nc.jpg,5,cat\n")
    assert found.labels == ("dog", "cat")


@pytest.mark.parametrize("word", ["&", "and", "und"])
def test_enumerations(word: str, tmp_path: Path) -> None:
    def write(names: list[str]) -> str:
        return ", ".join(names[:-1]) + f" {word} {names[-1]}" if len(names) > 1 else "".join(names)

    text, chosen = rows(FRUIT, 30, write)
    found = table(tmp_path, text)
    assert [{found.labels[j] for j in np.flatnonzero(row)} for row in found.targets] == [set(one) for one in chosen]


def test_a_column_of_another_kind_next_to_labels_is_not_taken_for_one(tmp_path: Path) -> None:
    found = table(tmp_path, "image,sex,dog,cat\na.jpg,F,1,0\nb.jpg,F,0,0\nc.jpg,M,1,1\n")
    assert found.labels == ("dog", "cat")


def test_an_audit_sees_the_same_signs() -> None:
    combinations = [f"{a} {b} {c}" for a in FRUIT for b in FRUIT for c in FRUIT if len({a, b, c}) == 3]
    targets = np.eye(len(combinations), dtype=np.int8)
    paths = np.array([f"/x/{i}.jpg" for i in range(len(combinations))])
    data = Dataset(paths, targets, tuple(combinations), np.arange(len(combinations)), Path("/x"))
    assert "look like combinations of 5 words" in (suspicious_labels(data) or "")
    assert suspicious_labels(data.take([0])) is not None or len(combinations) > 8
    few = Dataset(paths[:2], np.eye(2, dtype=np.int8), ("dog", "cat"), np.arange(2), Path("/x"))
    assert suspicious_labels(few) is None


UNKNOWN = -1


@pytest.mark.parametrize(
    "header, cells, expected",
    [
        ("a,b", ["yes,no", "no,yes", ",yes"], {"a": [1, 0, UNKNOWN], "b": [0, 1, 1]}),
        ("a,b", ["yes,no", "yes,yes", ",yes"], {"a": [1, 1, 0], "b": [0, 1, 1]}),
        ("a,b,c", ["✓,x,●", "✗,,○", "✓,X,●"], {"a": [1, 0, 1], "b": [1, 0, 1], "c": [1, 0, 1]}),
        ("a,b", ["✓,x", "-,-", "✓,-"], {"a": [1, 0, 1], "b": [1, 0, 0]}),
        ("猫,狗", ["是,有", "否,无"], {"猫": [1, 0], "狗": [1, 0]}),
        ("a,b", ["1,-1", "-1,1"], {"a": [1, 0], "b": [0, 1]}),
        ("a,b", ["1.0,-1.0", "0.0,1.0"], {"a": [1, 0], "b": [UNKNOWN, 1]}),
        ("a,b", ["1,-1", "-1,1", "?,1"], {"a": [1, 0, UNKNOWN], "b": [0, 1, 1]}),
        ("a,b", ["1,", "0,1", ",1"], {"a": [1, 0, UNKNOWN], "b": [0, 1, 1]}),
        ("sex,age,a", ["M,40,1", "F,50,0"], {"a": [1, 0]}),
        ("fox,count", ["1,3", "0,1", "0,2", "0,1"], {"fox": [1, 0, 0, 0]}),
        ("a,b", ['"1,0","0,0"', '"0,0","1,0"'], {"a": [1, 0], "b": [0, 1]}),
    ],
)
def test_spellings_of_present_and_absent(
    header: str, cells: list[str], expected: dict[str, list[int]], tmp_path: Path
) -> None:
    text = f"image,{header}\n" + "".join(f"p{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    assert values(table(tmp_path, text)) == expected


def test_blank_is_what_the_option_says(tmp_path: Path) -> None:
    text = "image,a,b\np.jpg,1,\nq.jpg,0,1\nr.jpg,,1\n"
    assert values(table(tmp_path, text, blank="absent")) == {"a": [1, 0, 0], "b": [0, 1, 1]}
    assert values(table(tmp_path, text, blank="unknown")) == {"a": [1, 0, -1], "b": [-1, 1, 1]}
    minus = "image,a,b\np.jpg,1,-1\nq.jpg,-1,1\nr.jpg,,1\n"
    assert "--blank unknown" in refusal(tmp_path, minus)
    assert values(table(tmp_path, minus, blank="unknown")) == {"a": [1, 0, -1], "b": [0, 1, 1]}
    assert values(table(tmp_path, minus, blank="absent")) == {"a": [1, -1, 0], "b": [-1, 1, 1]}


def test_shares_need_a_threshold(tmp_path: Path) -> None:
    text = "image,a,b\np.jpg,0.5,1\nq.jpg,0.2,0\n"
    assert "--at-least" in refusal(tmp_path, text)
    assert values(table(tmp_path, text, at_least=0.5)) == {"a": [1, 0], "b": [1, 0]}
    assert values(table(tmp_path, "image,a\np.jpg,50%\nq.jpg,10%\n", at_least=0.5)) == {"a": [1, 0]}
    assert "--at-least applies to values between 0 and 1" in refusal(
        tmp_path, "image,a\np.jpg,1\nq.jpg,0\n", at_least=0.5
    )


@pytest.mark.parametrize(
    "text, options, expected",
    [
        ("label\np.jpg,cat\np.jpg,dog\nq.jpg,dog\nr.jpg,\n", {}, {"cat": [1, 0, 0], "dog": [1, 1, 0]}),
        ("label,confidence\np.jpg,cat,1\np.jpg,dog,0\nq.jpg,dog,1\n", {}, {"cat": [1, -1], "dog": [0, 1]}),
        ("label,confidence\np.jpg,cat,1\np.jpg,dog,1\nq.jpg,dog,1\n", {}, {"cat": [1, 0], "dog": [1, 1]}),
        ("label,conf\np.jpg,cat,.9\np.jpg,dog,.4\nq.jpg,dog,1\n", {"at_least": 0.5}, {"cat": [1, 0], "dog": [0, 1]}),
        ("label,value\np.jpg,cat,yes\np.jpg,dog,no\nq.jpg,dog,yes\n", {}, {"cat": [1, -1], "dog": [0, 1]}),
        ("class,xmin,ymin,xmax,ymax\np.jpg,cat,1,1,9,9\np.jpg,cat,2,2,8,8\nq.jpg,dog,0,0,1,1\n", {}, None),
    ],
)
def test_long_form(text: str, options: dict[str, float], expected: dict | None, tmp_path: Path) -> None:
    found = table(tmp_path, f"image,{text}", **options)
    assert found.long_form
    assert values(found) == (expected or {"cat": [1, 0], "dog": [0, 1]})
    assert found.images[:2] == ["p.jpg", "q.jpg"]


def test_long_form_refuses_what_could_be_meant_in_two_ways(tmp_path: Path) -> None:
    rows = "p.jpg,cat,0.9\np.jpg,dog,0.4\nq.jpg,dog,1\n"
    assert "--at-least" in refusal(tmp_path, f"image,label,confidence\n{rows}")
    found = table(tmp_path, "image,label,confidence\np.jpg,cat,1\np.jpg,cat,0\nq.jpg,dog,1\n")
    assert found.disagreements.tolist() == [[True, False], [False, False]]
    text = "image,label,split\np.jpg,cat,train\np.jpg,dog,test\nq.jpg,dog,test\n"
    assert "two parts of the split (lines 2, 3)" in refusal(tmp_path, text)


def test_groups_are_offered_and_taken_when_named(tmp_path: Path) -> None:
    text = "image,label,Patient ID\n" + "".join(f"p{i}.jpg,{'ab'[i % 2]},{i // 3}\n" for i in range(12))
    found = table(tmp_path, text)
    assert found.groups is None
    assert "add --group-column 'Patient ID'" in found.notes[-1] and "not used: Patient ID" in found.recognised
    assert table(tmp_path, text, group_column="patient id").groups == [str(i // 3) for i in range(12)]


@pytest.mark.parametrize(
    "text, images, labels, options",
    [
        ("noext,dog\nb.jpg,cat\nc.jpg,cat\nd.jpg,dog\n", ["noext", "b.jpg", "c.jpg", "d.jpg"], ("dog", "cat"), {}),
        ("0001,dog|cat\n0002,cat\n0003,dog\n", ["0001", "0002", "0003"], ("dog", "cat"), {"files": True}),
        ("a.jpg,1,0\nb.jpg,0,1\n", ["a.jpg", "b.jpg"], ("x", "y"), {"labels": "x,y"}),
        ("sep=;\nimage;a\nx.jpg;1\ny.jpg;0\n", ["x.jpg", "y.jpg"], ("a",), {}),
        ("Objekt;Art\n0001;rot|blau\n0002;rot\n", ["0001", "0002"], ("rot", "blau"), {"files": True}),
    ],
)
def test_tables_without_a_header_or_with_an_unknown_one(
    text: str, images: list[str], labels: tuple[str, ...], options: dict[str, object], tmp_path: Path
) -> None:
    if options.pop("files", False):
        for name in images:
            (tmp_path / f"{name}.jpg").touch()
    found = table(tmp_path, text, **options)
    assert (found.images, found.labels) == (images, labels)


def test_of_several_image_columns_the_one_whose_files_exist_is_read(tmp_path: Path) -> None:
    for name in ("i/a.jpg", "i/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = table(tmp_path, "thumb,file,labels\nt/x.jpg,i/a.jpg,dog\nt/y.jpg,i/b.jpg,cat\n")
    assert found.images == ["i/a.jpg", "i/b.jpg"]
    assert "whose files exist, not in thumb" in found.notes[0]
    (tmp_path / "x.jpg").touch()
    (tmp_path / "y.jpg").touch()
    assert "--image-column" in refusal(tmp_path, "thumb,file,labels\nx.jpg,a.jpg,dog\ny.jpg,b.jpg,cat\n")
