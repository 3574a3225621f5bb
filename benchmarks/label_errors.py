"""How well wrong and missing labels are found: random flips, several methods, the same photos.

    python benchmarks/label_errors.py DATA [--images N] [--seeds 3] [--noise 0.05] [--json F]

Flips entries of the table at random. Each method ranks all entries by how doubtful they are; the score is the average
precision of that ranking. "logistic regression" ranks by |label − probability| in 5 folds on frozen embeddings;
"cleanlab" gives those probabilities to cleanlab (self-confidence per class); "polytag" is `polytag audit --label-
errors`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from cleanlab.internal.multilabel_utils import stack_complement
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.preprocessing import normalize

import polytag as pt
from polytag.auditing.label_errors import error_probabilities
from polytag.models.backbones.embed import embeddings_of
from polytag.models.classical.probe import out_of_sample


def by_regression(
    features: NDArray[np.float32], targets: NDArray[np.int8], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Out-of-sample probabilities (n, k) of plain logistic regression, groups kept together."""
    # The best of C = 1, 3, 10 and 30 on unit vectors. Raw or standardised embeddings are worse and much slower.
    model = LogisticRegression(C=3, max_iter=1000)
    features = normalize(features)
    folds = list(GroupKFold(5, shuffle=True, random_state=0).split(features, groups=groups))
    columns = [cross_val_predict(model, features, y, cv=folds, method="predict_proba")[:, 1] for y in targets.T]
    return np.stack(columns, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--images", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    if arguments.images:
        data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[: arguments.images]))
    data = data.take((data.targets >= 0).all(axis=1))  # what is unknown can be neither right nor wrong
    groups = pt.keep_together(data).groups
    plain, mirrored = (embeddings_of(data.paths, view=view) for view in ("plain", "flipped"))
    if plain is None or mirrored is None:
        raise SystemExit("this benchmark needs pretrained weights")
    both = (plain[:] + mirrored[:]) / 2

    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(arguments.seeds):
        flipped = np.random.default_rng(seed).random(data.targets.shape) < arguments.noise
        targets = np.where(flipped, 1 - data.targets, data.targets).astype(np.int8)

        def judge(name: str, doubts: NDArray, start: float, flipped: NDArray[np.bool_] = flipped) -> None:
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            scores.setdefault(name, []).append(float(average_precision_score(flipped.ravel(), doubts.ravel())))

        start = time.perf_counter()
        probabilities = by_regression(plain, targets, groups)
        judge("logistic regression", np.abs(targets - probabilities), start)
        quality = [
            get_label_quality_scores(targets[:, j], stack_complement(probabilities[:, j]))
            for j in range(targets.shape[1])
        ]
        judge("cleanlab", -np.stack(quality, axis=1), start)
        for views, features in (("polytag, one view", plain), ("polytag", both)):
            start = time.perf_counter()
            judge(views, error_probabilities(out_of_sample(features, targets, groups, seed), targets), start)
    rows = {
        name: {
            "average precision": round(float(np.mean(values)), 4),
            "each": [round(value, 4) for value in values],
            "seconds": round(float(np.mean(seconds[name])), 1),
        }
        for name, values in scores.items()
    }
    print(json.dumps(rows, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
