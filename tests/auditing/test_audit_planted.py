"""Among synthetic scenes with thirty kinds of planted defects, the audit finds each and nothing else."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from planted import CLEAN, RENAMED, VARIANTS, Planted, plant
from polytag.auditing.audit import Audit, audit
from polytag.auditing.decisions import Decision, default_decisions, read_decisions, write_decisions
from polytag.auditing.issues import ISSUES, SCALED
from polytag.cli import app
from polytag.data.reading.read import read
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.split import split
from polytag.data.splitting.split_file import with_split
from polytag.models.backbones import embed as features
from polytag.models.backbones.weights import Weights
from polytag.pages.page import PAGE

PHOTO_ISSUES = [name for name, issue in ISSUES.items() if issue.about == "photo"]
LABEL_ISSUES = [name for name, issue in ISSUES.items() if issue.about == "label"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "data")


@pytest.fixture(scope="module")
def found(planted: Planted) -> Audit:
    data = read(planted.folder, conflicts="unknown")
    return audit(with_split(data, planted.folder / "split.csv"))


@pytest.fixture(autouse=True, scope="module")
def no_weights() -> Iterator[None]:
    """Find duplicates without embeddings, which would take longer than everything else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "find_weights", lambda: Weights("mobilenet_v2", "keras", None, ""))
        yield


def flagged(found: Audit, issue: str) -> list[str]:
    return found.findings["image"][found.findings["issue"] == issue].tolist()


def test_thirty_kinds_are_planted(planted: Planted) -> None:
    of_labels = {*planted.labels, *planted.useless}
    assert {*planted.photos, *of_labels} == {*PHOTO_ISSUES, *LABEL_ISSUES}
    assert len(ISSUES) >= 30 and all(planted.counts.values())


@pytest.mark.parametrize("issue", [issue for issue in PHOTO_ISSUES if issue not in SCALED])
def test_just_these_photos_are_flagged(issue: str, planted: Planted, found: Audit) -> None:
    assert sorted(flagged(found, issue)) == sorted(planted.photos[issue])


@pytest.mark.parametrize("issue", SCALED)
def test_what_is_a_matter_of_degree_has_precision_and_recall(issue: str, planted: Planted, found: Audit) -> None:
    there, named = planted.photos[issue], flagged(found, issue)
    assert len(there & {*named}) >= 0.95 * len(there)
    assert len(there & {*named}) >= 0.95 * len(named)
    assert not planted.mild & {*named}
    # The score falls with the measure and is 0.5 at the limit.
    scores = found.scores(issue)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert {name for name, score in zip(found.names, scores, strict=True) if score < 0.5} == {*named}


@pytest.mark.parametrize("issue", [issue for issue in LABEL_ISSUES if issue not in ("never_present", "always_present")])
def test_just_these_labels_are_flagged(issue: str, planted: Planted, found: Audit) -> None:
    rows = found.findings[found.findings["issue"] == issue]
    assert sorted(zip(rows["label"], rows["other"], strict=True)) == sorted(planted.labels[issue])


def test_labels_of_which_nothing_can_be_learned(planted: Planted) -> None:
    rows = audit(read(planted.folder / "useless.csv")).findings
    for issue, labels in planted.useless.items():
        named = rows[rows["issue"] == issue]
        assert sorted(zip(named["label"], named["other"], strict=True)) == sorted(labels)


def test_the_counts_are_exact(planted: Planted, found: Audit) -> None:
    assert found.counts == planted.counts
    assert list(found.counts) == [issue for issue in ISSUES if issue in found.counts]
    unreadable = ("missing", "empty", "not_an_image", "truncated", "damaged", "too_large")
    lost = sum(planted.counts[issue] for issue in unreadable)
    copies = sum(planted.counts[f"{kind}_duplicate"] for kind in ("exact", "near", "cropped", "mirrored"))
    s = found.statistics
    assert s["photos"] == s["readable"] + lost == s["pictures"] + copies + lost
    assert s["labels"] == len(found.dataset.labels)


def test_copies_name_their_originals(planted: Planted, found: Audit) -> None:
    rows = found.findings[found.findings["issue"].str.endswith("_duplicate")]
    assert rows["other"].str.startswith("scene").all()
    # Each original has one copy: no pair joins two pictures.
    assert len(found.pairs) == len({pair.a for pair in found.pairs}) == len({pair.b for pair in found.pairs})


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def hashes(folder: Path) -> dict[Path, str]:
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def test_the_command_reports_all_of_it(planted: Planted, tmp_path: Path) -> None:
    before = hashes(planted.folder)
    result = command(
        *("audit", planted.folder, "--split", planted.folder / "split.csv"),
        *("--json", tmp_path / "found.json", "--report", tmp_path / "report"),
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["counts"] == planted.counts
    assert len(content["findings"]) == sum(planted.counts.values())
    assert {row["image"] for row in content["findings"] if row["issue"] == "leak"} == planted.photos["leak"]
    assert content["labels"]["Boat"] == RENAMED
    for issue, count in planted.counts.items():
        assert any(ISSUES[issue].title in line and f" {count} " in line for line in result.output.splitlines()), issue
    page = (tmp_path / "report" / PAGE).read_text()
    assert all(f'id="{issue}"' in page for issue in planted.photos)
    assert hashes(planted.folder) == before


@pytest.fixture(scope="module")
def cleaned(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cleaned table. Its decisions are beside the data."""
    out = tmp_path_factory.mktemp("clean") / "clean.csv"
    before = hashes(planted.folder)
    result = command("audit", planted.folder, "--clean", out)
    assert result.exit_code == 0, result.output
    assert hashes(planted.folder) == before
    assert [file.name for file in out.parent.iterdir()] == ["clean.csv"]
    assert default_decisions(planted.folder) == planted.folder.with_name("data.decisions.csv")
    return out


def test_the_cleaned_table_splits_without_leaks(planted: Planted, cleaned: Path, tmp_path: Path) -> None:
    images = planted.folder / "images"
    data = read(cleaned, images=images)
    parts = split(data)
    assert not leaks(parts)
    part_of = {name: i for i, part in enumerate(parts) for name in part.names}
    gone = planted.photos["exact_duplicate"] | {
        name
        for issue in ("empty", "not_an_image", "truncated", "damaged", "too_large", "missing")
        for name in planted.photos[issue]
    }
    listed = {row["image"] for row in csv.DictReader((planted.folder / "labels.csv").open())}
    assert part_of.keys() == listed - gone
    result = command("split", cleaned, "--images", images, "--out", tmp_path / "split.csv")
    assert result.exit_code == 0, result.output
    assert "0 groups of photos in more than one part" in result.output


def test_cleaning_does_what_the_findings_say(planted: Planted, found: Audit, cleaned: Path) -> None:
    before, after = found.dataset, read(cleaned, images=planted.folder / "images")
    assert after.labels == tuple(label for label in before.labels if label not in VARIANTS)
    assert not after.disputed and not after.repeats
    for variant, label in VARIANTS.items():
        present = {
            name for name, row in zip(after.names, after.targets, strict=True) if row[after.labels.index(label)] == 1
        }
        renamed = {
            name
            for name, row in zip(before.names, before.targets, strict=True)
            if row[before.labels.index(variant)] == 1
        }
        assert len(renamed) == RENAMED and renamed < present
    rows = {row["image"]: row for row in csv.DictReader(cleaned.open())}
    for name in planted.photos["conflicting_rows"]:
        assert "Conflicting rows" in rows[name]["reasons"]
        assert sum(cell == "" for label, cell in rows[name].items() if label in after.labels) == 2
    untouched = [f"scene{i:03}.jpg" for i in range(CLEAN // 2, CLEAN // 2 + 50)]
    assert sum(rows[name]["reasons"] == "" for name in untouched) > 25


def test_a_second_cleaning_is_refused(planted: Planted, cleaned: Path) -> None:
    before = hashes(cleaned.parent)
    assert "exists already" in refusal(command("audit", planted.folder, "--clean", cleaned))
    assert hashes(cleaned.parent) == before


def decide_without(
    planted: Planted, cleaned: Path, out: Path, is_out: Callable[[Decision], bool]
) -> tuple[int, list[str], Result]:
    """Delete some decisions and clean once more: how many were deleted, the table's lines, and the outcome."""
    decisions = read_decisions(default_decisions(planted.folder))
    kept = [decision for decision in decisions if not is_out(decision)]
    write_decisions(out.parent / "mine.csv", kept)
    result = command("audit", planted.folder, "--clean", out, "--decisions", out.parent / "mine.csv")
    assert read_decisions(out.parent / "mine.csv") == kept
    return len(decisions) - len(kept), out.read_text().splitlines() if out.exists() else [], result


def test_deleting_a_decision_undoes_just_that(planted: Planted, cleaned: Path, tmp_path: Path) -> None:
    copy = "copy03.jpg"
    deleted, lines, result = decide_without(planted, cleaned, tmp_path / "c.csv", lambda d: d.image == copy)
    assert deleted == 1 and result.exit_code == 0
    with_groups = [line for line in lines if not line.startswith(copy)]
    # The group of the copy and its original appears too; that is no decision but what the audit knows.
    after = {row["image"]: {**row, "group": ""} for row in csv.DictReader(lines)}
    before = {row["image"]: {**row, "group": ""} for row in csv.DictReader(cleaned.open())}
    assert len(with_groups) == len(lines) - 1
    assert after.pop(copy)["reasons"] == ""
    assert after == before


def test_a_conflict_that_nobody_settles_is_refused(planted: Planted, cleaned: Path, tmp_path: Path) -> None:
    name = "conflicting_rows02.jpg"
    deleted, lines, result = decide_without(planted, cleaned, tmp_path / "c.csv", lambda d: d.image == name)
    assert deleted == 2 and not lines
    assert name in (line := refusal(result)) and "does not settle 2 conflicts" in line
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]
