"""Judging a tagger: what it has seen is left out, labels are matched by name, differences are paired."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.comparison.contest import Contest, Contestant, pairs, results, rows, table
from polytag.comparison.repeats import Repeats
from polytag.data.dataset import Dataset
from polytag.data.sample.scenes import LABELS, draw_scene
from polytag.errors import DataError
from polytag.evaluation.evaluate import Evaluation, compared, differences, evaluate, evaluate_all, judge
from polytag.progress import duration


def dataset(n: int, labels: tuple[str, ...] = ("dog", "cat"), seed: int = 0) -> Dataset:
    targets = (np.random.default_rng(seed).random((n, len(labels))) < 0.5).astype(np.int8)
    return Dataset(np.array([f"/x/{i}.jpg" for i in range(n)]), targets, labels, np.arange(n), Path("/x"))


class Oracle:
    """Knows the truth, but for the photos whose number it has not read."""

    def __init__(self, data: Dataset, seen: int = 0, unreadable: tuple[int, ...] = ()):
        self.labels, self.thresholds = data.labels, np.full(len(data.labels), 0.5, np.float32)
        self._truth = dict(zip(data.paths, np.where(data.targets == 1, 0.9, 0.1), strict=True))
        self._n_seen, self._unreadable = seen, {data.paths[i] for i in unreadable}

    def predict(self, paths):
        p = np.array([[np.nan] * len(self.labels) if x in self._unreadable else self._truth[x] for x in paths])
        return p.astype(np.float32), {x: "damaged" for x in paths if x in self._unreadable}

    def seen(self, data: Dataset):
        return np.arange(len(data)) < self._n_seen


def test_a_perfect_tagger_has_perfect_scores() -> None:
    data = dataset(40)
    evaluation = evaluate(Oracle(data), data)
    assert evaluation.scores["samples_f1"] == evaluation.scores["mean_average_precision"] == 1
    low, high = evaluation.intervals["samples_f1"]
    assert 0.9 < low < high == 1
    assert all(np.isnan(evaluation.intervals["calibration_error"]))
    assert evaluation.per_label["dog"]["support"] == int((data.targets[:, 0] == 1).sum())
    assert "Samples-F1" in str(evaluation) and "dog" in str(evaluation)


def test_photos_seen_in_training_are_left_out_and_said() -> None:
    data = dataset(40)
    evaluation = evaluate(Oracle(data, seen=25), data)
    assert evaluation.names == data.names[25:]
    assert "25 images left out because the model has seen them" in evaluation.notes[0]
    with pytest.raises(DataError, match="has seen all of these images in training or for thresholds"):
        evaluate(Oracle(data, seen=40), data)


def test_unreadable_photos_are_named_and_the_rest_goes_on() -> None:
    data = dataset(40)
    evaluation = evaluate(Oracle(data, unreadable=(3, 7)), data)
    assert len(evaluation.names) == 38
    assert "2 images left out because unreadable: 3.jpg (damaged), 7.jpg (damaged)" in evaluation.notes[0]


def test_labels_are_matched_by_name() -> None:
    data = dataset(40, ("dog", "cat", "bird"))
    swapped = replace(data, labels=("cat", "dog", "fish"), targets=data.targets[:, [1, 0, 2]].copy())
    evaluation = evaluate(Oracle(data), swapped)
    assert evaluation.labels == ("dog", "cat", "bird")
    assert evaluation.scores["samples_f1"] == 1
    assert evaluation.per_label["bird"]["support"] == 0
    assert any("not judged: bird" in note for note in evaluation.notes)
    assert any("ignored: fish" in note for note in evaluation.notes)
    with pytest.raises(DataError, match="none of the model's labels"):
        evaluate(Oracle(data), replace(data, labels=("a", "b", "c")))


def noisy(data: Dataset, noise: float, seed: int = 0) -> Evaluation:
    rng = np.random.default_rng(seed)
    p = np.clip(np.where(data.targets == 1, 0.7, 0.3) + rng.normal(0, noise, data.targets.shape), 0.01, 0.99)
    return judge(data.labels, np.full(2, 0.5, np.float32), data, data.targets, p.astype(np.float32), 10.0, [])


def test_a_clearly_better_model_is_better_beyond_chance() -> None:
    data = dataset(300)
    good, bad = noisy(data, 0.1), noisy(data, 0.6)
    for d in differences(good, bad):
        assert d.low > 0 and d.beyond_chance and d.low <= d.difference <= d.high
    for d, back in zip(differences(good, bad), differences(bad, good), strict=True):
        assert d.difference == pytest.approx(-back.difference) and d.low == pytest.approx(-back.high)


def test_a_model_against_itself_is_chance() -> None:
    data = dataset(100)
    same = noisy(data, 0.3)
    for d in differences(same, same):
        assert (d.difference, d.low, d.high) == (0, 0, 0) and not d.beyond_chance


def test_pairing_is_tighter_than_two_separate_intervals() -> None:
    data = dataset(300)
    a = noisy(data, 0.4, seed=1)
    b = replace(a, probabilities=np.clip(a.probabilities + 0.02, 0, 1))
    b = judge(data.labels, a.thresholds, data, data.targets, b.probabilities, 1.0, [])
    (d,) = [d for d in differences(a, b) if d.metric == "samples_f1"]
    low, high = a.intervals["samples_f1"]
    assert d.high - d.low < 0.5 * (high - low)


def test_only_the_same_photos_can_be_compared() -> None:
    with pytest.raises(DataError, match="same images"):
        differences(noisy(dataset(20), 0.1), noisy(dataset(21), 0.1))
    data = dataset(20)
    with pytest.raises(DataError, match="same groups"):
        differences(noisy(data, 0.1), noisy(replace(data, groups=data.groups // 2), 0.1))


def test_rare_labels_are_reported_apart() -> None:
    data = dataset(60, ("dog", "cat", "bird"))
    targets = data.targets.copy()
    targets[:, 2] = 0
    targets[:2, 2] = 1
    data = replace(data, targets=targets)
    p = np.where(data.targets == 1, 0.9, 0.1).astype(np.float32)
    p[:, 2] = 0.5  # would pull both means down
    evaluation = judge(data.labels, np.full(3, 0.6, np.float32), data, data.targets, p, 1.0, [])
    assert evaluation.too_rare == ("bird",) and evaluation.per_label["bird"]["support"] == 2
    assert evaluation.scores["mean_average_precision"] == evaluation.scores["macro_f1"] == 1
    assert "bird" not in evaluation.strongest() + evaluation.weakest()
    assert evaluation.recorded()["too_rare"] == ["bird"]
    assert evaluation.rarity.endswith("with fewer than 3 photos, so left out of mAP and macro-F1: bird (2)")
    assert evaluation.rarity in str(evaluation)
    all_judged = judge(data.labels, np.full(3, 0.6, np.float32), data, data.targets, p, 1.0, [], min_photos=1)
    assert all_judged.too_rare == () and all_judged.rarity == "" and all_judged.scores["macro_f1"] < 1


def test_photos_that_do_not_affect_a_score_are_no_evidence() -> None:
    n, label = 250, np.arange(250) < 5
    targets = np.stack([label, np.full(n, -1)], axis=1).astype(np.int8)
    p = np.stack([np.linspace(1, 0, n), np.full(n, 0.9)], axis=1).astype(np.float32)
    paths = np.array([f"/x/{i}.jpg" for i in range(n)])
    data = Dataset(paths, targets, ("a", "b"), np.arange(n), Path("/x"))
    found = judge(data.labels, np.array([0.97, 0.5], np.float32), data, targets, p, 1.0, [], 3)
    assert found.scores["mean_average_precision"] == 1 and found.intervals["mean_average_precision"][0] < 0.75
    targets = np.where(np.arange(n)[:, None] < 8, targets, -1).astype(np.int8)
    data = replace(data, targets=targets)
    known = judge(data.labels, np.array([0.97, 0.5], np.float32), data, targets, p, 1.0, [], 3)
    name = "label_ranking_average_precision"
    assert known.scores[name] == 1 and known.intervals[name][0] < 0.75


def test_intervals_of_labels_contain_their_scores() -> None:
    evaluation = noisy(dataset(80), 0.5)
    for label, row in evaluation.label_intervals.items():
        for name, (low, high) in row.items():
            assert 0 <= low < evaluation.per_label[label][name] < high <= 1


def test_intervals_of_many_comparisons_are_wider() -> None:
    data = dataset(200)
    a, b, *others = (noisy(data, 0.5, seed) for seed in range(5))
    (alone,) = compared([(a, b)])
    together = compared([(a, b), *((a, other) for other in others)])[0]
    for one, many in zip(alone, together, strict=True):
        assert one.difference == many.difference
        assert many.low < one.low and many.high > one.high


def contest(*names: str) -> Contest:
    data = dataset(60)
    contestants = tuple(
        Contestant(name, noisy(data, 0.6 / (i + 1)), 0.5, 10 * (i + 1), 100, 61.0 * (i + 1), 0.5)
        for i, name in enumerate(names)
    )
    parts = {"train": 1, "validation": 2, "test": 60}
    return Contest("set", 63, data.labels, "f" * 16, parts, (), {}, contestants, pairs(contestants), "0", 0)


def test_results_have_the_documented_shape() -> None:
    content = results(contest("baseline", "tuned", "transfer"))
    assert [(c["a"], c["b"]) for c in content["comparisons"][::4]] == [
        ("tuned", "baseline"),
        ("transfer", "baseline"),
        ("transfer", "tuned"),
    ]
    model = content["models"]["tuned"]
    for name in ("samples_f1", "subset_accuracy", "label_accuracy", "mean_average_precision"):
        assert model[name]["low"] <= model[name]["value"] <= model[name]["high"]
    for name in ("micro_f1", "macro_f1", "hamming_loss", "label_ranking_average_precision", "coverage_error"):
        assert isinstance(model[name], float)
    assert set(model["per_label"]["dog"]) >= {"precision", "recall", "f1", "average_precision", "support", "threshold"}
    assert {*model["strongest_labels"], *model["weakest_labels"]} == {"dog", "cat"}
    assert len(model["strongest_labels"]) == len(model["weakest_labels"]) == 1


def test_the_table_has_the_seven_rows_and_a_column_for_each_model() -> None:
    rows = table(contest("baseline", "transfer"))
    assert rows[0] == ("", "baseline", "transfer")
    titles = [row[0] for row in rows]
    for title in (
        "Samples-F1",
        "Subset accuracy",
        "Average per-label accuracy",
        "Validation accuracy (argmax)",
        "Strongest labels",
        "Weakest labels",
        "Trainable parameters",
    ):
        assert title in titles
    assert all(len(row) == 3 for row in rows)


def test_rows_carry_their_numbers() -> None:
    made = contest("baseline", "transfer")
    for row in rows(made):
        if row.metric:
            for cell, c in zip(row.cells, made.contestants, strict=True):
                assert cell.value == c.evaluation.scores[row.metric] and cell.text == f"{cell.value:.3f}"
            values = [cell.value for cell in row.cells]
            assert row.best[values.index((min if row.lower else max)(values))]


def test_the_answer_names_the_winner_and_what_it_rests_on() -> None:
    answer = contest("baseline", "transfer").answer()
    assert answer.startswith("Transfer tags these photos best in this one training on this one split: samples-F1 ")
    assert "lead over baseline" in answer and "more than chance in the choice of test photos" in answer
    assert "lead" not in contest("transfer").answer()


def test_the_answer_with_repeats() -> None:
    made = contest("baseline", "transfer")
    rng = np.random.default_rng(0)
    scores = {
        c.name: [{name: value + rng.normal(0, 0.001) for name, value in c.evaluation.scores.items()} for _ in range(5)]
        for c in made.contestants
    }
    repeats = Repeats((0, 1, 2, 3, 4), 200, 60, scores)
    repeated = replace(made, repeats=repeats, pairs=pairs(made.contestants, repeats))
    assert "over 5 splits and trainings" in repeated.answer() and " ± 0.001" in repeated.answer()
    assert "more than chance in splits and trainings" in repeated.answer()
    cell = rows(repeated)[0].cells[1]
    assert cell.interval.startswith("± ") and cell.value == repeats.mean("transfer", "samples_f1")
    assert results(repeated)["repeats"]["seeds"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("seconds", "words"), [(48.4, "48 s"), (425, "7 min 05 s"), (4320, "1 h 12 min"), (59.7, "1 min 00 s")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def written(folder: Path, n: int) -> Dataset:
    """Scenes of 96 px and a smaller, re-encoded copy of each of the first three."""
    folder.mkdir()
    for i in range(n):
        draw_scene([LABELS[i % 5]], 96, 70 + i).save(folder / f"{i:02}.png")
    for i in range(3):
        Image.open(folder / f"{i:02}.png").resize((70, 70)).save(folder / f"copy{i}.jpg", quality=70)
    paths = np.array(sorted(map(str, folder.iterdir())))
    targets = (np.random.default_rng(0).random((len(paths), 2)) < 0.5).astype(np.int8)
    return Dataset(paths, targets, ("dog", "cat"), np.arange(len(paths)), folder)


def test_copies_count_as_one_photo(tmp_path: Path) -> None:
    data = written(tmp_path / "photos", 12)
    evaluation = evaluate(Oracle(data), data)
    assert len(evaluation.names) == 15 and len(np.unique(evaluation.groups)) == 12
    assert any(note.startswith("3 images with the same picture as another") for note in evaluation.notes)


def test_photos_grouped_with_seen_ones_are_left_out(tmp_path: Path) -> None:
    data = written(tmp_path / "photos", 12)
    first = data.take([i for i, name in enumerate(data.names) if not name.startswith("copy")])
    again = data.take([data.names.index(name) for name in [*first.names, "copy0.jpg", "copy1.jpg", "copy2.jpg"]])
    evaluation = evaluate(Oracle(again, seen=2), again)
    assert "2 images left out because the model has seen them" in evaluation.notes[0]
    assert "2 images left out because an image of the same group was seen in training" in evaluation.notes[1]
    assert not {"00.png", "01.png", "copy0.jpg", "copy1.jpg"} & set(evaluation.names) and len(evaluation.names) == 11


def test_several_bundles_are_judged_on_the_same_photos() -> None:
    data = dataset(40)
    a, b = Oracle(data, seen=5, unreadable=(10,)), Oracle(data, seen=8, unreadable=(11,))
    b.labels, b.thresholds = data.labels[::-1], np.array([0.2, 0.6], np.float32)
    b._truth = {path: p[::-1] for path, p in b._truth.items()}
    first, second = evaluate_all([a, b], data)
    assert first.names == second.names == [name for i, name in enumerate(data.names) if i >= 8 and i not in (10, 11)]
    assert first.labels == second.labels == data.labels
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert second.thresholds.tolist() == pytest.approx([0.6, 0.2])
    assert {d.difference for d in differences(first, second)} == {0}
    with pytest.raises(DataError, match="different labels"):
        evaluate_all([a, Oracle(dataset(40, ("dog", "bird")))], data)
