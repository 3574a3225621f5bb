"""How many photos a label needs to be judged."""

from polytag.errors import SettingsError

MIN_PHOTOS = 5
"""Test photos with a label below which its scores are reported apart. benchmarks/coverage.py measures with this value
how often the intervals cover the truth."""


def check_min_photos(min_photos: int) -> None:
    """Refuse a minimum that would judge labels without photos.

    Raises:
        SettingsError: it is below 1.
    """
    if min_photos < 1:
        raise SettingsError(f"min_photos must be at least 1, not {min_photos}")
