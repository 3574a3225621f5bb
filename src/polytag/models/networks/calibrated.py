"""Add a calibration to a network, so that every runtime and every export returns calibrated probabilities."""

import numpy as np

from polytag.evaluation.calibration import LEAST_PROBABILITY, Calibration
from polytag.models.backend import keras

layers, ops = keras.layers, keras.ops


def calibrated(network: keras.Model, calibration: Calibration) -> keras.Model:
    """Return the network with calibrated probabilities.

    The given network does not change. The result shares all its layers except the last one. If the last layer is dense
    with a sigmoid, linear curves are folded into a copy of its weights at no cost. Otherwise, standard Keras layers
    apply the curves to the logits, and a sigmoid layer named "probabilities" follows.

    Args:
        network: network with one input and one output, probabilities (batch, k).
        calibration: calibration for k labels.
    """
    if calibration.kind == "none":
        return network
    network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    end = network.operations[-1]
    if isinstance(end, keras.Model):
        return _with_end(network, calibrated(end, calibration))
    if not (isinstance(end, layers.Dense) and end.activation is keras.activations.sigmoid):
        if isinstance(end, layers.Layer):
            network = _with_end(network, _copy(end, name="uncalibrated"))
        p = ops.clip(ops.cast(network.output, "float32"), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return _ending_in(network, _curve(ops.log(p) - ops.log(1 - p), calibration))
    if calibration.knots.shape[1]:
        dense = _copy(end, name="logits", activation="linear")
        network = _with_end(network, dense)
        return _ending_in(network, _curve(network.output, calibration))
    dense = _copy(end, use_bias=True)
    kernel, *bias = end.get_weights()
    old_bias = bias[0] if bias else np.zeros(kernel.shape[1])
    dense.set_weights([kernel * calibration.slope, old_bias * calibration.slope + calibration.bias])
    return _with_end(network, dense)


def _copy(layer: keras.layers.Layer, **changes: object) -> keras.layers.Layer:
    """Copy a layer with its weights. If the changes add weights, all weights keep their initial values."""
    copy = type(layer).from_config(layer.get_config() | changes)
    copy.build(keras.tree.map_structure(lambda x: x.shape, layer.input))
    if len(copy.weights) == len(layer.weights):
        copy.set_weights(layer.get_weights())
    return copy


def _with_end(network: keras.Model, new: keras.layers.Layer) -> keras.Model:
    """Replace the last layer of a network. All other layers are shared."""
    end = network.operations[-1]
    return keras.models.clone_model(network, clone_function=lambda layer: new if layer is end else layer)


def _curve(logits: keras.KerasTensor, calibration: Calibration) -> keras.KerasTensor:
    """Apply `Calibration.curve` with Keras layers."""

    def linear(x: keras.KerasTensor, slope: np.ndarray, bias: np.ndarray) -> keras.KerasTensor:
        return layers.Rescaling(slope.tolist(), bias.tolist(), dtype="float32")(x)

    curve = linear(logits, calibration.slope, calibration.bias)
    for knots, bends in zip(calibration.knots.T, calibration.bends.T, strict=True):
        beyond = layers.ReLU(dtype="float32")(linear(logits, np.ones_like(knots), -knots))
        curve = layers.Add(dtype="float32")([curve, linear(beyond, bends, np.zeros_like(bends))])
    return curve


def _ending_in(network: keras.Model, logits: keras.KerasTensor) -> keras.Model:
    outputs = layers.Activation("sigmoid", dtype="float32", name="probabilities")(logits)
    return keras.Model(network.input, outputs, name=network.name)
