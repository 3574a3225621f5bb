"""Decisions: the file survives people and kills, and applying decisions does what they say and no more."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.auditing.apply import apply_decisions
from polytag.auditing.decisions import (
    COLUMNS,
    Decision,
    DecisionFile,
    default_decisions,
    read_decisions,
    write_decisions,
)
from polytag.data.dataset import Dataset
from polytag.errors import DataError, PolytagError, SettingsError

HEADER = ",".join(COLUMNS)
LABELS = ("sea", "Sea", "tree", "ocean")
NAMES = ("a.jpg", "b.jpg", "sub/c.jpg", "d.jpg")


def dataset(targets: object = ((1, 0, 0, -1), (0, 1, 1, 0), (0, 0, -1, 0), (1, 1, 0, 0))) -> Dataset:
    values = np.array(targets, dtype=np.int8)
    paths = np.array([f"/photos/{name}" for name in NAMES])
    return Dataset(
        paths, values, LABELS, np.arange(4), Path("/photos"), left_out={"gone.jpg": "no such file"},
        disputed={"a.jpg": ("ocean",), "sub/c.jpg": ("tree", "Sea")},
    )  # fmt: skip


def content(data: Dataset) -> tuple[object, ...]:
    """Everything that applying decisions may change, except the notes."""
    return data.names, data.labels, data.targets.tolist(), data.groups.tolist(), data.left_out, data.disputed


# What a decision may say ----------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FILLED = TEXT.filter(bool)
REASONS = {"reason": TEXT, "by": st.sampled_from(["audit", "review"])}
WHOLE, SET = st.sampled_from(["drop", "unknown", "keep"]), st.sampled_from(["unknown", "present", "absent"])
ANY = st.one_of(
    st.builds(Decision, image=FILLED, label=st.just(""), action=WHOLE, **REASONS),
    st.builds(Decision, image=FILLED, label=FILLED, action=SET, **REASONS),
    st.builds(Decision, image=TEXT, label=FILLED, action=st.just("keep"), **REASONS),
    st.builds(
        lambda label, reason: Decision("", label, "merge", reason, into=label + "x"), label=FILLED, reason=TEXT
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("a.jpg", "", "delete", ""), "the action must be one of drop, unknown, .*, not 'delete'"),
        (("", "", "drop", ""), "'drop' needs the column image, but it is empty"),
        (("a.jpg", "sea", "drop", ""), "'drop' needs an empty column label, but got 'sea'"),
        (("a.jpg", "", "present", ""), "'present' needs the column label"),
        (("", "sea", "unknown", ""), "'unknown' needs the column image"),
        (("a.jpg", "sea", "merge", "sea2"), "'merge' needs an empty column image, but got 'a.jpg'"),
        (("", "sea", "merge", ""), "'merge' needs the column into"),
        (("", "sea", "merge", "sea"), "'sea' cannot be merged into itself"),
        (("a.jpg", "sea", "absent", "tree"), "'absent' needs an empty column into, but got 'tree'"),
        (("", "", "keep", ""), "'keep' needs an image or a label, but both are empty"),
    ],
)
def test_decisions_that_say_nothing_are_refused(cells: tuple[str, str, str, str], message: str, tmp_path: Path) -> None:
    image, label, action, into = cells
    with pytest.raises(DataError, match=message):
        Decision(image, label, action, "why", into=into)
    file = tmp_path / "decisions.csv"
    file.write_text(f"{HEADER}\nb.jpg,,drop,,dark,audit\n{image},{label},{action},{into},why,review\n")
    with pytest.raises(DataError, match=f"decisions.csv, line 3: {message}.*. Fix or delete that row"):
        read_decisions(file)


# The file -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.lists(ANY, max_size=6))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, decisions: list[Decision]) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.csv"
    write_decisions(file, decisions)
    assert read_decisions(file) == decisions


def test_spreadsheets_run_no_name_as_a_formula(tmp_path: Path) -> None:
    decision = Decision("=1+2.jpg", "@home", "present", "-x")
    write_decisions(tmp_path / "d.csv", [decision])
    assert "'=1+2.jpg,'@home,present,,'-x" in (tmp_path / "d.csv").read_text()
    assert read_decisions(tmp_path / "d.csv") == [decision]


def test_the_file_is_plain(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    write_decisions(
        file,
        [
            Decision("a b.jpg", "sea", "present", 'the probe says "sea", 0.97'),
            Decision("", "Sea", "merge", "same", "review", "sea"),
        ],
    )
    assert file.read_bytes() == (
        b"image,label,action,into,reason,by\n"
        b'a b.jpg,sea,present,,"the probe says ""sea"", 0.97",audit\n'
        b",Sea,merge,sea,same,review\n"
    )


def test_what_spreadsheets_and_people_make_of_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    file.write_bytes(
        "\ufeffBy, Image,label,action,into,reason\r\nreview,ä.jpg,, Drop ,,dark\r\n\r\nAUDIT,b.jpg,,keep,,\r\n".encode()
    )
    assert read_decisions(file) == [Decision("ä.jpg", "", "drop", "dark", "review"), Decision("b.jpg", "", "keep", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns image, label, action, into, reason, by, but its first line has none"),
        ("image,action\n", "but its first line has image, action. Fix"),
        (f"{HEADER},note\n", "but its first line has image, .*, by, note"),
        (f"{HEADER}\na.jpg,,drop,,dark,audit\n\nb.jpg,,drop\n", "line 4: expected 6 cells, got 3"),
        (f"{HEADER}\na.jpg,,drop,,dark, and blurry,audit\n", "line 2: expected 6 cells, got 7 .*quotation marks"),
        (f"{HEADER}\na.jpg,,drop,,dark,me\n", "line 2: 'by' must be audit or review, not 'me'"),
        (f'{HEADER}\na.jpg,,drop,,"dark,audit\nb.jpg,,keep,,,audit\n', "line 3: not valid CSV"),
        (b"\xff\xfe\x00", "cannot be read \\(not UTF-8 text\\)"),
    ],
)
def test_damaged_files_are_refused_with_the_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as error:
        read_decisions(file)
    assert "\n" not in str(error.value)
    before = file.read_bytes()
    with pytest.raises(DataError):
        DecisionFile(file).save(Decision("a.jpg", "", "keep", ""))
    assert file.read_bytes() == before


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_decisions(path)


def test_names_that_are_no_text_leave_the_file_as_it_was(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "decisions.csv")
    file.save(Decision("a.jpg", "", "keep", ""))
    with pytest.raises(DataError, match=r"the name 'b\\udcff.jpg' is not valid UTF-8. Rename"):
        file.save(Decision("b\udcff.jpg", "", "keep", ""))
    assert read_decisions(file.path) == [Decision("a.jpg", "", "keep", "")]
    assert os.listdir(tmp_path) == ["decisions.csv"]


def test_saving_replaces_what_was_decided_about_the_same(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "decisions.csv")
    assert not file.read()
    first = Decision("a.jpg", "sea", "present", "probe")
    second = Decision("a.jpg", "", "drop", "dark")
    later = Decision("a.jpg", "sea", "unknown", "cannot be told", "review")
    for decision in (first, second, later):
        file.save(decision)
        assert decision in read_decisions(file.path)
    assert read_decisions(file.path) == [later, second]
    file.remove(("a.jpg", ""))
    file.remove(("never.jpg", ""))
    assert read_decisions(file.path) == [later]
    assert dict(DecisionFile(file.path).read()) == {("a.jpg", "sea"): later}


def test_rows_that_a_person_deletes_do_not_come_back(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "decisions.csv")
    for name in "abc":
        file.save(Decision(f"{name}.jpg", "", "keep", ""))
    lines = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join(line for line in lines if not line.startswith("b")))
    file.save(Decision("d.jpg", "", "keep", ""))
    assert [d.image for d in read_decisions(file.path)] == ["a.jpg", "c.jpg", "d.jpg"]
    file.path.unlink()
    assert not file.read()
    file.save(Decision("e.jpg", "", "keep", ""))
    assert [d.image for d in read_decisions(file.path)] == ["e.jpg"]


def test_a_file_that_cannot_be_written_is_said_and_nothing_is_remembered(tmp_path: Path) -> None:
    file = DecisionFile(tmp_path / "no" / "decisions.csv")
    with pytest.raises(SettingsError, match="cannot be written"):
        file.save(Decision("a.jpg", "", "keep", ""))
    assert not file.read()


def test_being_killed_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    code = (
        "import sys; from polytag.auditing.decisions import Decision, DecisionFile\n"
        "file = DecisionFile(sys.argv[1])\n"
        "for i in range(100_000):\n"
        "    file.save(Decision(f'{i}.jpg', '', 'keep', 'x' * 500)); print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in itertools.islice(process.stdout, 100):
        pass
    process.send_signal(signal.SIGKILL)
    reported = [line for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    saved = [d.image for d in read_decisions(path)]
    assert saved == [f"{i}.jpg" for i in range(len(saved))]
    assert len(saved) >= 100 + len(reported)


def test_saving_does_not_keep_anybody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    reason = "the probe gives 'sea' 0.97, but the table says absent"
    write_decisions(path, [Decision(f"photos/image{i}.jpg", "sea", "present", reason) for i in range(20_000)])
    file = DecisionFile(path)
    start = time.perf_counter()
    file.read()
    whole = time.perf_counter() - start
    seconds = []
    for i in range(9):
        start = time.perf_counter()
        file.save(Decision(f"photos/image{i}.jpg", "sea", "absent", "seen", "review"))
        seconds.append(time.perf_counter() - start)
    assert len(read_decisions(path)) == 20_000
    assert min(seconds) < whole / 8, (whole, seconds)


# Applying ------------------------------------------------------------------------------------------------------------


def test_each_action_does_what_it_says() -> None:
    cleaned, reasons = apply_decisions(
        dataset(),
        [
            Decision("b.jpg", "", "drop", "blurry"),
            Decision("a.jpg", "ocean", "unknown", "rows disagree"),
            Decision("a.jpg", "sea", "absent", "probe 0.02"),
            Decision("sub/c.jpg", "tree", "present", "probe 0.98"),
            Decision("d.jpg", "", "unknown", "another's labels"),
            Decision("d.jpg", "Sea", "keep", "seen", "review"),
        ],
    )
    assert cleaned.names == ["a.jpg", "sub/c.jpg", "d.jpg"]
    assert cleaned.targets.tolist() == [[0, 0, 0, -1], [0, 0, 1, 0], [-1, 1, -1, -1]]
    assert cleaned.left_out == {"gone.jpg": "no such file", "b.jpg": "blurry"}
    assert cleaned.groups.tolist() == [0, 2, 3]
    assert cleaned.labels == LABELS
    assert cleaned.disputed == {"sub/c.jpg": ("Sea",)}
    assert cleaned.notes == ("1 image dropped by decision: b.jpg", "3 images with labels changed by decision")
    assert reasons == {
        "a.jpg": "rows disagree; probe 0.02",
        "sub/c.jpg": "probe 0.98",
        "d.jpg": "another's labels; seen",
    }


def test_keeping_leaves_disputed_labels_unknown() -> None:
    cleaned, reasons = apply_decisions(dataset(), [Decision("a.jpg", "ocean", "keep", "not clear", "review")])
    assert cleaned.targets.tolist() == dataset().targets.tolist()
    assert reasons == {"a.jpg": "not clear"}
    assert cleaned.notes == ()


def test_merged_labels_become_one() -> None:
    values = list(itertools.product((1, 0, -1), repeat=2))[:4]
    for pairs in (values, [(0, -1), (-1, 1), (-1, 0), (-1, -1)]):
        data = dataset([(a, b, 0, 1) for a, b in pairs])
        cleaned, reasons = apply_decisions(data, [Decision("", "Sea", "merge", "a variant", into="sea")])
        assert cleaned.labels == ("sea", "tree", "ocean")
        expected = [1 if 1 in pair else 0 if pair == (0, 0) else -1 for pair in pairs]
        assert cleaned.targets.tolist() == [[value, 0, 1] for value in expected]
        assert reasons == {name: "a variant" for name, (_, b) in zip(NAMES, pairs, strict=True) if b == 1}
        assert cleaned.disputed == {"a.jpg": ("ocean",), "sub/c.jpg": ("tree", "sea")}
        assert "label 'Sea' merged into 'sea'" in cleaned.notes


def test_merges_follow_one_another_and_decisions_follow_them() -> None:
    cleaned, _ = apply_decisions(
        dataset(),
        [
            Decision("", "ocean", "merge", "", into="Sea"),
            Decision("", "Sea", "merge", "", into="sea"),
            Decision("b.jpg", "ocean", "absent", ""),  # outranks the table's "Sea"
            Decision("sub/c.jpg", "Sea", "present", ""),
            Decision("sub/c.jpg", "sea", "absent", ""),
        ],
    )
    assert cleaned.labels == ("sea", "tree")
    assert cleaned.targets.tolist() == [[1, 0], [0, 1], [1, -1], [1, 0]]
    assert cleaned.disputed == {"a.jpg": ("sea",), "sub/c.jpg": ("tree",)}


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        (
            [Decision(f"{i}.jpg", "", "drop", "") for i in range(7)],
            "name 7 images that the data do not have: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more",
        ),
        ([Decision("a.jpg", "lake", "present", "")], "name 1 label .*: lake. The labels are sea, Sea"),
        ([Decision("", "sea", "merge", "", into="lake")], "do not have: lake"),
        (
            [Decision("", "sea", "merge", "", into="Sea"), Decision("", "Sea", "merge", "", into="sea")],
            r"in a circle \((sea → Sea → sea|Sea → sea → Sea)\)",
        ),
        ([Decision(name, "", "drop", "") for name in NAMES], "leave none of the 4 images"),
    ],
)  # fmt: skip
def test_decisions_that_do_not_fit_the_data_are_refused(decisions: list[Decision], message: str) -> None:
    with pytest.raises(DataError, match=message):
        apply_decisions(dataset(), decisions)


def test_photos_that_are_left_out_already_may_be_decided_about() -> None:
    data = dataset()
    cleaned, reasons = apply_decisions(
        data, [Decision("gone.jpg", "", "drop", "missing"), Decision("gone.jpg", "sea", "present", "probe")]
    )
    assert content(cleaned) == content(data)
    assert not reasons


WHY = {"reason": st.sampled_from(["", "dark", "probe"])}
FITTING = st.one_of(
    st.builds(
        Decision, image=st.sampled_from(NAMES), label=st.just(""), action=WHOLE,
        **WHY,
    ),
    st.builds(
        Decision, image=st.sampled_from(NAMES), label=st.sampled_from(LABELS),
        action=st.sampled_from(["unknown", "present", "absent", "keep"]), **WHY,
    ),
    st.sampled_from([Decision("", a, "merge", "variant", into=b) for a, b in itertools.permutations(LABELS, 2)]),
    st.builds(Decision, image=st.just(""), label=st.sampled_from(LABELS), action=st.just("keep"), **WHY),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.data(), st.lists(FITTING, max_size=10))
def test_applying_twice_or_in_another_order_changes_nothing(draw: st.DataObject, decisions: list[Decision]) -> None:
    row = st.tuples(*[st.sampled_from([1, 0, -1])] * len(LABELS))
    data = dataset(draw.draw(st.lists(row, min_size=len(NAMES), max_size=len(NAMES))))
    before = content(data)
    try:
        cleaned, reasons = apply_decisions(data, decisions)
    except PolytagError as error:
        assert "circle" in str(error) or "leave none" in str(error)
        return
    finally:
        assert content(data) == before
    assert content(apply_decisions(cleaned, decisions)[0]) == content(cleaned)
    assert set(reasons) <= set(cleaned.names)

    last = list({d.key: d for d in decisions}.values())
    shuffled, same_reasons = apply_decisions(data, draw.draw(st.permutations(last)))
    assert content(shuffled) == content(cleaned)
    assert same_reasons == reasons
    undone, none = apply_decisions(data, [])
    assert content(undone) == before
    assert not none


def test_no_decisions_return_the_same_content_and_other_fields_stay() -> None:
    data = replace(dataset(), parts=np.array(["train", "test", "train", "validation"]), notes=("read",))
    cleaned, _ = apply_decisions(data, [Decision("a.jpg", "", "drop", "dark")])
    assert cleaned.parts is not None
    assert cleaned.parts.tolist() == ["test", "train", "validation"]
    assert cleaned.notes[0] == "read"
    assert cleaned.root == data.root


def test_the_default_file_is_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    table = folder / "labels.csv"
    table.write_text("image,labels\n")
    assert default_decisions(table) == folder / "labels.decisions.csv"
    for name in (folder, f"{folder}/", folder / "." / ""):
        assert default_decisions(name) == tmp_path / "holiday.decisions.csv"
    monkeypatch.chdir(folder)
    assert default_decisions("labels.csv") == Path("labels.decisions.csv")
    # Inside the folder, the file could be read as a table of labels.
    assert default_decisions(".").resolve() == tmp_path / "holiday.decisions.csv"
    assert default_decisions("../holiday").resolve() == tmp_path / "holiday.decisions.csv"
    assert default_decisions("kaggle:someone/photos") == Path("photos.decisions.csv")
    assert default_decisions("kaggle:someone/photos/train.csv") == Path("train.csv.decisions.csv")
    assert default_decisions("/") == Path("decisions.csv")
