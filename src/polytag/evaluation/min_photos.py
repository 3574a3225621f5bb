"""Minimum number of test photos that a label needs for reliable scores."""

from polytag.errors import SettingsError

MIN_PHOTOS = 5
"""If a label has fewer test photos than this, its scores are reported separately. benchmarks/coverage.py measures the
coverage of the intervals with this value."""


def check_min_photos(min_photos: int) -> None:
    """Check that the minimum is at least 1, because a label without photos has no scores.

    Raises:
        SettingsError: the minimum is below 1.
    """
    if min_photos < 1:
        raise SettingsError(f"min_photos must be at least 1, not {min_photos}")
