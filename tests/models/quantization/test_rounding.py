"""Rounding to 8 bits: on the grid, with less error than rounding to the nearest, and never worse ranges."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.models.backend import keras
from polytag.models.quantization import litert as int8_litert
from polytag.models.quantization import onnx as int8_onnx
from polytag.models.quantization.rounding import Convolution, best_range, round_weights
from polytag.models.runtimes.litert import LitertModel
from polytag.models.runtimes.onnx import export_onnx
from polytag.models.runtimes.openvino import OpenvinoModel
from polytag.models.runtimes.quiet import quiet_stderr

layers = keras.layers


def example(groups: int, filters: int, inputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and correlated positive examples of inputs as a ReLU gives them: (groups, examples, inputs)."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(groups, inputs, inputs))
    examples = np.maximum(0, rng.normal(1, 1, (groups, 400, inputs)) @ mixing)
    return rng.normal(size=(groups, filters, inputs)), examples


def nearest(weights: np.ndarray) -> np.ndarray:
    step = np.abs(weights).max(-1, keepdims=True) / 127
    return np.rint(weights / step) * step


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 24), st.integers(0, 1000))
def test_weights_lie_on_the_steps_that_the_converter_will_take(
    groups: int, filters: int, inputs: int, seed: int
) -> None:
    weights, examples = example(groups, filters, inputs, seed)
    got = round_weights(weights, examples.transpose(0, 2, 1) @ examples, 127)
    assert got.shape == weights.shape
    np.testing.assert_allclose(np.abs(got).max(-1), np.abs(weights).max(-1))
    steps = got / (np.abs(got).max(-1, keepdims=True) / 127)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    # Whatever the photos show, no weight ends up far from where it was.
    assert np.abs(got - weights).max() < np.abs(weights).max()


@pytest.mark.parametrize(("groups", "filters", "inputs"), [(1, 40, 60), (40, 1, 9)])
def test_errors_make_up_for_each_other(groups: int, filters: int, inputs: int) -> None:
    weights, examples = example(groups, filters, inputs, 0)
    products = examples.transpose(0, 2, 1) @ examples
    exact, ours, plain = (
        w @ examples.transpose(0, 2, 1) for w in (weights, round_weights(weights, products, 127), nearest(weights))
    )
    assert np.mean((ours - exact) ** 2) < 0.4 * np.mean((plain - exact) ** 2)


def test_inputs_that_were_never_seen_and_filters_of_zeros() -> None:
    weights = np.stack([np.zeros((2, 5)), np.random.default_rng(0).normal(size=(2, 5))])
    got = round_weights(weights, np.zeros((2, 5, 5)), 127)
    assert not got[0].any()
    np.testing.assert_allclose(got[1], nearest(weights[1]))


def test_without_correlations_each_weight_goes_to_the_nearest_step() -> None:
    weights = np.random.default_rng(0).normal(size=(1, 6, 20))
    np.testing.assert_allclose(round_weights(weights, 3 * np.eye(20)[None], 127), nearest(weights))


def error(values: np.ndarray, low: float, high: float) -> float:
    """Mean squared error of 256 equal steps from low to high."""
    if low == high:
        return float(np.mean((values - low) ** 2))
    step = (high - low) / 255
    return float(np.mean((np.clip(np.rint((values - low) / step), 0, 255) * step + low - values) ** 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60))
def test_a_range_holds_zero_and_is_no_worse_than_the_widest(values: list[float]) -> None:
    array = np.array(values)
    low, high = best_range(array)
    widest = min(0, array.min()), max(0, array.max())
    assert widest[0] <= low <= 0 <= high <= widest[1]
    assert error(array, low, high) <= error(array, *widest) * (1 + 1e-9)


def test_rare_values_are_cut_off() -> None:
    values = np.append(np.random.default_rng(0).uniform(0, 1, 100_000), 3.0)
    low, high = best_range(values)
    assert low == 0 and high < 2.9
    # Of all that could be, the least error but for the width of a try.
    least = min(error(values, 0, share * 3) for share in np.linspace(0.2, 1, 300))
    assert error(values, low, high) < 1.02 * least < error(values, 0, 3)


@pytest.mark.parametrize("kind", ["padded", "stride 2", "depthwise", "dilated", "groups", "depth multiplier"])
def test_every_kind_of_convolution(kind: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    photo = layers.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128, -1.0)(photo)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = {
        "padded": layers.Conv2D(6, 3, padding="same"),
        "stride 2": layers.Conv2D(6, 3, strides=2, padding="same"),
        "depthwise": layers.DepthwiseConv2D(5, strides=2, padding="same"),
        "dilated": layers.Conv2D(6, 3, dilation_rate=2),
        "groups": layers.Conv2D(6, 3, groups=2),
        "depth multiplier": layers.DepthwiseConv2D(3, depth_multiplier=2),
    }[kind](x)
    outputs = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    model = keras.Model(photo, outputs)
    photos = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    with quiet_stderr():
        int8_litert.write_int8(model, photos, tmp_path / "m.tflite")
    twins: list[LitertModel | OpenvinoModel] = [LitertModel(tmp_path / "m.tflite")]
    if kind != "groups":  # which Keras cannot write for ONNX
        assert export_onnx(model, tmp_path / "m.onnx")
        int8_onnx.write_int8(tmp_path / "m.onnx", photos, tmp_path / "m-int8.onnx")
        twins.append(OpenvinoModel(tmp_path / "m-int8.onnx"))
    expected = np.asarray(model(photos))
    for twin in twins:
        assert 0 < np.abs(twin(photos) - expected).max() < 0.01


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [None, ((0, 0), (0, 0)), ((1, 0), (2, 1))])
@pytest.mark.parametrize("depthwise", [True, False])
def test_a_convolution_sees_what_its_filters_see(
    stride: int, padding: tuple[tuple[int, int], tuple[int, int]] | None, depthwise: bool
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 1 if depthwise else 4, 3, 3)).astype(np.float32)
    convolution = Convolution(weights, (stride, stride), padding, depthwise)
    photo = rng.normal(size=(4, 11, 9)).astype(np.float32)
    convolution.see(photo, rng)  # fewer places than are looked at, so all of them
    layer = (layers.DepthwiseConv2D if depthwise else layers.Conv2D)(
        *(() if depthwise else (4,)), 3, strides=stride, padding="same" if padding is None else "valid", use_bias=False
    )
    padded = np.pad(photo, [(0, 0), *(padding or ((0, 0), (0, 0)))]).transpose(1, 2, 0)[None]
    layer.build(padded.shape)
    layer.set_weights([weights.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))])
    energy = np.square(np.asarray(layer(padded))).sum((0, 1, 2))
    grouped = weights.reshape((4, 1, -1) if depthwise else (1, 4, -1))
    products = np.broadcast_to(np.asarray(convolution._products), (len(grouped), *np.shape(convolution._products)[1:]))
    np.testing.assert_allclose(np.einsum("gfi,gij,gfj->gf", grouped, products, grouped).ravel(), energy, rtol=1e-4)
