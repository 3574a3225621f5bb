"""Signs that a table was misread: its labels are not labels.

A wrong guess about a separator turns combinations into labels, or pieces of lists. Training on them succeeds and means
nothing. So such labels stop a run, and an audit reports them.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from polytag.data.dataset import Dataset
from polytag.data.reading.tables.separators.punctuation import recombined

FEWEST_ROWS = 8
"""Below this number of filled rows nothing can be said about how many labels there should be."""

FEWEST_JOINED = 3
"""Minimum number of labels with punctuation inside, such as ``dog_cat``, that may be combinations of other labels."""

SHARE_OF_ROWS = 0.5
"""Labels per filled row from which on most labels may be no labels, if nearly all are used only once."""

USED_ONCE = 0.8

PERMUTED = 0.5
"""Share of labels of several words, and words per label, from which on labels look like combinations."""

FUNCTION_WORDS = {"a", "an", "the", "is", "are", "of", "with", "in", "on", "and", "der", "die", "und", "le", "la", "et"}

CONJUNCTIONS = {"and", "the", "of", "with", "und", "mit", "der", "et", "avec", "los", "och", "oder", "or"}
"""Words that no label consists of: a column split into them holds sentences."""


def doubt(
    labels: Sequence[str], counts: Sequence[int], n_rows: int, by_blanks: bool = False, is_list: bool = False
) -> str | None:
    """Why these labels look misread, in a clause without a subject, or ``None`` if they look like labels.

    Args:
        labels: the names.
        counts: the number of rows that have each label.
        n_rows: the number of rows that have any label.
        by_blanks: whether blanks separated them.
        is_list: whether they stood in lists, which leave no doubt about where a label ends.
    """
    pieces = [label for label in labels if _is_piece(label)]
    if 2 * len(pieces) > len(labels):
        return f"look like pieces of a list or JSON, such as {_examples(pieces)}"
    if is_list:
        return None
    words_alone = [label for label in labels if label in CONJUNCTIONS and by_blanks]
    if words_alone:
        return f"look like the words of sentences, such as {_examples(words_alone)}"
    ordered = [[word for word in re.split(r"[\W_]+", label.casefold()) if word] for label in labels]
    words = {label: frozenset(parts) for label, parts in zip(labels, ordered, strict=True)}
    joined = [label for label in labels if len(words[label]) > 1 and " " not in label]
    if len(joined) >= FEWEST_JOINED and recombined(ordered):
        return f"look like combinations of other labels, such as {_examples(joined)}"
    if len(labels) < FEWEST_ROWS:
        return None
    several = [label for label in labels if len(words[label]) > 1]
    vocabulary = {word for label in several for word in words[label]}
    if FUNCTION_WORDS & vocabulary and n_rows >= FEWEST_ROWS:
        used = Counter(word for label in labels for word in words[label])
        if sum(used[word] for word in FUNCTION_WORDS) >= SHARE_OF_ROWS * len(labels) and len(labels) > n_rows / 3:
            return f"look like sentences, such as {_examples(several)}"
    twins = Counter(words[label] for label in several)
    permuted = [label for label in several if twins[words[label]] > 1]
    combined = len(several) >= PERMUTED * len(labels) and len(vocabulary) <= PERMUTED * len(several)
    if combined and (len(permuted) >= PERMUTED * len(several) or _recombine(list(words.values()))):
        return f"look like combinations of {len(vocabulary):,} words, such as {_examples(permuted or several)}"
    once = sum(count <= 1 for count in counts)
    if n_rows >= FEWEST_ROWS and len(labels) >= SHARE_OF_ROWS * n_rows and once >= USED_ONCE * len(labels):
        return f"are nearly as many as the {n_rows:,} rows that have any, such as {_examples(labels)}"
    return None


def suspicious_labels(dataset: Dataset) -> str | None:
    """Why the labels of a dataset look misread, in one sentence, or ``None``.

    The same signs stop `polytag.read` unless the separator is given.
    """
    present = dataset.targets == 1
    why = doubt(dataset.labels, present.sum(axis=0).tolist(), int(np.count_nonzero(present.any(axis=1))))
    return None if why is None else f"the {len(dataset.labels):,} labels {why}"


def _is_piece(label: str) -> bool:
    """Whether a label looks torn out of a list: brackets or quotes that do not close, or that enclose it."""
    if re.fullmatch(r"""(['"]).*\1|\[.*\]|\{.*\}""", label):
        return True
    if any(label.count(opening) != label.count(closing) for opening, closing in ("[]", "{}")):
        return True
    return label[:1] in ("'", '"') and label.count(label[0]) == 1 and label[-1:] not in ("'", '"')


def _recombine(words: Sequence[frozenset[str]]) -> bool:
    """Whether labels share their words with so many others that the words must be the labels."""
    used = Counter(word for label in words for word in label)
    return bool(used) and float(np.median(list(used.values()))) >= 3 and max(map(len, words)) > 2


def _examples(labels: Sequence[str]) -> str:
    return " and ".join(f"'{label[:60]}'" for label in labels[:2])
