"""Neighbours of vectors: all of them among few vectors, nearly all among many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polytag.photos.copies import index
from polytag.photos.copies.index import Index

MOST = 3


def unit(vectors: NDArray) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors: NDArray[np.float32], queries: NDArray[np.float32], start: int, least: float) -> set[tuple]:
    """The nearest vectors of each query, as pairs."""
    pairs = set()
    for row, products in enumerate(queries @ vectors.T, start):
        products[row] = -2
        pairs |= {(row, int(i)) for i in np.argsort(-products)[:MOST] if products[i] >= least}
    return pairs


@given(st.integers(0, 40), st.integers(0, 2**32 - 1), st.floats(-1, 1))
@settings(max_examples=25)
def test_few_vectors_are_all_compared(n: int, seed: int, least: float) -> None:
    vectors = unit(np.random.default_rng(seed).standard_normal((n, 4)))
    start = n // 3
    query, vector, product = Index(vectors).neighbours(vectors[start:], start, least, MOST)
    assert set(zip(query.tolist(), vector.tolist(), strict=True)) == by_hand(vectors, vectors[start:], start, least)
    np.testing.assert_allclose(product, (vectors[query] * vectors[vector]).sum(axis=1), atol=1e-5)
    assert len(query) == len(by_hand(vectors, vectors[start:], start, least))


def test_lists_of_many_vectors_hold_nearly_all_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.standard_normal((2000, 32))
    # A picture and its copies, and a burst of one picture.
    vectors = unit(np.concatenate([pictures, pictures, pictures[:1].repeat(500, 0)]) + rng.normal(0, 0.3, (4500, 32)))
    expected = by_hand(vectors, vectors, 0, 0.8)
    monkeypatch.setattr(index, "EXACT", 100)
    searched = Index(vectors)
    query, vector, _ = searched.neighbours(vectors, 0, 0.8, MOST)
    found = set(zip(query.tolist(), vector.tolist(), strict=True))
    assert len(found & expected) > 0.99 * len(expected) and len(found) == len(query)
    assert np.bincount(query).max() == MOST
    again = Index(vectors).neighbours(vectors, 0, 0.8, MOST)
    assert np.array_equal(again[0], query) and np.array_equal(again[1], vector)
