"""Detect signs that a table was misread, so that its labels are not really labels.

If the separator is guessed wrong, combinations of labels or pieces of lists become labels. Training on such labels
succeeds, but the result is meaningless. Reading therefore stops with an error, and an audit reports such labels.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from polytag.data.dataset import Dataset
from polytag.data.reading.tables.separators.punctuation import recombined

MIN_ROWS = 8
"""Minimum number of non-blank rows, and of labels, for checks that compare the number of labels with the data."""

MIN_JOINED = 3
"""Minimum number of labels such as ``dog_cat`` before they are checked for being combinations of other labels."""

MIN_LABELS_PER_ROW = 0.5
"""Labels look misread if there are at least this many per non-blank row and nearly all of them are used only once."""

USED_ONCE = 0.8

PERMUTED = 0.5
"""Labels look like combinations if at least this fraction of them has several words, and if these labels have at most
this many distinct words per label."""

FUNCTION_WORDS = {"a", "an", "the", "is", "are", "of", "with", "in", "on", "and", "der", "die", "und", "le", "la", "et"}

CONJUNCTIONS = {"and", "the", "of", "with", "und", "mit", "der", "et", "avec", "los", "och", "oder", "or"}
"""Words that are never labels. If a split at blanks gives such labels, the column contains sentences."""


def doubt(
    labels: Sequence[str], counts: Sequence[int], n_rows: int, by_blanks: bool = False, is_list: bool = False
) -> str | None:
    """Explain why these labels look misread, or return ``None`` if they do not.

    Args:
        labels: the names of the labels.
        counts: the number of rows with each label.
        n_rows: the number of rows with any label.
        by_blanks: whether the labels were separated by blanks.
        is_list: whether the labels come from lists, in which the end of each label is unambiguous.

        Returns:
            The explanation as a clause without a subject, such as "look like sentences".
    """
    pieces = [label for label in labels if _is_piece(label)]
    if 2 * len(pieces) > len(labels):
        return f"look like pieces of a list or JSON, such as {_examples(pieces)}"
    if is_list:
        return None
    function_words = FUNCTION_WORDS | CONJUNCTIONS
    words_alone = [
        label
        for label in labels
        if by_blanks and not CONJUNCTIONS.isdisjoint(label.split()) and function_words.issuperset(label.split())
    ]
    if words_alone:
        return f"look like the words of sentences, such as {_examples(words_alone)}"
    ordered = [[word for word in re.split(r"[\W_]+", label.casefold()) if word] for label in labels]
    words = {label: frozenset(parts) for label, parts in zip(labels, ordered, strict=True)}
    joined = [label for label in labels if len(words[label]) > 1 and " " not in label]
    if len(joined) >= MIN_JOINED and recombined(ordered):
        return f"look like combinations of other labels, such as {_examples(joined)}"
    if len(labels) < MIN_ROWS:
        return None
    several = [label for label in labels if len(words[label]) > 1]
    vocabulary = {word for label in several for word in words[label]}
    if FUNCTION_WORDS & vocabulary and n_rows >= MIN_ROWS:
        used = Counter(word for label in labels for word in words[label])
        if sum(used[word] for word in FUNCTION_WORDS) >= MIN_LABELS_PER_ROW * len(labels) and len(labels) > n_rows / 3:
            return f"look like sentences, such as {_examples(several)}"
    twins = Counter(words[label] for label in several)
    permuted = [label for label in several if twins[words[label]] > 1]
    combined = len(several) >= PERMUTED * len(labels) and len(vocabulary) <= PERMUTED * len(several)
    if combined and (len(permuted) >= PERMUTED * len(several) or _recombine(list(words.values()))):
        return f"look like combinations of {len(vocabulary):,} words, such as {_examples(permuted or several)}"
    once = sum(count <= 1 for count in counts)
    if n_rows >= MIN_ROWS and len(labels) >= MIN_LABELS_PER_ROW * n_rows and once >= USED_ONCE * len(labels):
        return f"are nearly as many as the {n_rows:,} rows that have any, such as {_examples(labels)}"
    return None


def suspicious_labels(dataset: Dataset) -> str | None:
    """Explain in one sentence why the labels of a dataset look misread, or return ``None`` if they do not.

    For the same reasons, `polytag.read` raises an error unless the separator is given.
    """
    present = dataset.targets == 1
    why = doubt(dataset.labels, present.sum(axis=0).tolist(), int(np.count_nonzero(present.any(axis=1))))
    return None if why is None else f"the {len(dataset.labels):,} labels {why}"


def _is_piece(label: str) -> bool:
    """Return whether a label looks like a piece of a list, with unbalanced or enclosing brackets or quotes."""
    if re.fullmatch(r"""(['"]).*\1|\[.*\]|\{.*\}""", label):
        return True
    if any(label.count(opening) != label.count(closing) for opening, closing in ("[]", "{}")):
        return True
    return label[:1] in ("'", '"') and label.count(label[0]) == 1 and label[-1:] not in ("'", '"')


def _recombine(words: Sequence[frozenset[str]]) -> bool:
    """Return whether the words of labels recur so often in other labels that the words must be the actual labels."""
    used = Counter(word for label in words for word in label)
    return bool(used) and float(np.median(list(used.values()))) >= 3 and max(map(len, words)) > 2


def _examples(labels: Sequence[str]) -> str:
    return " and ".join(f"'{label[:60]}'" for label in labels[:2])
