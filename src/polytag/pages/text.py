"""Numbers and lists in words, for pages."""

from collections.abc import Sequence


def joined(items: Sequence[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
