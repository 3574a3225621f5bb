"""Progress bars and durations."""

import sys

from tqdm import tqdm

hidden = False
"""Whether all progress bars of this process are hidden. The command line sets this variable for --quiet."""


def progress_bar(total: int | None, description: str, unit: str, show: bool = True) -> tqdm:
    """Return a progress bar on stderr.

    If stderr is not a terminal, such as a log file, the bar is updated only every 20 seconds.

    Args:
        total: expected number of units; ``None`` shows a counter instead of a bar.
        description: text in front of the bar.
        unit: noun for a single unit, such as "photo".
        show: whether to show the bar.
    """
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=hidden or not show,
        file=sys.stderr,
        mininterval=0.2 if sys.stderr.isatty() else 20,
        dynamic_ncols=True,
        leave=True,
        # Work that takes less than half a second needs no bar.
        delay=0.5,
    )


def duration(seconds: float) -> str:
    """Format a duration, for example as "48 s", "7 min 05 s" or "1 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
