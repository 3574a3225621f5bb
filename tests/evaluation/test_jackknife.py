"""Leaving out a block gives the scores of the other photos."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.evaluation import jackknife
from polytag.evaluation.jackknife import BLOCKS, blocks_of, left_out
from polytag.evaluation.metrics import label_scores, scores


@pytest.fixture(autouse=True, scope="module")
def steps() -> Iterator[None]:
    before = jackknife.POSITIVES
    yield
    jackknife.POSITIVES = before


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=30)
def test_left_out_scores_are_those_of_the_rest(seed: int, grouped: bool, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    jackknife.POSITIVES = int(rng.integers(1, 12))  # in several steps
    targets = rng.integers(-1, 2, (24, 4)).astype(np.int8)
    p = rng.random((24, 4)).astype(np.float32)
    if ties:
        p = np.round(p, 1)
    thresholds = np.array([0.3, 0.4, 0.5, 0.6], np.float32)
    blocks = blocks_of(rng.integers(6, size=24) if grouped else np.arange(24))
    judged = np.array([True, True, False, True])
    without, labels_without = left_out(targets, p, thresholds, blocks, judged)
    for block in range(blocks.max() + 1):
        rest = blocks != block
        for name, value in scores(targets[rest], p[rest], thresholds, judged).items():
            assert without[name][block] == pytest.approx(value, nan_ok=True), name
        for name, values in label_scores(targets[rest], p[rest], thresholds).items():
            assert labels_without[name][block] == pytest.approx(values, nan_ok=True), name


def test_a_group_is_left_out_as_a_whole() -> None:
    np.testing.assert_array_equal(blocks_of(np.array([7, 7, 3, 9, 9, 9])), [1, 1, 0, 2, 2, 2])


def test_many_groups_share_blocks_of_equal_size() -> None:
    groups = np.repeat(np.arange(10 * BLOCKS), 2)
    blocks = blocks_of(groups)
    assert (np.bincount(blocks) == 20).all() and len(np.bincount(blocks)) == BLOCKS
    assert (blocks[::2] == blocks[1::2]).all()
    np.testing.assert_array_equal(blocks, blocks_of(groups))
