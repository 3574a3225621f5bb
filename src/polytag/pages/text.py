"""Format numbers and lists as text for pages."""

from collections.abc import Sequence

from polytag.errors import counted


def joined(items: Sequence[str]) -> str:
    """Join items: "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def agreed(n: int, singular: str, plural: str, noun: str = "photo") -> str:
    """Count items and add a verb that agrees with the number: "1 photo shows", "12 photos show"."""
    return f"{counted(n, noun)} {singular if n == 1 else plural}"


def percent(part: float, whole: float) -> str:
    """Format a fraction as "55%". Small fractions get a decimal, and 0% and 100% are always exact."""
    share = 100 * part / (whole or 1)
    if part in (0, whole):
        return f"{share:.0f}%"
    if share < 0.1:
        return "<0.1%"
    return f"{min(share, 99.9):.1f}%" if share < 9.95 or share >= 99.5 else f"{share:.0f}%"


def ratio(value: float) -> str:
    """Format a ratio as "1.4", "3" or "32"."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
