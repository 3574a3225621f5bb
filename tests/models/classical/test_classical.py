"""Classical methods: the network gives what the library gives, on Keras, after saving and on ONNX."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import StandardScaler
from skmultilearn.adapt import MLkNN
from skmultilearn.cluster import FixedLabelSpaceClusterer
from skmultilearn.ensemble import LabelSpacePartitioningClassifier
from skmultilearn.problem_transform import BinaryRelevance, LabelPowerset

import polytag as pt
from polytag.errors import DataError, SettingsError
from polytag.models.backend import keras
from polytag.models.classical import methods as classical
from polytag.models.classical.methods import fit_head, posteriors, pruned
from polytag.models.fit import count
from polytag.models.recipe import CLASSICAL, MODEL_NAMES, Recipe
from polytag.models.runtimes.onnx import OnnxModel, export_onnx
from polytag.photos.decode import decode

D, K = 12, 4
STRENGTHS = classical.STRENGTHS


@pytest.fixture(autouse=True)
def strengths_for_small_data(monkeypatch) -> None:
    monkeypatch.setattr(classical, "STRENGTHS", (0.3, 1.0))


def data(n: int = 160, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Embeddings, none negative, in which each label has a direction; the second label goes with the first."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, K)) < 0.4).astype(np.int8)
    targets[:, 1] |= targets[:, 0]
    directions = np.random.default_rng(99).random((K, D))
    return np.maximum(0.5 + targets @ directions + 0.7 * rng.normal(size=(n, D)), 0).astype(np.float32), targets


X, Y = data()
V, VY = data(60, seed=1)
NEW, NEW_Y = data(50, seed=2)


def regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, tol=classical.TOLERANCE, max_iter=1000)


def library(name: str, chosen: dict) -> NDArray[np.float64]:
    """What the library gives for `NEW`, fitted with the settings that were chosen."""
    scaler = StandardScaler().fit(X.astype(np.float64))
    x, new = scaler.transform(X).astype(np.float32), scaler.transform(NEW).astype(np.float32)
    if name == "binary_relevance":
        return BinaryRelevance(regression(chosen["C"])).fit(x, Y).predict_proba(new).toarray()
    if name == "chains":
        orders = [np.random.default_rng([0, i]).permutation(K).tolist() for i in range(chosen["chains"])]
        chains = [ClassifierChain(regression(chosen["C"]), order=o, chain_method="predict_proba") for o in orders]
        return np.mean([chain.fit(x, Y).predict_proba(new) for chain in chains], axis=0)
    if name == "powerset":
        return LabelPowerset(regression(chosen["C"])).fit(x, pruned(Y)).predict_proba(new).toarray()
    if name == "rakel":
        results = []
        for i in range(classical.PARTITIONS):
            sets = np.array_split(np.random.default_rng([0, i]).permutation(K), 2)
            divided = LabelSpacePartitioningClassifier(
                LabelPowerset(regression(chosen["C"])),
                FixedLabelSpaceClusterer([list(labels) for labels in sets]),
                require_dense=[False, False],
            )
            results.append(divided.fit(x, Y).predict_proba(new).toarray())
        return np.mean(results, axis=0)
    unit, unit_new = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (X, NEW))
    knn = MLkNN(k=chosen["neighbours"], s=chosen["smoothing"], ignore_first_neighbours=1).fit(unit, Y)
    knn.ignore_first_neighbours = 0  # a training photo is not its own neighbour; new photos have no such neighbour
    return knn.predict_proba(unit_new).toarray()


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_network_gives_what_the_library_gives(name: str, tmp_path) -> None:
    network, chosen, notes = fit_head(name, X, Y, V, VY)
    expected = library(name, chosen)
    assert notes == [] and expected.std(axis=0).min() > 0.01
    export_onnx(network, tmp_path / "head.onnx")
    network.save(tmp_path / "head.keras")
    loaded = keras.saving.load_model(tmp_path / "head.keras", compile=False)
    twin = OnnxModel(tmp_path / "head.onnx")
    for n in (1, len(NEW)):
        p = network.predict(NEW[:n], verbose=0)
        assert p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
        np.testing.assert_allclose(p, expected[:n], atol=1e-5)
        np.testing.assert_allclose(loaded.predict(NEW[:n], verbose=0), expected[:n], atol=1e-5)
        np.testing.assert_allclose(twin(NEW[:n]), expected[:n], atol=1e-5)


@pytest.mark.parametrize("name", CLASSICAL)
def test_it_learns_and_the_same_seed_gives_the_same_network(name: str) -> None:
    network, chosen, _ = fit_head(name, X, Y, V, VY, seed=3)
    p = network.predict(NEW, verbose=0)
    assert np.mean([p[NEW_Y[:, j] == 1, j].mean() - p[NEW_Y[:, j] == 0, j].mean() for j in range(K)]) > 0.15
    again, chosen_again, _ = fit_head(name, X, Y, V, VY, seed=3)
    assert chosen == chosen_again
    np.testing.assert_array_equal(again.predict(NEW, verbose=0), p)
    if name in ("chains", "rakel"):
        assert (fit_head(name, X, Y, V, VY, seed=4)[0].predict(NEW, verbose=0) != p).any()


@pytest.mark.parametrize("name", CLASSICAL)
def test_unknown_labels(name: str) -> None:
    targets = Y.copy()
    targets[:40, 2] = -1
    network, _, notes = fit_head(name, X, targets, V, VY)
    p = network.predict(NEW, verbose=0)
    full = fit_head(name, X[40:], Y[40:], V, VY)[0].predict(NEW, verbose=0)
    if name == "binary_relevance":
        assert notes == [] and np.abs(p[:, 0] - full[:, 0]).max() > 1e-3  # the photos still teach the other labels
    else:
        assert notes == ["40 training photos left out because of unknown labels"]
        np.testing.assert_array_equal(p, full)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_label_of_a_single_kind_is_constant(name: str, tmp_path) -> None:
    # Only photos with an unknown label have the third label, and all others have the fourth.
    targets = np.column_stack([Y[:, :2], np.zeros(len(Y)), np.ones(len(Y))]).astype(np.int8)
    network, _, notes = fit_head(name, X, targets, V, VY)
    assert notes == ["2 labels with a constant probability (always or never present)"]
    p = network.predict(NEW, verbose=0)
    np.testing.assert_allclose(p[:, 2:], np.tile([1 / 162, 161 / 162], (len(NEW), 1)), atol=1e-6)
    assert (p[:, :2].std(axis=0) > 0.05).all()
    export_onnx(network, tmp_path / "head.onnx")
    np.testing.assert_allclose(OnnxModel(tmp_path / "head.onnx")(NEW), p, atol=1e-5)

    alone, _, _ = fit_head(name, X, Y[:, :1], V, VY[:, :1])
    assert alone.predict(NEW, verbose=0).shape == (len(NEW), 1)


@pytest.mark.parametrize("name", CLASSICAL)
def test_photos_that_teach_nothing_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="it needs photos with and without a label"):
        fit_head(name, X, np.ones_like(Y), V, VY)
    holes = Y.copy()
    holes[np.arange(len(Y)), np.arange(len(Y)) % K] = -1
    if name == "binary_relevance":
        assert fit_head(name, X, holes, V, VY)[0].output_shape == (None, K)
    else:
        with pytest.raises(DataError, match="cannot be trained on 0 photos"):
            fit_head(name, X, holes, V, VY)


def test_rare_combinations_become_the_nearest_common_one() -> None:
    common = [[1, 0, 0, 0]] * 9 + [[0, 1, 0, 0]] * 8 + [[0, 0, 1, 0]] * 7 + [[1, 1, 0, 0]] * 6
    rare = [[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]]
    found = pruned(np.array(common + rare, np.int8))
    np.testing.assert_array_equal(found[:30], common)
    # Of the rare ones the commonest that holds the last label stays, or the label would be lost.
    np.testing.assert_array_equal(found[30:], [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0]])


def test_every_label_survives_pruning() -> None:
    targets = (np.random.default_rng(5).random((40, 20)) < 0.5).astype(np.int8)
    assert len(np.unique(targets, axis=0)) == 40  # no combination occurs twice
    found = pruned(targets)
    assert (found.min(axis=0) == 0).all() and (found.max(axis=0) == 1).all()
    # No photo could have been given a combination that is nearer to its own.
    distances = cdist(targets, np.unique(found, axis=0), "cityblock")
    np.testing.assert_array_equal((targets != found).sum(axis=1), distances.min(axis=1))


def test_posteriors_by_hand() -> None:
    targets = np.array([[1], [1], [0], [0]], np.int8)
    neighbours = np.array([[1], [0], [0], [3]])
    # Of two photos with the label both see one, of two without it one does.
    present, absent = np.array([1 / 4, 3 / 4]), np.array([2 / 4, 2 / 4])
    np.testing.assert_allclose(posteriors(neighbours, targets, 1.0)[0], present / (present + absent), rtol=1e-6)


def test_the_better_setting_on_validation_photos_is_chosen(monkeypatch) -> None:
    monkeypatch.setattr(classical, "STRENGTHS", STRENGTHS)
    tried: list[float] = []
    original = classical.selection_score

    def watched(targets, probabilities):
        tried.append(original(targets, probabilities))
        return tried[-1]

    monkeypatch.setattr(classical, "selection_score", watched)
    steps: list[int] = []
    _, chosen, _ = fit_head("rakel", X, Y, V, VY, on_progress=steps.append)
    # In order, until two in a row are no better; the first of the best is kept.
    best = [max(tried[: i + 1]) for i in range(len(tried))]
    assert all(best[i] > best[i - classical.PATIENCE] for i in range(classical.PATIENCE, len(best) - 1))
    assert chosen["C"] == classical.STRENGTHS[int(np.argmax(tried))]
    assert sum(steps) == classical.STEPS["rakel"] and chosen["labelsets"] == 2 * classical.PARTITIONS


def test_trainable_numbers_are_those_that_were_fitted() -> None:
    sizes = {name: count(fit_head(name, X, Y, V, VY)[0].trainable_weights) for name in CLASSICAL}
    assert sizes["binary_relevance"] == K * (D + 1)
    assert sizes["chains"] == classical.CHAINS * (K * (D + 1) + K * K)
    _, chosen, _ = fit_head("mlknn", X, Y, V, VY)
    assert sizes["mlknn"] == K * (chosen["neighbours"] + 1)
    combinations = len(np.unique(pruned(Y), axis=0))
    assert sizes["powerset"] == combinations * (D + 1)


def test_recipes() -> None:
    assert set(classical.STEPS) == set(CLASSICAL) and not set(CLASSICAL) & set(MODEL_NAMES)
    with pytest.raises(SettingsError, match="epochs has no effect on chains"):
        Recipe.of("chains", epochs=3)
    assert set(Recipe.of("chains", seed=2).to_json()) == {
        "model", "image_size", "backbone", "seed", "hyperparameters",
    }  # fmt: skip


def test_a_comparison_with_classical_methods(squares, tmp_path) -> None:
    train, _, test = squares
    settings = {"image_size": 32, "epochs": 1, "fine_tune": 0, "show_progress": False}
    names = ["transfer", "chains", "mlknn"]
    done = pt.compare(train, tmp_path / "run", names, **settings)
    assert [c.name for c in done.contest.contestants] == names and len(done.contest.pairs) == 3
    assert [len(c.history) for c in done.contest.contestants] == [1, 0, 0]
    bundle = done.bundle("chains")
    assert bundle.manifest["recipe"]["hyperparameters"]["chains"] == classical.CHAINS
    expected = bundle.keras_model().predict(np.stack([decode(path, 32) for path in test.paths]), verbose=0)
    # Large weights of regressions on few photos multiply the rounding of the backbone.
    np.testing.assert_allclose(bundle.predict(test.paths)[0], expected, atol=2e-4)
    for text in (done.report.read_text(), (tmp_path / "run" / "report.md").read_text()):
        assert "chains" in text and "mlknn" in text

    before = json.loads((tmp_path / "run" / "results.json").read_text())["models"]["mlknn"]["samples_f1"]
    lines: list[str] = []
    pt.compare(train, tmp_path / "run", names, resume=True, say=lines.append, **settings)
    assert "mlknn: already trained" in lines
    assert json.loads((tmp_path / "run" / "results.json").read_text())["models"]["mlknn"]["samples_f1"] == before
    alone = pt.compare(train, tmp_path / "alone", ["powerset"], image_size=32, show_progress=False)
    assert alone.report.is_file()
