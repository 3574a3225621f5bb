"""Convert models fitted by scikit-learn and scikit-multilearn to Keras networks.

Each network takes embeddings, float32 (batch, d), and returns the library's probabilities, float32 (batch, k). The
standardisation of the embeddings is folded into the first layer. Layers without fitted numbers are not trainable.
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
"""Disjoint sets of labels, int64 (size,), each with its fitted powerset."""

NEVER = -1e9
"""Logit that softmax converts to exactly 0."""


def relevance_network(members: Sequence[list[LogisticRegression]], scaler: StandardScaler) -> keras.Model:
    """Build a network for binary relevance, with one sigmoid per label.

    Args:
        members: one list of k regressions.
        scaler: scaler of the d inputs of the regressions.
    """
    (regressions,) = members
    inputs = layers.Input((len(scaler.mean_),), name="features")
    coefficients = np.concatenate([r.coef_ for r in regressions])
    intercepts = np.concatenate([r.intercept_ for r in regressions])
    return _model(inputs, ops.sigmoid(_affine(inputs, coefficients, intercepts, scaler)))


def chains_network(members: Sequence[ClassifierChain], scaler: StandardScaler) -> keras.Model:
    """Build a network that averages classifier chains, which pass on probabilities.

    All chains are computed together, in rounds. A label's probability is correct as soon as the probabilities of all
    preceding labels are correct, so k rounds are enough.

    Args:
        members: chains of regressions over the same k labels.
        scaler: scaler of the first d inputs. The other inputs are the preceding labels of the chain.
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
    """Build a network for label powerset or RAkEL.

    A softmax computes the probabilities of a set's combinations. The probability of a label is the sum over the
    combinations that contain the label.

    Args:
        members: partitions of the k labels into sets. Their probabilities are averaged.
        scaler: scaler of the d inputs of the powersets.
    """
    sets = [labelset for member in members for labelset in member]
    k, d = sum(len(labels) for labels, _ in members[0]), len(scaler.mean_)
    width = max(len(powerset.reverse_combinations_) for _, powerset in sets)
    coefficients, intercepts = np.zeros((len(sets), width, d)), np.full((len(sets), width), NEVER)
    holds = np.zeros((len(sets), width, k))
    for s, (labels, powerset) in enumerate(sets):
        regression, n = powerset.classifier, len(powerset.reverse_combinations_)
        # For two classes, a regression stores only the second class. The logit of the first class is 0.
        start = 1 if n == 2 else 0
        intercepts[s, 0] = 0
        coefficients[s, start:n], intercepts[s, start:n] = regression.coef_, regression.intercept_
        for c, present in enumerate(powerset.reverse_combinations_):
            holds[s, c, labels[present]] = 1 / len(members)
    inputs = layers.Input((d,), name="features")
    logits = _affine(inputs, coefficients.reshape(-1, d), intercepts.reshape(-1), scaler)
    shares = layers.Softmax()(layers.Reshape((len(sets), width))(logits))
    total = _dense(layers.Flatten()(shares), holds.reshape(-1, k), name="holds", trainable=False)
    # Rounding errors may raise the sum of probabilities above 1.
    return _model(inputs, ops.minimum(total, 1.0))


def mlknn_network(unit: NDArray[np.float32], targets: NDArray[np.int8], table: NDArray[np.float32]) -> keras.Model:
    """Build a network for ML-kNN with cosine similarity, which counts the labels of the most similar photos.

    Args:
        unit: embeddings of the stored photos, normalised to length 1, float32 (n, d).
        targets: labels of the stored photos, int8 (n, k), 0 or 1.
        table: probability of each label by the number of neighbours with the label, float32 (k, neighbours + 1).
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
    """Add the constant probabilities of labels that were not trained to the output of a network.

    Args:
        network: network for the trained labels.
        varying: whether each of the k labels was trained, bool (k,).
        shares: probability of each label, float (k,). Only the values of labels that were not trained are used.
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
    """Apply a dense layer with coefficients (m, d) and intercepts (m,) that were fitted to standardised inputs."""
    kernel = coefficients / scaler.scale_
    return _dense(inputs, kernel.T, intercepts - kernel @ scaler.mean_, name="regressions")


def _dense(
    inputs: keras.KerasTensor, kernel: NDArray, bias: NDArray | None = None, *, name: str, trainable: bool = True
) -> keras.KerasTensor:
    layer = layers.Dense(kernel.shape[1], use_bias=bias is not None, trainable=trainable, name=name)
    outputs = layer(inputs)
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return outputs
