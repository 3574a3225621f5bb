"""What scikit-learn and scikit-multilearn have fitted, as Keras networks of plain layers.

Each takes embeddings float32 (batch, d) and gives the library's probabilities float32 (batch, k): the
standardisation of the embeddings is folded into the first layer, and layers that hold no fitted numbers are
not trainable.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import StandardScaler
from skmultilearn.problem_transform import LabelPowerset

from polytag.models.backend import keras

layers, ops = keras.layers, keras.ops

Labelsets = list[tuple[NDArray[np.int64], LabelPowerset]]
"""Labels, each in one of the sets, and the powerset that was fitted for each set."""

NEVER = -1e9
"""A logit that softmax makes exactly 0."""


def relevance_network(members: Sequence[list[LogisticRegression]], scaler: StandardScaler) -> keras.Model:
    """Binary relevance: a sigmoid for each label.

    Args:
        members: one list of k regressions.
        scaler: of their d inputs.
    """
    (regressions,) = members
    inputs = layers.Input((len(scaler.mean_),), name="features")
    coefficients = np.concatenate([r.coef_ for r in regressions])
    intercepts = np.concatenate([r.intercept_ for r in regressions])
    return _model(inputs, ops.sigmoid(_affine(inputs, coefficients, intercepts, scaler)))


def chains_network(members: Sequence[ClassifierChain], scaler: StandardScaler) -> keras.Model:
    """The mean of classifier chains that pass on probabilities.

    All chains are computed at once. A label's probability is right as soon as those before it are, so one
    round more than there are labels before the last makes all of them right.

    Args:
        members: chains of regressions over the same k labels.
        scaler: of their first d inputs; the others are the labels before in the chain.
    """
    m, k, d = len(members), len(members[0].estimators_), len(scaler.mean_)
    coefficients, intercepts, links = np.zeros((m, k, d)), np.zeros((m, k)), np.zeros((m, k, k))
    for c, member in enumerate(members):
        order = list(member.order_)
        for place, (label, regression) in enumerate(zip(order, member.estimators_, strict=True)):
            coefficients[c, label] = regression.coef_[0, :d]
            intercepts[c, label] = regression.intercept_[0]
            links[c, order[:place], label] = regression.coef_[0, d:]
    inputs = layers.Input((d,), name="features")
    logits = _affine(inputs, coefficients.reshape(m * k, d), intercepts.reshape(m * k), scaler)
    logits = layers.Reshape((m, k))(logits)
    linked = layers.EinsumDense("bmi,mij->bmj", output_shape=(m, k), name="links")
    probabilities = ops.sigmoid(logits)
    for _ in range(k - 1):
        probabilities = ops.sigmoid(logits + linked(probabilities))
    if k > 1:
        linked.set_weights([links])
    return _model(inputs, layers.GlobalAveragePooling1D()(probabilities))


def labelsets_network(members: Sequence[Labelsets], scaler: StandardScaler) -> keras.Model:
    """Label powerset and RAkEL: softmax over a set's combinations, then the sum over those that hold a label.

    Args:
        members: each divides the k labels into sets; their probabilities are averaged.
        scaler: of the powersets' d inputs.
    """
    sets = [labelset for member in members for labelset in member]
    k, d = sum(len(labels) for labels, _ in members[0]), len(scaler.mean_)
    width = max(len(powerset.reverse_combinations_) for _, powerset in sets)
    coefficients, intercepts = np.zeros((len(sets), width, d)), np.full((len(sets), width), NEVER)
    holds = np.zeros((len(sets), width, k))
    for s, (labels, powerset) in enumerate(sets):
        regression, n = powerset.classifier, len(powerset.reverse_combinations_)
        # Of two classes a regression keeps the second only; the first has a logit of 0.
        start = 1 if n == 2 else 0
        intercepts[s, 0] = 0
        coefficients[s, start:n], intercepts[s, start:n] = regression.coef_, regression.intercept_
        for c, present in enumerate(powerset.reverse_combinations_):
            holds[s, c, labels[present]] = 1 / len(members)
    inputs = layers.Input((d,), name="features")
    logits = _affine(inputs, coefficients.reshape(-1, d), intercepts.reshape(-1), scaler)
    shares = layers.Softmax()(layers.Reshape((len(sets), width))(logits))
    total = _dense(layers.Flatten()(shares), holds.reshape(-1, k), name="holds", trainable=False)
    # Shares add up to one but for rounding.
    return _model(inputs, ops.minimum(total, 1.0))


def mlknn_network(unit: NDArray[np.float32], targets: NDArray[np.int8], table: NDArray[np.float32]) -> keras.Model:
    """ML-kNN by the angle between embeddings: similar photos are looked up, their labels counted.

    Args:
        unit: embeddings of the stored photos, of length 1, float32 (n, d).
        targets: their labels, int8 (n, k), 0 or 1.
        table: probability of each label by the number of neighbours that have it, float32 (k, neighbours + 1).
    """
    (n, d), (k, bins) = unit.shape, table.shape
    inputs = layers.Input((d,), name="features")
    similarity = _dense(layers.UnitNormalization()(inputs), unit.T, name="photos", trainable=False)
    _, nearest = ops.top_k(similarity, bins - 1)
    labels = layers.Embedding(n, k, trainable=False, name="labels")
    seen = ops.sum(labels(nearest), axis=1)
    labels.set_weights([targets.astype(np.float32)])
    posterior = layers.Embedding(k * bins, 1, name="posterior")
    probabilities = posterior(layers.Rescaling(1.0, offset=[float(j * bins) for j in range(k)])(seen))
    posterior.set_weights([table.reshape(-1, 1)])
    return _model(inputs, layers.Reshape((k,))(probabilities))


def with_constants(network: keras.Model, varying: NDArray[np.bool_], shares: NDArray[np.float64]) -> keras.Model:
    """The network of the varying labels with the others' constant probabilities put in between.

    Args:
        network: of the labels that vary.
        varying: which of all labels those are, bool (k,).
        shares: the probability of each label that does not vary, float (k,).
    """
    if varying.all():
        return network
    places = np.eye(len(varying))[varying]
    constant = np.where(varying, 0, shares)
    return _model(network.input, _dense(network.output, places, constant, name="constants", trainable=False))


def _model(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
    return keras.Model(inputs, outputs, name="head")


def _affine(
    inputs: keras.KerasTensor, coefficients: NDArray, intercepts: NDArray, scaler: StandardScaler
) -> keras.KerasTensor:
    """What coefficients (m, d) and intercepts (m,) of standardised inputs are for the inputs themselves."""
    kernel = coefficients / scaler.scale_
    return _dense(inputs, kernel.T, intercepts - kernel @ scaler.mean_, name="regressions")


def _dense(
    inputs: keras.KerasTensor, kernel: NDArray, bias: NDArray | None = None, *, name: str, trainable: bool = True
) -> keras.KerasTensor:
    layer = layers.Dense(kernel.shape[1], use_bias=bias is not None, trainable=trainable, name=name)
    outputs = layer(inputs)
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return outputs
