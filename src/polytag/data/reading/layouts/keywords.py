"""Read the keywords of photos, from sidecar files or from the photos themselves, as annotations."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from polytag.data.reading.annotations.records import Annotations, Record
from polytag.errors import DataError, counted
from polytag.photos.kinds import SIDECAR, is_photo, left_out
from polytag.photos.xmp import embedded_keywords, sidecar, xmp_keywords

DATE = re.compile(
    r"(19|20)\d\d([-_. ]?\d\d){0,2}([-_. ].*)?|[01]?\d([-_. ].*)?|(dcim|camera|camera uploads|\d{3}[a-z_]{5})", re.I
)
"""Names of folders for photo albums sorted by date (years, days, months), and of folders that cameras create."""

SAMPLE = 40
"""Number of photos that are checked for keywords to decide whether a folder is an album."""


def has_sidecars(folder: Path) -> bool:
    """Return whether any photo in a folder or its subfolders has a sidecar."""
    return any(_sidecars(folder))


def has_keywords(folder: Path) -> bool:
    """Return whether most photos in a sample contain keywords."""
    photos = [folder / name for name in _photos(folder)]
    sample = photos[:: max(1, len(photos) // SAMPLE)]
    return bool(sample) and 2 * sum(bool(embedded_keywords(photo)) for photo in sample) >= len(sample)


def sorted_by_date(names: Iterable[str]) -> bool:
    """Return whether folders are named after dates rather than labels."""
    return all(map(DATE.fullmatch, names))


def read_keywords(folder: Path, _: object = None) -> Annotations:
    """Read the keywords of all photos in a folder and its subfolders.

    A sidecar takes precedence over keywords inside the photo. A photo with neither was not annotated. A photo whose
    sidecar has no keywords has no labels.

    Raises:
        DataError: no photo has keywords, or a sidecar is damaged.
    """
    records = []
    n_sidecars = n_inside = 0
    skipped: Counter[str] = Counter()
    for number, name in enumerate(_photos(folder, skipped), 1):
        beside = sidecar(folder / name)
        if beside is not None:
            n_sidecars += 1
            try:
                keywords: list[str] | None = xmp_keywords(beside.read_bytes())
            except OSError as error:
                raise DataError(f"{beside} cannot be read ({error.strerror}): make it readable") from None
            except ValueError as error:
                raise DataError(f"{beside} is not valid XMP ({error}): write it again or remove it") from None
        else:
            keywords = embedded_keywords(folder / name)
            n_inside += keywords is not None
        records.append(Record(name, keywords or (), annotated=keywords is not None, number=number))
    if not any(one.present for one in records):
        raise DataError(f"none of {counted(len(records), 'photo')} in {folder} has keywords, inside or in a sidecar")
    where = [(n_sidecars, "in sidecars"), (n_inside, "inside photos")]
    said = " and ".join(f"{n:,} {place}" for n, place in where if n)
    del skipped[SIDECAR]
    notes = [left_out(skipped)] if skipped else []
    return Annotations(f"keywords of {counted(len(records), 'photo')} ({said})", records, notes=notes, homes=(folder,))


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__", "@")))
        yield place, files


def _photos(folder: Path, skipped: Counter[str] | None = None) -> list[str]:
    """Return all photos in a folder and its subfolders, as relative paths sorted by name. Count other files by kind."""
    found = []
    for place, files in _walk(folder):
        below = os.path.relpath(place, folder).replace(os.sep, "/")
        names = sorted(name for name in files if name[0] != "." and is_photo(os.path.join(place, name), skipped))
        found += [name if below == "." else f"{below}/{name}" for name in names]
    return found


def _sidecars(folder: Path) -> Iterator[str]:
    """Yield the sidecars of photos in a folder and its subfolders."""
    for _, files in _walk(folder):
        sidecars = [name for name in files if name.lower().endswith(".xmp")]
        if sidecars:
            photos = {name.lower() for name in files} - {name.lower() for name in sidecars}
            stems = {os.path.splitext(name)[0] for name in photos}
            yield from (name for name in sidecars if name[:-4].lower() in photos or name[:-4].lower() in stems)
