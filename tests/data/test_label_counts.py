"""Co-occurrence and label sets agree with counting one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polytag.data import label_counts
from polytag.data.label_counts import cooccurrence, label_sets

TARGETS = arrays(np.int8, st.tuples(st.integers(0, 9), st.integers(0, 70)), elements=st.integers(-1, 1))


@given(TARGETS)
def test_pairs_are_counted_exactly(targets: np.ndarray) -> None:
    both, known = cooccurrence(targets)
    present = targets == 1
    assert both.tolist() == [[int((a & b).sum()) for b in present.T] for a in present.T]
    assert known.tolist() == [[int((a & (b >= 0)).sum()) for b in targets.T] for a in present.T]


def test_chunks_add_up(monkeypatch) -> None:
    targets = np.random.default_rng(0).integers(-1, 2, (1000, 7)).astype(np.int8)
    whole = cooccurrence(targets)
    monkeypatch.setattr(label_counts, "CHUNK", 64)
    for counts, expected in zip(cooccurrence(targets), whole, strict=True):
        np.testing.assert_array_equal(counts, expected)


@given(TARGETS)
def test_photos_with_the_same_labels_share_a_set(targets: np.ndarray) -> None:
    present = targets == 1
    which, example = label_sets(present)
    rows = [tuple(row) for row in present.tolist()]
    assert len(example) == len(set(rows))
    assert all(rows[example[number]] == row for number, row in zip(which.tolist(), rows, strict=True))
    # At the first difference, the set with the earlier label comes first.
    sets = [rows[i] for i in example.tolist()]
    assert sets == sorted(sets, reverse=True)
