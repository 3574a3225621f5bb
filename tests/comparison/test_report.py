"""The report says what the contest's numbers say, is one page, and takes no name at its word."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.comparison.contest import Contest, Contestant, pairs, results, table
from polytag.comparison.figures import importance_bars, outcomes, trial_scores
from polytag.comparison.report import write_report
from polytag.data.dataset import Dataset
from polytag.evaluation.evaluate import Evaluation, judge
from polytag.evaluation.selection import VALIDATION_SCORE

LABELS = ("bus", "cat", "dog", "tree")
SECTIONS = (
    "comparison",
    "differences",
    "labels",
    "thresholds",
    "learning",
    "confusion",
    "photos",
    "calibration",
    "method",
    "doubts",
)
HISTORY = [
    {
        "loss": 0.6 - 0.1 * e,
        "learning_rate": 1e-3,
        "validation_loss": v,
        VALIDATION_SCORE: 0.5 + v / 9,
    }
    for e, v in enumerate((0.5, 0.3, 0.45))
]
TRIALS = [
    {"score": 0.41, "state": "complete", "dense": 128},
    {"score": 0.62, "state": "pruned", "dense": 512},
    {"score": None, "state": "fail", "dense": 64},
    {"score": 0.52, "state": "complete", "dense": 256},
]


def fabricated(labels=LABELS, models=("baseline", "tuned", "transfer"), n=60, targets=None, **changes) -> Contest:
    """A contest of models that know the truth more or less well; the later, the better."""
    rng = np.random.default_rng(len(labels))
    if targets is None:
        targets = (rng.random((n, len(labels))) < 0.4).astype(np.int8)
    n = len(targets)
    paths = np.array([f"/photos/{i:03}.jpg" for i in range(n)])
    data = Dataset(paths, targets, tuple(labels), np.arange(n), Path("/photos"))
    contestants = []
    for i, name in enumerate(models):
        logits = np.where(targets == 1, 1.0, -1.0) * (0.2 + 0.4 * i) + rng.normal(0, 1, targets.shape)
        probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
        contestants.append(contestant(name, evaluated(data, probabilities), HISTORY, TRIALS if name == "tuned" else ()))
    contest = Contest(
        "holiday snaps", 5 * n, tuple(labels), "0123456789abcdef", {"train": 3 * n, "validation": n, "test": n},
        ("read from labels.csv",), {"broken.jpg": "not an image"}, tuple(contestants), pairs(contestants), "9.8.7", 11,
    )  # fmt: skip
    return replace(contest, **changes)


def evaluated(data: Dataset, probabilities, threshold=0.5) -> Evaluation:
    thresholds = np.full(len(data.labels), threshold, np.float32)
    return judge(data.labels, thresholds, data, data.targets, probabilities, 50.0, [])


def contestant(name: str, evaluation: Evaluation, history=(), trials=()) -> Contestant:
    kept = 0 if history else None
    return Contestant(name, evaluation, 0.5, 1234, 5678, 61.0, 0.556, history, kept, trials, {"image_size": 64})


class Page(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and the text of each element by id."""

    def __init__(self, markup: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.section, self.text = "", {"": ""}
        self._in_style = self._in_cell = False
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag in ("style", "script")
        if tag in ("section", "footer"):
            self.section = dict(attrs).get("id", tag)
            self.text[self.section] = ""
        elif tag == "tr":
            self.rows.append([self.section])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_style = False
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self._in_style:
            return
        self.text[self.section] += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs]

    def table(self, section: str) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row[1:]] for row in self.rows if row[0] == section]


def written(folder: Path, contest: Contest, photos=None) -> tuple[Page, str]:
    """The parsed report.html and the text of report.md."""
    path = write_report(folder, contest, photos or {})
    return Page(path.read_text(encoding="utf-8")), (folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def contest() -> Contest:
    return fabricated()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> dict[str, str]:
    """A file for each photo of `fabricated`."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(60):
        Image.new("RGB", (30, 20), (4 * i, 80, 120)).save(folder / f"{i:03}.jpg")
    return {f"{i:03}.jpg": str(folder / f"{i:03}.jpg") for i in range(60)}


def test_one_page_that_needs_nothing_else(tmp_path, contest, photos):
    page, _ = written(tmp_path, contest, photos)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.md"}
    markup = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (
        "http:" not in markup.replace("http://www.w3.org/2000/svg", "")
        and "https:" not in markup
        and "@import" not in markup
    )
    assert set(re.findall(r"url\((.)", markup)) == {"#"}
    assert len(page.values("src")) == 16 and all(
        src.startswith("data:image/jpeg;base64,") for src in page.values("src")
    )
    assert all(target.startswith("#") for target in page.values("href") + page.values("xlink:href"))
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    (script,) = re.findall(r"<script>(.*?)</script>", markup, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in markup
    ids = page.values("id")
    assert len(ids) == len(set(ids)), "pictures share ids"
    assert len(markup) < 3_000_000


def test_every_section_model_label_and_fact_is_there(tmp_path, contest):
    page, text = written(tmp_path, contest)
    assert tuple(page.text)[1:-1] == SECTIONS
    everything = " ".join(" ".join(page.text.values()).split())
    for name in (*LABELS, "baseline", "tuned", "transfer", contest.answer(), "0123456789abcdef", "9.8.7"):
        assert name in everything and name in text
    for section in ("labels", "confusion"):
        assert set(LABELS) <= {row[0] for row in page.table(section)}
    pictures = [attrs["aria-label"] for _, attrs in page.elements if attrs.get("role") == "img"]
    assert len(pictures) == sum(tag == "svg" for tag, _ in page.elements) == 4 + 1 + 2 + 2 + 1 + 1 + 3
    assert all(len(told or "") > 30 for told in pictures)


def test_numbers_are_those_of_the_table(tmp_path, contest):
    page, text = written(tmp_path, contest)
    shown = [[cell.removesuffix(" ↓") for cell in row] for row in page.table("comparison")[1:]]
    assert shown == [list(row) for row in table(contest)[1:]]
    markdown = [
        [" ".join(cell.replace("**", "").replace(" ↓", "").split()) for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
    ]
    assert all(list(row) in markdown for row in table(contest)[1:])


def test_best_value_of_a_row_stands_out(tmp_path, contest):
    written(tmp_path, contest)
    markup = (tmp_path / "report.html").read_text(encoding="utf-8")
    for title, name, best in (("Samples-F1", "samples_f1", max), ("Hamming loss ↓", "hamming_loss", min)):
        row = re.search(rf"<tr[^>]*><th scope=\"row\">{title}</th>(.*?)</tr>", markup, re.DOTALL)[1]
        strong = re.findall(r"<strong>(.*?)</strong>", row)
        assert strong == [f"{best(c.evaluation.scores[name] for c in contest.contestants):.3f}"]


def test_differences_are_told(tmp_path, contest):
    page, text = written(tmp_path, contest)
    for pair in contest.pairs:
        row = next(row for row in page.table("differences") if row[0] == f"{pair.a} − {pair.b}")
        for cell, d in zip(row[1:], pair.differences, strict=True):
            assert cell == f"{d.difference:+.3f} {d.low:+.3f} to {d.high:+.3f}"
            verdict = "more than chance" if d.beyond_chance else "may be chance"
            assert f"| {d.difference:+.3f} | {d.low:+.3f} to {d.high:+.3f} | {verdict} |" in text


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{$",
    "a | b",
    "[click](javascript:alert(3))",
    "猫 ünïcode 🐈 **bold**",
    "</svg><style>*{display:none}</style>",
)


def test_names_are_only_text(tmp_path):
    contest = fabricated(
        HOSTILE, data_name="<b>snaps</b>", notes=("<i>note</i> [x](http://e.org)",), left_out={"<u>.jpg": "<s>"}
    )
    for c in contest.contestants:
        c.evaluation.names[:] = [f"<img src=y>{name}" for name in c.evaluation.names]
    page, text = written(tmp_path, contest)
    assert not {"img", "u", "s"} & {tag for tag, _ in page.elements}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert sum(tag == "style" for tag, _ in page.elements) == 1
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    for label in HOSTILE:
        assert label in [row[0] for row in page.table("confusion")]
    assert "<b>snaps</b>" in page.text[""] and "<u>.jpg (<s>)" in page.text["doubts"]
    assert not re.search(r"(?<!\\)<", text) and not re.search(r"(?<!\\)\]\(", text)
    rows = [line for line in text.splitlines() if line.startswith("| a \\| b |")]
    assert len(rows) == 3 and all(len(re.findall(r"(?<!\\)\|", row)) == 10 for row in rows)


def test_one_model(tmp_path):
    page, text = written(tmp_path, fabricated(models=("transfer",)))
    assert tuple(page.text)[1:-1] == SECTIONS
    assert "How well does transfer tag holiday snaps?" in page.text[""]
    assert "nothing to compare" in page.text["differences"] and "nothing to compare" in text
    assert "The winner was picked" not in text
    assert not any(tag == "strong" for tag, attrs in page.elements[: [t for t, _ in page.elements].index("tbody")])


def test_unknown_truth_is_left_out(tmp_path):
    targets = (np.random.default_rng(0).random((50, 4)) < 0.5).astype(np.int8)
    targets[:20, 1] = -1
    contest = fabricated(targets=targets)
    page, _ = written(tmp_path, contest)
    assert "Unknown labels are not scored: 20 of 200 test entries (10.0%)" in page.text["doubts"]
    for row in page.table("confusion")[1:]:
        assert sum(int(cell) for cell in row[2:6]) == (30 if row[0] == "cat" else 50)
    best = contest.ranked[0].evaluation
    given = (best.probabilities >= best.thresholds) & (targets < 0)
    np.testing.assert_array_equal(outcomes(best)["unknown"], given)


def test_photos_that_cannot_be_shown(tmp_path, contest, photos):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    some = dict.fromkeys(list(photos)[::2], str(broken)) | dict.fromkeys(list(photos)[1::2], str(tmp_path / "gone.jpg"))
    page, _ = written(tmp_path, contest, some)
    assert page.values("src") == []
    assert page.text["photos"].count("not an image") + page.text["photos"].count("there is no such file") == 16
    assert "not an image" in page.text["photos"] and "there is no such file" in page.text["photos"]


def test_undefined_scores_are_dashes(tmp_path):
    targets = np.zeros((30, 4), np.int8)
    targets[::3, 0] = 1
    data = Dataset(np.array([f"/p/{i}.jpg" for i in range(30)]), targets, LABELS, np.arange(30), Path("/p"))
    probabilities = np.full((30, 4), 0.1, np.float32)
    probabilities[:, 0] = np.linspace(0, 1, 30)
    both = [contestant("one", evaluated(data, probabilities)), contestant("two", evaluated(data, probabilities[::-1]))]
    nothing = np.zeros_like(targets)
    empty = replace(data, targets=nothing)
    for chosen in (both, [contestant("none", evaluated(empty, probabilities))]):
        page, text = written(tmp_path, fabricated(contestants=tuple(chosen), pairs=pairs(chosen)))
        assert not re.search(r"\bnan\b", " ".join(page.text.values()).lower())
        assert not re.search(r"\bnan\b", text)
        assert ["tree", *["–"] * 2 * len(chosen), "0"] in page.table("labels")
    assert ["mAP", "–"] in page.table("comparison")


def test_worst_and_best_photos(tmp_path):
    targets = np.tile(np.array([1, 1, 0, 0], np.int8), (12, 1))
    targets[6:8] = [1, 0, 0, 0]
    probabilities = np.where(targets == 1, 0.8, 0.1).astype(np.float32)
    probabilities[3] = [0.02, 0.9, 0.97, 0.01]
    probabilities[4] = [0.45, 0.9, 0.1, 0.1]
    probabilities[5] = [0.02, 0.9, 0.97, 0.01]
    probabilities[7] = [0.99, 0.01, 0.01, 0.01]
    probabilities[9] = [0.9, 0.9, 0.1, 0.1]
    groups = np.arange(12)
    groups[5] = groups[3]
    data = Dataset(np.array([f"/p/{i}.jpg" for i in range(12)]), targets, LABELS, groups, Path("/p"))
    page, _ = written(tmp_path, fabricated(contestants=(contestant("m", evaluated(data, probabilities)),), pairs=()))
    told = page.text["photos"]
    worst, best = told[: told.index("Best:")], told[told.index("Best:") :]
    # 5 shows the same picture as 3; 7 is surer than 9 but has one label only.
    assert re.findall(r"\d+\.jpg", worst) == ["3.jpg", "4.jpg"]
    shown = re.findall(r"\d+\.jpg", best)
    assert shown[0] == "9.jpg" and shown[-1] == "7.jpg" and not {"3.jpg", "4.jpg", "5.jpg"} & set(shown)
    assert worst.split()[worst.split().index("3.jpg") + 1 :][:3] == ["✗dog0.97", "○bus0.02", "✓cat0.90"]
    assert "Most frequent confusion: dog instead of bus" in page.text["confusion"]
    assert "bus was missed in 3 photos; 2 of them got dog" in page.text["confusion"]


def test_averaged_trainings_are_of_no_epoch(tmp_path, contest):
    averaged = replace(contest.contestants[0], kept_epoch=None)
    page, _ = written(tmp_path, replace(contest, contestants=(averaged, *contest.contestants[1:])))
    assert "baseline 0.556 (best of the averaged trainings)" in " ".join(page.text["learning"].split())


def test_training_and_search(tmp_path, contest):
    page, _ = written(tmp_path, contest)
    told = " ".join(page.text["learning"].split())
    assert "baseline 0.556 (epoch 1 of 3)" in told and "baseline after epoch 2" in told
    # The second trial scored more but was stopped early.
    assert "trial 4 of 4 was best, support-weighted validation mAP 0.520" in told
    assert "2 completed (full), 1 stopped early as hopeless (hollow) and 1 failed (×)" in told
    assert ["dense", "256"] in page.table("learning")
    assert ["3", "–", "fail", "64"] in page.table("learning")


def test_what_mattered_in_a_search(tmp_path, contest):
    told = {"learning_rate": 0.62, "dense": 0.38}
    baseline, tuned, transfer = contest.contestants
    page, _ = written(tmp_path, replace(contest, contestants=(baseline, replace(tuned, importance=told), transfer)))
    words = " ".join(page.text["learning"].split())
    assert "Learning rate mattered most: 62% of the differences between trials" in words
    assert "scores of 2 completed trials" in words and "only a hint" in words
    assert "mattered most" not in written(tmp_path, contest)[0].text["learning"]
    bars = importance_bars(told, "#123456").axes[0]
    assert [bar.get_width() for bar in bars.patches] == [0.62, 0.38]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["learning rate", "dense"]


def test_the_best_so_far_counts_completed_trials_only():
    trials = [{"score": None, "state": "fail"}, *TRIALS, {"score": 0.3, "state": "complete"}]
    line = next(line for line in trial_scores(trials, 4, "#123456").axes[0].lines if len(line.get_xdata()) > 1)
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.41, 0.41, 0.41, 0.52, 0.52])


@pytest.mark.parametrize(
    ("history", "trials"),
    [
        ((), ()),
        (HISTORY[:1], [{"score": None, "state": "fail"}]),
        ([{"loss": 0.5, "validation_loss": float("nan")}], ()),
    ],
)
def test_short_histories(tmp_path, history, trials):
    whole = fabricated(models=("tuned",))
    page, _ = written(
        tmp_path, replace(whole, contestants=(replace(whole.contestants[0], history=history, trials=trials),))
    )
    expected = 0 if not history else 3 if trials else 2
    svgs = sum(tag == "svg" for tag, _ in page.elements)
    assert svgs == 5 + expected
    assert ("none of 1 trial was scored" in page.text["learning"]) == bool(trials)


def test_doubts_come_from_the_facts(tmp_path):
    targets = np.zeros((60, 4), np.int8)
    targets[:7, 0], targets[:30, 1], targets[::2, 2] = 1, 1, 1
    left_out = {f"{i}.jpg": "no such file" for i in range(23)}
    contest = fabricated(targets=targets, models=("baseline", "tuned"), left_out=left_out)
    same = replace(contest.contestants[1], evaluation=contest.contestants[0].evaluation)
    contest = replace(contest, contestants=(contest.contestants[0], same), pairs=pairs((contest.contestants[0], same)))
    page, text = written(tmp_path, contest)
    told = page.text["doubts"]
    for doubt in (
        "The test set is small: 60 photos",
        "Too rare to score, with fewer than 3 test photos: tree (0).",
        "Fewer than 20 test photos show bus (7).",
        "The lead of baseline over tuned in samples-F1 may be chance.",
        "The search for tuned ran only 4 trials",
        "23 photos could not be used",
        "19.jpg (no such file) and 3 more",
        "Photos from elsewhere",
        "read from labels.csv",
    ):
        assert doubt in told and doubt in text, doubt
    assert "20.jpg" not in told and "Unknown" not in told and "share a group" not in told


@pytest.mark.parametrize(("k", "models"), [(2, 1), (40, 5), (80, 2)])
def test_many_labels_and_models(tmp_path, k, models):
    labels = [f"a rather long name of label number {i}" for i in range(k)]
    page, text = written(tmp_path, fabricated(labels, [f"model {i}" for i in range(models)], n=30))
    assert {row[0] for row in page.table("confusion")[1:]} == set(labels)
    assert all(label in text for label in labels)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_calibration_and_thresholds_are_told(tmp_path):
    contest = fabricated(models=("baseline", "transfer"))
    losses = {"none": 0.5, "temperature": 0.4, "platt": 0.35, "isotonic": 0.36}
    changes = {
        "calibration": {"kind": "platt", "log_loss": losses},
        "objective": "precision=0.8",
        "out_of_reach": ["cat"],
    }
    told = (replace(contest.contestants[0], **changes), contest.contestants[1])
    contest = replace(contest, contestants=told)
    page, text = written(tmp_path, contest)
    for words in (
        "baseline: probabilities were calibrated by a slope and a bias for each label (platt), which lowered the log "
        "loss from 0.5000 to 0.3500.",
        "transfer: probabilities are not calibrated",
        "baseline: thresholds were chosen for a precision of at least 0.8 for each label, and as much recall as that "
        "allows, except for cat, where too few validation photos confirm it (objective precision=0.8).",
        "transfer: thresholds were chosen for the F1 of each label (objective f1).",
    ):
        assert words in " ".join(page.text["calibration"].split())
        assert words in text.replace("**", "")
    recorded = results(contest)["models"]["baseline"]
    assert changes == {name: recorded[name] for name in changes}


def test_curves_hold_the_counts_of_each_threshold(tmp_path, contest):
    page, _ = written(tmp_path, contest)
    (curves,) = (json.loads(value) for value in page.values("data-curves"))
    best = contest.ranked[0].evaluation
    assert {curve["label"] for curve in curves["labels"]} == set(LABELS)
    for curve in curves["labels"]:
        j = LABELS.index(curve["label"])
        i = curves["cuts"].index(0.5)
        given = best.probabilities[:, j] >= 0.5
        assert curve["given"][i] == given.sum() and curve["hits"][i] == (given & (best.targets[:, j] == 1)).sum()
        assert sum(count for *_, count in curve["bins"]) == len(best.names)


def test_slices_are_told_worst_first(tmp_path, contest):
    n = len(contest.contestants[0].evaluation.names)
    columns = {"camera": ["A", "B"] * (n // 2)}
    page, text = written(tmp_path, replace(contest, slices=columns))
    shown = page.table("slices")[1:]
    assert {row[0] for row in shown} == {"camera: A", "camera: B"} and all(row[1] == str(n // 2) for row in shown)
    assert float(shown[0][2].split()[0]) <= float(shown[1][2].split()[0])
    assert "| camera: A |" in text and "slices" not in written(tmp_path, contest)[0].text


def test_quantized_models_stand_beside_their_originals(tmp_path):
    contest = fabricated(models=("baseline", "transfer", "transfer (int8)"))
    quantized = replace(contest.contestants[2], quantized_from="transfer", history=(), kept_epoch=None)
    models = (*contest.contestants[:2], quantized)
    page, text = written(tmp_path, replace(contest, contestants=models, pairs=pairs(models)))
    assert "transfer (int8) against transfer" in text and "transfer (int8) against baseline" not in text
    assert "Transfer leads in samples-F1" in page.text["differences"]
    alone = replace(contest, contestants=models[1:], pairs=pairs(models[1:]))
    assert "Samples-F1 of the quantized model and its original" in written(tmp_path, alone)[0].text["differences"]
