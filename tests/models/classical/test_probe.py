"""The probe behind --label-errors: it finds planted errors, and no photo has a say about itself."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from polytag.auditing.label_errors import error_probabilities
from polytag.errors import DataError
from polytag.models.classical.probe import FOLDS, out_of_sample


def clusters(n: int = 400, k: int = 3, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Embeddings in which each label has a direction of its own."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, k)) < 0.35).astype(np.int8)
    directions = rng.normal(size=(k, 32))
    return (targets @ directions + 1.2 * rng.normal(size=(n, 32))).astype(np.float32), targets


def test_planted_errors_are_ranked_first() -> None:
    embeddings, truth = clusters()
    flipped = np.random.default_rng(1).random(truth.shape) < 0.05
    targets = np.where(flipped, 1 - truth, truth).astype(np.int8)
    probabilities = out_of_sample(embeddings, targets, np.arange(len(targets)))
    assert probabilities.dtype == np.float32 and probabilities.shape == targets.shape
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    found = average_precision_score(flipped.ravel(), error_probabilities(probabilities, targets).ravel())
    assert found > 0.9


def test_labels_without_meaning_cannot_be_predicted() -> None:
    embeddings, targets = clusters()
    shuffled = np.random.default_rng(2).permutation(targets)
    probabilities = out_of_sample(embeddings, shuffled, np.arange(len(targets)))
    for j in range(targets.shape[1]):
        assert 0.35 < roc_auc_score(shuffled[:, j], probabilities[:, j]) < 0.65


def test_a_photo_and_its_copies_have_no_say_about_themselves() -> None:
    embeddings, targets = clusters(200)
    groups = np.arange(len(targets))
    embeddings[17], groups[17] = embeddings[3], groups[3]
    before = out_of_sample(embeddings, targets, groups)
    changed = targets.copy()
    changed[[3, 17]] = 1 - changed[[3, 17]]
    after = out_of_sample(embeddings, changed, groups)
    assert np.array_equal(before[[3, 17]], after[[3, 17]])
    assert not np.array_equal(before, after)  # the others do learn from them


def test_the_same_seed_gives_the_same_probabilities() -> None:
    embeddings, targets = clusters(120)
    first, again = (out_of_sample(embeddings, targets, np.arange(120), seed=4) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, out_of_sample(embeddings, targets, np.arange(120), seed=5))


def test_unknown_entries_teach_nothing_but_are_judged() -> None:
    embeddings, truth = clusters()
    targets = truth.copy()
    unknown = np.random.default_rng(3).random(truth.shape) < 0.3
    targets[unknown] = -1
    probabilities = out_of_sample(embeddings, targets, np.arange(len(targets)))
    assert roc_auc_score(truth[unknown], probabilities[unknown]) > 0.9


def test_photos_without_embedding_and_labels_without_examples() -> None:
    embeddings, targets = clusters(60)
    embeddings[5] = np.nan
    targets = np.column_stack([targets, np.zeros(60), np.ones(60), np.full(60, -1)]).astype(np.int8)
    progress: list[int] = []
    probabilities = out_of_sample(embeddings, targets, np.arange(60), on_progress=progress.append)
    assert sum(progress) == 60
    assert np.isfinite(probabilities).all() and (probabilities[5] == 0.5).all()
    rest = np.delete(probabilities, 5, axis=0)
    assert (rest[:, 3] < 0.1).all() and (rest[:, 4] > 0.9).all() and np.allclose(rest[:, 5], 0.5)


@pytest.mark.parametrize("n", [0, 1, 2, FOLDS])
def test_tiny_sets(n: int) -> None:
    embeddings, targets = clusters(20)
    probabilities = out_of_sample(embeddings[:n], targets[:n], np.arange(n))
    assert probabilities.shape == (n, 3) and np.isfinite(probabilities).all()


def test_arrays_that_do_not_fit_are_refused() -> None:
    embeddings, targets = clusters(20)
    with pytest.raises(DataError, match="expected embeddings"):
        out_of_sample(embeddings[:19], targets, np.arange(20))
